"""The curves of single runs: every point and every loss."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from vrcli.report.figures import curves as curves_figure
from vrcli.report.figures.text import Page

sys.path.insert(0, str(Path(__file__).parent))
from samples import RUNS, curves, run_curves


def test_run_curves_keep_every_point_and_every_loss() -> None:
    drawn = {"a": {str(i): curve for i, curve in enumerate(curves(3, die=12))}, "b": {"9": curves(1)[0]}}
    plot = run_curves({"s": {"loss": drawn}})
    for name, runs in drawn.items():
        for run, (x, y) in runs.items():
            own = [r for r in plot.rows if (r["optimizer"], r["run"]) == (name, run)]
            np.testing.assert_array_equal([r["x"] for r in own], x)
            np.testing.assert_array_equal([r["y"] for r in own], y)
    dots = [line for line in plot.figure.axes[0].lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [[12.0]]
    labels = plot.figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["a (n = 3, 1 diverged)", "b (n = 1)"]


def test_runs_are_a_mean_with_their_range() -> None:
    text = curves_figure.text(
        run_curves({"": {"loss": {"a": {str(i): run for i, run in enumerate(RUNS)}}}}).rows, Page(), "epoch"
    )
    assert "a (3 runs)" in text
    assert "· range" in text
    assert text.rstrip().endswith("epoch")
