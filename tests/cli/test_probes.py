"""`vr probes`, and --probe of the commands that train: what is measured is stored, shown, drawn, and taken up again."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vrcli
from vrcli.db.store import Store
from vrcli.engine.events import Eval

PLUGINS = Path(__file__).parents[1] / "plugins"
SHORT = ("--threads", "1", "--epochs", "4")
PROBED = ("--probe", "sharpness", "--probe-every", "2", "--probe-sharpness-top", "2")


def curves(database: str | Path = "vr.db") -> dict[tuple[int, str], Any]:
    with Store.open(database, mode="read") as store:
        ids = [run.id for run in store.runs.select()]
        return store.curves.read(ids, store.curves.metrics(ids))


@pytest.fixture
def run(valley: None, vr: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """`vr run` of a small task."""
    return lambda *words: vr("run", "valley:Valley", *SHORT, *words)


def test_what_a_probe_measures_is_stored_as_sparse_curves_and_its_cost_is_told(run: Callable[..., Any]) -> None:
    plain, probed = run("--opt", "adam"), run("--opt", "adam", *PROBED)
    assert (plain.code, probed.code) == (0, 0)
    assert "probes took" in probed.out
    assert "gradient evaluations" in probed.out
    assert "probes took" not in plain.out
    found = curves()
    steps = len(found[1, "train_loss"].steps)
    assert list(found[2, "sharpness_1"].steps) == list(range(2, steps + 1, 2))
    assert {name for id, name in found if id == 2} >= {
        "sharpness_2",
        "sharpness_min",
        "sharpness_preconditioned_threshold",
    }
    assert found[1, "train_loss"].values == found[2, "train_loss"].values
    with Store.open("vr.db", mode="read") as store:
        one, two = store.runs.get(1), store.runs.get(2)
    assert one.spec_id == two.spec_id
    assert two.provenance["probes"] == {"sharpness": {"top": 2}}
    assert {"probe_s", "probe_gradients"} <= two.results.keys() - one.results.keys()
    assert one.results["gradient_evaluations"] == two.results["gradient_evaluations"]


def test_the_command_that_repeats_a_run_measures_and_keeps_what_it_did(run: Any, vr: Callable[..., Any]) -> None:
    assert run("--opt", "sgd", *PROBED, "--probe", "updates", "--keep-weights", "best").code == 0
    command = vr("runs", "show", "1").out.split("repeat it with\n")[1].split()
    assert vr(*command[1:]).code == 0
    with Store.open("vr.db", mode="read") as store:
        first, second = (store.runs.get(id).provenance for id in (1, 2))
    for name in ("probes", "probe_every", "keep_weights"):
        assert first[name] == second[name]
    assert list(curves()[1, "sharpness_1"].values) == list(curves()[2, "sharpness_1"].values)


def test_a_probe_that_is_named_twice_measures_once(run: Callable[..., Any]) -> None:
    found = run("--opt", "sgd", *PROBED, "--probe", "sharpness")
    assert found.code == 0, found.err


def test_a_run_that_ends_before_its_first_measurement_says_so(run: Callable[..., Any]) -> None:
    found = run("--opt", "sgd", "--probe", "sharpness", "--probe-every", "1000")
    assert "probes measured nothing: the run ended before --probe-every" in found.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--probe", "sharpnes"), "--probe sharpnes is not a probe; did you mean sharpness? (vr probes list)"),
        (("--probe", "nowhere:Probe"), "--probe nowhere:Probe cannot be imported: there is no nowhere.py in "),
        (("--probe", "valley:Valley"), "--probe valley:Valley is not a vrcli.engine.probes.base.Probe class"),
        (("--probe", "sharpness", "--probe-sharpness-bach", "3"), "did you mean --probe-sharpness-batch?"),
        (("--probe", "sharpness", "--probe-sharpness-top", "0"), "--probe-sharpness-top must be >= 1, got 0"),
        (("--probe", "sharpness", "--probe-sharpness-top", "x"), "--probe-sharpness-top must be a whole number"),
        (
            ("--probe", "sharpness", "--probe-sharpness-batch", "33"),
            "--probe-sharpness-batch must be <= 32, the training",
        ),
        (("--probe-every", "3"), "--probe-every needs a probe: --probe NAME (vr probes list)"),
        (("--probe-sharpness-batch", "3"), "--probe-sharpness-batch needs its probe: --probe NAME"),
        (
            ("--probe", "sharpness", "--probe-every", "0"),
            "--probe-every must be steps (50) or epochs (2e) above 0, got 0",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line_and_nothing_is_written(
    run: Callable[..., Any], tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    found = run(*words)
    assert found.code == 2
    assert said in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert not (tmp_path / "vr.db").exists()


def test_a_task_with_a_loop_of_its_own_is_refused(vr: Callable[..., Any], tmp_path: Path) -> None:
    command = f"{sys.executable} -c '{{seed}}{{opt}}'"
    found = vr("run", "--command", command, "--opt", "adam", "--probe", "updates")
    assert found.code == 2
    assert "--probe updates cannot measure here: " in found.err
    assert "trains in a loop of its own, which probes do not see" in found.err
    assert not (tmp_path / "vr.db").exists()


def test_help_and_files_know_the_options_of_a_probe(run: Callable[..., Any], tmp_path: Path) -> None:
    text = run("--probe", "sharpness", "--help").out
    assert "Options of probe sharpness" in text
    assert "--probe-sharpness-iterations" in text
    (tmp_path / "run.toml").write_text('probe = "updates"\nprobe_every = "2"\nprobe_updates_layers = false\n')
    assert run("--config", "run.toml").code == 0
    assert not any("/" in name for _, name in curves())
    assert (1, "updates_norm") in curves()


def test_the_api_has_the_words_of_the_command(valley: None, tmp_path: Path) -> None:
    import valley as module

    db = tmp_path / "vr.db"
    found = vrcli.run(
        module.Valley, threads=1, epochs=2, probe=["updates", "sharpness"], probe_every=1, probe_sharpness_top=1, db=db
    )
    assert found.runs[0].status == "completed"
    assert {(1, "updates_norm"), (1, "sharpness_1")} <= curves(db).keys()
    with pytest.raises(vrcli.errors.UsageError, match="--probe-sharpness-bottom is no option of sharpness"):
        vrcli.run(module.Valley, probe="sharpness", probe_sharpness_bottom=1, db=db)


def test_an_interrupted_run_goes_on_with_its_probes(valley: None, tmp_path: Path) -> None:
    words: dict[str, Any] = {"threads": 1, "epochs": 6, "probe": ["updates", "sharpness"], "probe_every": "2"}

    class Enough(Exception):
        pass

    def watch(event: Any) -> None:
        if isinstance(event, Eval) and event.number == 4:
            raise Enough

    vrcli.run("valley:Valley", db=tmp_path / "whole.db", **words)
    with pytest.raises(Enough):
        vrcli.run("valley:Valley", db=tmp_path / "vr.db", checkpoint_every="3", watch=watch, **words)
    again = vrcli.run("valley:Valley", db=tmp_path / "vr.db", **words)
    assert [run.id for run in again.runs] == [1]
    whole, resumed = curves(tmp_path / "whole.db"), curves(tmp_path / "vr.db")
    assert whole.keys() == resumed.keys()
    for key in whole:
        if "wall" not in key[1]:
            assert np.array_equal(whole[key].steps, resumed[key].steps)
            assert np.array_equal(whole[key].values, resumed[key].values, equal_nan=True)


def test_a_comparison_measures_every_run(valley: None, inline: None, tmp_path: Path) -> None:
    words: dict[str, Any] = {
        "opt": ["adam", "sgd"], "seeds": 2, "threads": 1, "epochs": 2, "db": tmp_path / "vr.db",
        "checkpoint_every": "off",
    }  # fmt: skip
    vrcli.compare("valley:Valley", **words)
    vrcli.compare("valley:Valley", probe="updates", probe_every="1e", **words)
    measured = sorted(id for id, name in curves(tmp_path / "vr.db") if name == "updates_norm")
    assert measured == [5, 6, 7, 8]  # those of before had no probe, and were not taken instead


def test_a_sweep_that_goes_on_measures_what_it_measured(run: Any, vr: Callable[..., Any], inline: None) -> None:
    words = ("--trials", "2", "--threads", "1", "--epochs", "2", "--probe-every", "1", "--no-probe-updates-layers")
    assert vr("sweep", "valley:Valley", "--opt", "sgd", "--probe", "updates", *words).code == 0
    assert vr("sweeps", "resume", "1", "--trials", "4", "--confirm-seeds", "1", "--threads", "1").code == 0
    with Store.open("vr.db", mode="read") as store:
        runs = store.runs.select()
    assert len(runs) == 5
    for one in runs:
        assert one.provenance["probes"] == {"updates": {"layers": False}}
        assert one.provenance["probe_every"] == "1"
        assert len(curves()[one.id, "updates_norm"].steps) == one.results["steps"]


# -- vr probes --------------------------------------------------------------------------------------------------------


def test_probes_are_listed_and_shown(vr: Callable[..., Any]) -> None:
    listed = json.loads(vr("probes", "list", "--format", "json").out)
    assert {row["probe"] for row in listed} >= {"sharpness", "updates", "noise"}
    shown = json.loads(vr("probes", "show", "sharpness", "--format", "json").out)
    assert "--probe-sharpness-batch" in [row["option"] for row in shown["options"]]
    assert "Curves" in shown["about"]
    assert (
        vr("probes", "show", "nosie").err.strip()
        == "vr: --probe nosie is not a probe; did you mean noise? (vr probes list)"
    )


def test_a_probe_of_ones_own_is_written_and_measures(
    run: Callable[..., Any], vr: Callable[..., Any], tmp_path: Path
) -> None:
    assert vr("probes", "new", "reach").code == 0
    shutil.copy(tmp_path / "reach" / "reach_probe.py", tmp_path)
    assert run("--probe", "reach_probe:Reach", "--probe-every", "1e", "--probe-reach-order", "1").code == 0
    assert len(curves()[1, "reach_norm"].steps) == 4
    assert vr("probes", "new", "reach").code == 2
    assert "a probe is called 'noise' already" in vr("probes", "new", "noise").err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["updates", "noise", "sharpness", "momentum"])
def test_the_probes_here_pass_their_checks(vr: Callable[..., Any], name: str) -> None:
    assert vr("probes", "check", name).code == 0


# -- figures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "panels"), [("stability", 4), ("spectrum", 2), ("updates", 6)])
def test_what_was_measured_is_drawn(
    run: Callable[..., Any], vr: Callable[..., Any], tmp_path: Path, name: str, panels: int
) -> None:
    assert run("--opt", "sgd", *PROBED, "--probe", "updates").code == 0
    found = vr("plot", name, "1", "--output", "figure.png", "--data", "rows.csv")
    assert found.code == 0, found.err
    rows = (tmp_path / "rows.csv").read_text().splitlines()
    assert len({row.split(",")[0] for row in rows[1:]}) == panels
    assert (tmp_path / "figure.png").stat().st_size > 5000
    run("--opt", "sgd", "--seed", "5")
    assert "has no curve of the probe" in vr("plot", name, "2").err
    both = vr("plot", name, "1", "2")
    assert (both.code, "and not drawn: run 2" in both.err) == (0, True)
