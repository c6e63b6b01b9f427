"""Paths over contours: the points of each run, which runs have none, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vrcli.report.figures import trajectory
from vrcli.report.figures.style import Series

LANDSCAPE = {
    "function": "bowl", "x": [-1.0, 0.0, 1.0], "y": [0.0, 1.0, 2.0],
    "gap": [[2.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 2.0]], "minima": [[0.0, 1.0]],
}  # fmt: skip
STEPS = np.array([1, 2, 3])


def test_each_path_is_drawn_once_over_its_own_function() -> None:
    one = {"7": (STEPS, np.array([-1.0, -0.5, 0.0]), np.array([0.0, 0.5, 0.9]))}
    two = {"8": (STEPS, STEPS / 3, STEPS / 3), "9": (STEPS, -STEPS / 3, STEPS / 3)}
    lines = {Series("adamw", "adamw"): one, Series("sgd", "sgd"): two}
    plot = trajectory.draw({"bowl": (LANDSCAPE, lines), "again": (LANDSCAPE, {Series("sgd", "sgd"): two})})
    assert len(plot.rows) == 3 * 3 + 2 * 3
    assert plot.rows[2] == {
        "function": "bowl", "section": "bowl", "optimizer": "adamw", "run": "7", "step": 3, "x": 0.0, "y": 0.9,
    }  # fmt: skip
    first, second = (axes for axes in plot.figure.axes if axes.get_visible())
    assert first.get_legend_handles_labels()[1] == ["adamw", "sgd"]
    assert second.get_legend_handles_labels()[1] == ["sgd"]
    assert first.get_xlim() == (-1, 1)
    assert first.get_ylim() == (0, 2)
    text = trajectory.text(plot.rows)
    assert [line.split()[:4] for line in text.splitlines() if line.split()[1:2] == ["adamw"]] == [
        ["bowl", "adamw", "7", "3"]
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_command_draws_what_runs_of_functions_kept(vr: Any, tmp_path: Path) -> None:
    for optimizer in ("adamw", "flowadam"):
        assert vr("run", "functions", "--preset", "smoke", "--opt", optimizer, "-q").code == 0
    done = vr("plot", "trajectory", "functions", "-o", "t.png", "--data", "t.csv")
    assert done.code == 0, done.err
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    rows = pd.read_csv(tmp_path / "t.csv")
    assert rows.groupby("optimizer").size().to_dict() == {"adamw": 30, "flowadam": 30}
    assert set(rows["function"]) == {"quadratic"}
    assert vr("plot", "trajectory").out.count("quadratic") == 2


def test_runs_without_a_landscape_are_refused(vr: Any) -> None:
    assert vr("run", "regression", "--preset", "smoke", "--opt", "adamw", "-q").code == 0
    done = vr("plot", "trajectory")
    assert (done.code, done.out) == (2, "")
    assert "none of these runs is of a test function; train one with: vr run functions" in done.err
