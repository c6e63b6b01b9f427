"""The curves of single runs: every point and every loss."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

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


def test_one_evaluation_is_seen() -> None:
    """A line needs two points; of a run that is evaluated once there is a dot."""
    plot = run_curves({"": {"loss": {"a": {"1": ([100.0], [0.1]), "2": ([100.0], [0.2])}, "b": {"3": RUNS[0]}}}})
    dots = [line for line in plot.figure.axes[0].lines if line.get_marker() == "o"]
    assert sorted(float(line.get_ydata()[0]) for line in dots) == [0.1, 0.2]


def test_a_value_between_zeros_is_seen_on_a_logarithmic_axis() -> None:
    run, other = (range(4), [0.3, 0.0, 0.2, 0.1]), (range(4), [9.0, 1.0, 0.1, 0.02])
    axes = run_curves({"": {"loss": {"a": {"1": run}, "b": {"2": other}}}}).figure.axes[0]
    assert axes.get_yscale() == "log"
    first = axes.lines[0]
    np.testing.assert_array_equal(first.get_ydata(), [0.3, np.nan, 0.2, 0.1])
    assert (first.get_marker(), first.get_markevery()) == ("o", [0])


def test_runs_are_a_mean_with_their_range() -> None:
    text = curves_figure.text(
        run_curves({"": {"loss": {"a": {str(i): run for i, run in enumerate(RUNS)}}}}).rows, Page(), "epoch"
    )
    assert "a (3 runs)" in text
    assert "· range" in text
    assert text.rstrip().endswith("epoch")


@pytest.mark.parametrize(
    ("lowest", "log", "scale"),
    [(0.01, None, "log"), (0.0, None, "log"), (-0.01, None, "linear"), (-0.01, True, "log"), (0.01, False, "linear")],
)
def test_a_logarithmic_axis_cuts_no_curve_unless_asked_for(lowest: float, log: bool | None, scale: str) -> None:
    """The losses of a GFlowNet may be negative; a loss of exactly zero is only a gap."""
    plot = run_curves({"": {"loss": {"a": {"1": (range(4), [9.0, 1.0, lowest, 0.02])}}}}, log=log)
    axes = plot.figure.axes[0]
    assert axes.get_yscale() == scale
    gap = scale == "log" and lowest <= 0
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [9.0, 1.0, np.nan if gap else lowest, 0.02])
    assert plot.rows[2]["y"] == lowest


def test_values_below_zero_of_very_different_sizes_are_all_seen() -> None:
    axes = run_curves({"": {"loss": {"a": {"1": (range(5), [1e9, 20.0, -0.1, 0.2, 0.3])}}}}).figure.axes[0]
    assert axes.get_yscale() == "symlog"
    low, high = axes.get_ylim()
    assert -1 < low < -0.1
    assert 1e9 < high < 1e10
