"""`vr runs path` measures the line between two runs once, and `vr plot path` draws what is stored."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vrcli.db.store import Store
from vrcli.report.figures.path import barrier

pytestmark = pytest.mark.usefixtures("valley")


@pytest.fixture
def runs(vr: Callable[..., Any]) -> Callable[..., None]:
    """Two short runs that kept their best weights, and further ones on request."""

    def train(*words: str) -> None:
        assert vr("run", "valley:Valley", "--threads", "1", "--quiet", *words).code == 0

    for seed in ("0", "1"):
        train("--seed", seed, "--keep-weights", "best")
    return train


def test_the_ends_are_the_stored_losses_and_a_quadratic_loss_is_quadratic_between_them(
    runs: Any, vr: Callable[..., Any]
) -> None:
    done = vr("runs", "path", "1", "2", "--points", "5", "--format", "json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["runs"], found["weights"], found["t"]) == ([1, 2], "best", [0, 0.25, 0.5, 0.75, 1])
    with Store.open("vr.db", mode="read") as store:
        stored = [store.runs.get(id).results for id in (1, 2)]
    assert [found["val_loss"][0], found["val_loss"][-1]] == [own["best_val_loss"] for own in stored]
    assert [found["test_loss"][0], found["test_loss"][-1]] == [own["test_loss"] for own in stored]
    for split in ("train", "val", "test"):
        bends = np.diff(found[f"{split}_loss"], 2)
        assert (bends > 0).all()
        assert np.allclose(bends, bends[0], rtol=1e-3)
        assert barrier(found["t"], found[f"{split}_loss"]) == pytest.approx(0, abs=1e-9)


def test_the_figure_is_drawn_from_what_is_stored_in_both_directions_and_without_torch(
    runs: Any, vr: Callable[..., Any], tmp_path: Path
) -> None:
    assert vr("runs", "path", "1", "2", "--points", "5").code == 0
    rows = {}
    for pair in (("1", "2"), ("2", "1")):
        name = f"{'-'.join(pair)}.csv"
        assert vr("plot", "path", *pair, "--data", name, "--output", f"{name}.png").code == 0
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
        rows[pair] = [row for row in csv.DictReader((tmp_path / name).open()) if row["split"] == "validation"]
    there, back = rows.values()
    assert [row["value"] for row in there] == [row["value"] for row in back[::-1]]
    assert [float(row["t"]) for row in back] == [0, 0.25, 0.5, 0.75, 1]
    code = (
        "import atexit, sys; from vrcli.cli.app import main; atexit.register(lambda: print('torch' in sys.modules)); "
        "main()"
    )
    plain = subprocess.run([sys.executable, "-c", code, "plot", "path", "1", "2"], capture_output=True, text=True)
    assert plain.returncode == 0, plain.stderr
    assert "barrier" in plain.stdout
    assert plain.stdout.endswith("False\n")


@pytest.mark.parametrize(
    ("third", "words", "said"),
    [
        ((), ("1", "1"), "1 and 1 are the same run; name two"),
        ((), ("1", "2", "--points", "1"), "--points must be in 2..1,000, got 1"),
        ((), ("1",), "run 1 did not keep its weights before its last step; vr run valley ... --keep-weights update"),
        ((), ("1", "--points", "4"), "--points must be odd (the end of the step is in the middle) and in 3..1,000,"),
        ((), ("1", "--weights", "best"), "--weights goes with two runs"),
        ((), ("1", "2", "--points", "1001"), "--points must be in 2..1,000, got 1001"),
        ((), ("1", "2", "--weights", "first"), "--weights must be best or last, got first"),
        ((), ("1", "2", "--weights", "last"), "run 1 did not keep its last weights; vr run valley ... --keep"),
        (("--seed", "3"), ("1", "3"), "run 3 did not keep its best weights; vr run valley ... --keep"),
        (("--seed", "3", "--keep-weights", "last"), ("1", "3"), "run 1 did not keep its last weights; vr run valley"),
        (("--width", "3", "--keep-weights", "best"), ("1", "3"), "run 1 and run 3 have different data"),
        (
            ("--sleep-s", "0.001", "--keep-weights", "best"), ("1", "3"),
            "run 1 and run 3 have different settings of valley: sleep_s is 0.0 and 0.001; a path needs one",
        ),
    ],
)  # fmt: skip
def test_what_has_no_path_is_refused_in_a_line_and_nothing_is_kept(
    runs: Callable[..., None], vr: Callable[..., Any], third: tuple[str, ...], words: tuple[str, ...], said: str
) -> None:
    if third:
        runs(*third)
    done = vr("runs", "path", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    with Store.open("vr.db", mode="read") as store:
        assert [file.name for file in store.artifacts.select(1)] == ["weights.best.safetensors"]


def test_runs_of_different_tasks_have_no_path(runs: Any, vr: Callable[..., Any]) -> None:
    assert vr("run", "functions", "--preset", "smoke", "--keep-weights", "best", "--threads", "1", "--quiet").code == 0
    done = vr("runs", "path", "1", "3")
    assert done.code == 2
    assert "run 1 and run 3 are of different tasks, valley and functions; a path needs one loss" in done.err


def test_a_path_that_is_not_measured_is_not_drawn(runs: Any, vr: Callable[..., Any]) -> None:
    done = vr("plot", "path", "1", "2")
    assert done.code == 2
    assert done.err == "vr: nothing is measured between run 1 and run 2; vr runs path 1 2 does\n"
    assert vr("plot", "path", "1").err == (
        "vr: nothing is measured along the last update of run 1; vr runs path 1 does\n"
    )
    assert "name two or one, got 3" in vr("plot", "path", "1", "2", "2").err
    assert "--weights goes with two runs" in vr("plot", "path", "1", "--weights", "best").err
    assert vr("plot", "path", "2", "2").err == "vr: 2 and 2 are the same run; name two\n"


def test_a_path_that_is_measured_again_from_its_other_end_is_replaced(runs: Any, vr: Callable[..., Any]) -> None:
    for words in (("1", "2", "--points", "3"), ("2", "1", "--points", "5")):
        assert vr("runs", "path", *words).code == 0
    assert vr("plot", "path", "1", "2", "--data", "points.csv").code == 0
    rows = csv.DictReader(Path("points.csv").read_text().splitlines())
    assert [float(row["t"]) for row in rows if row["split"] == "validation"] == [0, 0.25, 0.5, 0.75, 1]


def test_the_last_update_leads_from_the_weights_of_one_step_less_to_those_of_the_run_and_beyond(
    vr: Callable[..., Any],
) -> None:
    """A quadratic loss along any update is a parabola, and the line's ends are what shorter runs end with."""
    run = ("run", "valley:Valley", "--threads", "1", "--quiet", "--opt", "sgd", "--lr", "0.1")
    assert vr(*run, "--until", "steps:6", "--keep-weights", "update").code == 0
    assert vr(*run, "--until", "steps:5").code == 0
    assert vr(*run, "--until", "steps:6").code == 0
    done = vr("runs", "path", "1", "--points", "5", "--format", "json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["runs"], found["weights"], found["t"]) == ([1], "update", [0, 0.5, 1, 1.5, 2])
    bends = np.diff(found["train_loss"], 2)
    assert (bends > 0).all()
    assert np.allclose(bends, bends[0], rtol=1e-2)
    with Store.open("vr.db", mode="read") as store:
        last = [store.curves.read([id], ["val_loss"])[id, "val_loss"].values[-1] for id in (1, 2, 3)]
        steps = [store.curves.read([id], ["train_loss"])[id, "train_loss"].values for id in (1, 3)]
        names = [file.name for file in store.artifacts.select(1)]
    assert [found["val_loss"][0], found["val_loss"][2]] == [last[1], last[0]]
    assert (last[0], list(steps[0])) == (last[2], list(steps[1]))
    assert names == ["measured.update.json", "weights.before-last.safetensors", "weights.last.safetensors"]
    drawn = vr("plot", "path", "1")
    assert drawn.code == 0, drawn.err
    assert "best at" in drawn.out
    assert drawn.out.rstrip().endswith("0 is before the last step, 1 is after it")


def test_a_last_step_that_moved_no_weight_is_no_path(vr: Callable[..., Any]) -> None:
    """The schedule's last rate is 0."""
    words = "run valley:Valley --threads 1 --quiet --schedule warmup-cosine --warmup-epochs 1 --keep-weights update"
    assert vr(*words.split()).code == 0
    assert "step None" not in vr("runs", "show", "1").out
    done = vr("runs", "path", "1")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(
        "vr: the last step of run 1 moved no weight, as schedules that end at a learning rate of 0"
    )


def test_weights_that_the_network_cannot_take_any_more_are_refused(
    vr: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from valley import Valley

    for seed in ("0", "1"):
        words = f"run valley:Valley --threads 1 --quiet --seed {seed} --keep-weights update"
        assert vr(*words.split()).code == 0
    monkeypatch.setattr(Valley, "model", lambda self, data: torch.nn.Linear(self.config.width, 2))
    said = "vr: the network of valley is now another than that of run 1"
    for command in ("path 1", "plane 1"):
        done = vr("runs", *command.split())
        assert (done.code, done.out, done.err.startswith(said)) == (2, "", True), done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("valley:Valley", "--until", "seconds:0.1"), "which step is the last of --until seconds:0.1 is known after"),
        (("looping:Looping",), "looping trains in a loop of its own"),
    ],
)
def test_weights_before_a_last_step_that_nobody_knows_are_refused_and_nothing_is_written(
    vr: Callable[..., Any], tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = vr("run", *words, "--threads", "1", "--keep-weights", "update")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("vr: --keep-weights update cannot be had here: ")
    assert said in done.err
    assert not (tmp_path / "vr.db").exists()


def test_the_barrier_is_the_rise_above_the_straight_line() -> None:
    assert barrier([0, 0.5, 1], [1.0, 5.0, 3.0]) == 3
    assert barrier([0, 0.5, 1], [1.0, 0.0, 3.0]) == 0
    assert np.isnan(barrier([0, 0.5, 1], [1.0, float("nan"), 3.0]))
