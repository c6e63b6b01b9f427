"""Trials of searches: their numbers, and what the texts read off them."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from vrcli.report.figures import sensitivity as sensitivity_figure
from vrcli.report.figures import sweep as sweep_figure
from vrcli.report.figures.text import Page
from vrcli.results.searches import Trial

sys.path.insert(0, str(Path(__file__).parent))
from samples import X, line, parallel, sensitivity, settings_grid, sweep, trials


def test_sweep_rows_keep_every_trial_and_the_best_so_far() -> None:
    found = trials(10)
    points = sweep({"a": found}).rows
    assert len(points) == 10 * 8
    # As the search numbers it, not as the second one drawn.
    assert [r["y"] for r in points if r["trial"] == 3] == pytest.approx(found[1].y, nan_ok=True)
    assert {r["ended"] for r in points if r["trial"] == 3} == {2}
    assert [r["trial"] for r in parallel({"a": found}).rows] == list(range(1, 20, 2))
    rows = [r for r in points if r["x"] == 1]
    best = [r["best_so_far"] for r in rows if not math.isnan(r["best_so_far"])]
    assert best == sorted(best, reverse=True)
    assert best[-1] == min(t.outcome for t in found if not t.diverged)


def test_searches_state_their_best_and_what_diverged() -> None:
    values = [0.5, math.nan, 0.2, 0.3]
    found = {
        "a": [Trial({"lr": 10.0**-i, "mode": "xy"[i % 2]}, v, [1, 2], [1, v], i + 5) for i, v in enumerate(values)]
    }
    assert line(sweep_figure.text(sweep(found).rows, Page(), "loss"), "a") == [
        "a", "4", "1", "0.2000", "0.3000", "7", "lr=0.01", "mode=x",
    ]  # fmt: skip
    grid = sweep_figure.grid_text(settings_grid(found).rows, Page(), "loss")
    assert line(grid, "a") == ["a", "mode", "y", "2", "1", "0.3000", "0.3000"]
    best = sweep_figure.parallel_text(parallel(found).rows, Page(), "loss", most=2).splitlines()
    assert best[2].split()[:2] == ["7", "0.2000"]
    assert best[-1] == "2 worse trials are not listed"
    text = sensitivity_figure.text(sensitivity(found, tolerance=0.6).rows, Page(), "lr", "loss")
    assert line(text, "a") == ["a", "4", "1", "0.2000", "0.01", "0.001", "0.01", "1.0"]
    lost = sensitivity_figure.text(sensitivity({"a": [Trial({"lr": 0.1}, math.nan)]}).rows, Page(), "lr", "loss")
    assert line(lost, "a") == ["a", "1", "1", "NaN", "-", "-", "-", "-"]


@pytest.mark.parametrize(
    ("count", "said"), [(11, "1 worse trial is not listed"), (12, "2 worse trials are not listed")]
)
def test_trials_that_are_not_listed_are_counted(count: int, said: str) -> None:
    rows = [{"optimizer": "sgd", "trial": i, "settings": "lr=1", "outcome": float(i)} for i in range(count)]
    assert sweep_figure.parallel_text(rows, Page(), "loss").endswith(said)


def test_all_searches_of_an_optimizer_share_its_panel_and_have_a_step_each() -> None:
    trials = [Trial({"lr": 0.1}, value, X, X / value, number=n, search=seed) for seed in (0, 100)
              for n, value in enumerate((3.0, 1.0 + seed, 2.0), 1)]  # fmt: skip
    plot = sweep({"a": trials})
    curves, best = plot.figure.axes[:2]
    assert curves.get_title() == "a\n6 trials in 2 searches\n0 diverged"
    assert [line.get_ydata().tolist() for line in best.lines] == [[3, 1, 1], [3, 3, 2]]
    assert {line.get_drawstyle() for line in best.lines} == {"steps-post"}
    assert best.get_legend_handles_labels()[1] == ["a"]
    assert {row["search"] for row in plot.rows} == {0, 100}
