"""`vr runs plane` measures a plane through a run once, and `vr plot plane` draws what is stored."""

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

from vrcli.db.store import Store
from vrcli.report.figures.plane import draw, text
from vrcli.results.slices import Plane

pytestmark = pytest.mark.usefixtures("valley")


@pytest.fixture
def run(vr: Callable[..., Any]) -> Callable[..., None]:
    """A short run that kept its best weights, and further ones on request."""

    def train(*words: str) -> None:
        assert vr("run", *words, "--threads", "1", "--quiet").code == 0

    train("valley:Valley", "--keep-weights", "best")
    return train


def measured(vr: Callable[..., Any], *words: str) -> dict[str, Any]:
    done = vr("runs", "plane", *words, "--format", "json")
    assert done.code == 0, done.err
    return dict(json.loads(done.out))


def test_the_middle_has_the_stored_losses_and_a_quadratic_loss_is_quadratic_around_it(
    run: Any, vr: Callable[..., Any]
) -> None:
    found = measured(vr, "1", "--points", "5", "--span", "0.5")
    assert (found["run"], found["weights"], found["seed"]) == (1, "best", 0)
    assert found["at"] == [-0.5, -0.25, 0, 0.25, 0.5]
    with Store.open("vr.db", mode="read") as store:
        results = store.runs.get(1).results
    assert found["val_loss"][2][2] == results["best_val_loss"]
    assert found["test_loss"][2][2] == results["test_loss"]
    for split in ("train", "val", "test"):
        values = np.array(found[f"{split}_loss"])
        for axis in (0, 1):
            bends = np.diff(values, 2, axis=axis)
            assert (bends > 0).all()
            assert np.allclose(bends, bends[0, 0], rtol=1e-2)


def test_a_plane_is_that_of_its_seed_and_another_takes_its_place(run: Any, vr: Callable[..., Any]) -> None:
    first, again, other = (measured(vr, "1", "--points", "3", "--seed", seed) for seed in ("1", "1", "2"))
    assert first == again
    assert first["val_loss"] != other["val_loss"]
    with Store.open("vr.db", mode="read") as store:
        assert [file.name for file in store.artifacts.select(1)] == ["measured.plane.best.json",
                                                                     "weights.best.safetensors"]  # fmt: skip


def test_the_figure_is_drawn_from_what_is_stored_and_without_torch(
    run: Any, vr: Callable[..., Any], tmp_path: Path
) -> None:
    found = measured(vr, "1", "--points", "3")
    assert vr("plot", "plane", "1", "--data", "plane.csv", "--output", "plane.png").code == 0
    assert (tmp_path / "plane.png").stat().st_size > 5000
    rows = [row for row in csv.DictReader((tmp_path / "plane.csv").open()) if row["split"] == "validation"]
    assert [float(row["value"]) for row in rows] == np.ravel(found["val_loss"]).tolist()
    assert [(float(row["x"]), float(row["y"])) for row in rows[:4]] == [(-1, -1), (0, -1), (1, -1), (-1, 0)]
    code = (
        "import atexit, sys; from vrcli.cli.app import main; atexit.register(lambda: print('torch' in sys.modules)); "
        "main()"
    )
    plain = subprocess.run([sys.executable, "-c", code, "plot", "plane", "1"], capture_output=True, text=True)
    assert plain.returncode == 0, plain.stderr
    assert "middle" in plain.stdout
    assert plain.stdout.endswith("False\n")


@pytest.mark.parametrize(
    ("second", "words", "said"),
    [
        ((), ("1", "--points", "1"), "--points must be odd (the run itself is in the middle) and in 3..101, got 1"),
        ((), ("1", "--points", "20"), "--points must be odd (the run itself is in the middle) and in 3..101, got 20"),
        ((), ("1", "--points", "100001"), "and in 3..101, got 100001"),
        ((), ("1", "--points", "x"), "--points must be a whole number, got 'x'"),
        ((), ("1", "--span", "0"), "--span must be in 1e-06..100, got 0"),
        ((), ("1", "--span", "nan"), "--span must be in 1e-06..100, got nan"),
        ((), ("1", "--span", "inf"), "--span must be in 1e-06..100, got inf"),
        ((), ("1", "--weights", "first"), "--weights must be best or last, got first"),
        ((), ("1", "--weights", "last"), "run 1 did not keep its last weights; vr run valley ... --keep-weights last"),
        ((), ("7",), "7"),
        (("valley:Valley", "--seed", "3"), ("2",), "run 2 did not keep its best weights; vr run valley ... --keep"),
        (("looping:Looping", "--preset", "smoke"), ("2",), "looping trains in a loop of its own; nobody but that loop"),
        (
            ("functions", "--preset", "smoke", "--keep-weights", "best"), ("2",),
            "no parameter of functions has two dimensions; a plane needs",
        ),
    ],
)  # fmt: skip
def test_what_has_no_plane_is_refused_in_a_line_and_nothing_is_kept(
    run: Callable[..., None], vr: Callable[..., Any], second: tuple[str, ...], words: tuple[str, ...], said: str
) -> None:
    if second:
        run(*second)
    done = vr("runs", "plane", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.strip().splitlines()) == 1
    with Store.open("vr.db", mode="read") as store:
        assert not [file.name for id in (1, 2)[: 1 + bool(second)] for file in store.artifacts.select(id)
                    if file.name.startswith("measured")]  # fmt: skip


def test_a_plane_that_is_not_measured_is_not_drawn(run: Any, vr: Callable[..., Any]) -> None:
    done = vr("plot", "plane", "1")
    assert (done.code, done.err) == (2, "vr: nothing is measured around run 1; vr runs plane 1 does\n")
    assert vr("plot", "plane", "1", "--weights", "last").err.endswith("vr runs plane 1 --weights last does\n")
    assert "name one, got 2" in vr("plot", "plane", "1", "2").err


@pytest.mark.parametrize("values", [[[1.0] * 3] * 3, [[0.0] * 3] * 3, [[float("nan")] * 3] * 3,
                                    [[1.0, float("inf"), 1e38], [1.0, 2.0, 3.0], [0.1, 1.0, 5.0]]])  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_a_plane_that_is_flat_or_has_no_end_is_drawn(values: Any, tmp_path: Path) -> None:
    found = Plane("best", [-1.0, 0.0, 1.0], 0, {"train_loss": values, "val_loss": [[1.0, 2.0, 3.0]] * 3})
    plot = draw(found, "flat")
    plot.save(tmp_path / "flat.png")
    assert "training" in text(plot.rows)


@pytest.mark.parametrize("task", ["gflownet", "diffusion"])
def test_training_samples_that_no_evaluation_takes_are_left_out(run: Any, vr: Callable[..., Any], task: str) -> None:
    run(task, "--preset", "smoke", "--keep-weights", "update")
    line = dict(json.loads(vr("runs", "path", "2", "--points", "3", "--format", "json").out))
    across = measured(vr, "2", "--points", "3")
    for found in (line, across):
        assert {"val_loss", "test_loss"} <= found.keys()
        assert not [name for name in found if name.startswith("train_")]
