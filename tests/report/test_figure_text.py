"""Figures as text: that the small tables say what the numbers say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vrcli.report.figures import text as figure_text
from vrcli.report.figures.curves import envelope_rows, run_curves, telemetry
from vrcli.report.figures.performance import profile, target
from vrcli.report.figures.settings import parallel, sensitivity, settings_grid
from vrcli.report.figures.sweeps import Trial, sweep
from vrcli.report.figures.text import Page
from vrcli.stats.budget import steps_to_target

X = np.arange(1, 21)
RUNS = [(X, 1 / X + shift) for shift in (0.0, 0.1, 0.2)]
LOST = (X, np.where(X > 15, math.nan, 1 / X))


def line(text: str, start: str) -> list[str]:
    """The words of the last line that begins so."""
    return [row.split() for row in text.splitlines() if row.startswith(start)][-1]


def test_an_envelope_states_n_losses_and_the_band() -> None:
    rows = envelope_rows({"cnn": {"loss": {"a": [*RUNS, LOST], "b": RUNS}}}).rows
    text = figure_text.envelopes(rows, Page(), "step")
    assert text.startswith("cnn · loss\n")
    last = np.array([y[-1] for _, y in RUNS])
    assert line(text, "b") == ["b", "3", "3", "0", "0.1500", "20.00", "0.1500", f"{last.std(ddof=1):.4f}"]
    assert line(text, "a")[:4] == ["a", "4", "3", "1"]


def test_an_envelope_of_what_should_be_large_quotes_its_highest() -> None:
    rows = envelope_rows({"": {"accuracy": {"a": [(X, 1 - y) for _, y in RUNS]}, "loss": {"a": RUNS}}}).rows
    accuracy, loss = figure_text.envelopes(rows, Page(), "step", {"accuracy"}).split("\n\nloss\n")
    assert "highest" in accuracy
    assert "lowest" not in accuracy
    assert line(accuracy, "a")[4:6] == [f"{1 - (1 / 20 + 0.1):.4f}", "20.00"]
    assert "lowest" in loss
    assert line(loss, "a")[4:6] == ["0.1500", "20.00"]


def test_an_envelope_of_nothing_finite_says_so() -> None:
    rows = envelope_rows({"": {"loss": {"a": [(X, np.full(20, math.nan))]}}}).rows
    text = figure_text.envelopes(rows, Page(), "step")
    assert "no finite values" in text
    assert "NaN" in line(text, "a")


def test_runs_are_a_mean_with_their_range() -> None:
    text = figure_text.run_curves(
        run_curves({"": {"loss": {"a": {str(i): run for i, run in enumerate(RUNS)}}}}).rows, Page(), "epoch"
    )
    assert "a (3 runs)" in text
    assert "· range" in text
    assert text.rstrip().endswith("epoch")


def test_telemetry_has_a_plot_per_metric() -> None:
    text = figure_text.telemetry(telemetry({"loss": {"a": RUNS}, "gate": {"a": RUNS}}).rows, Page(), "step")
    assert [row for row in text.splitlines() if row in ("loss", "gate")] == ["loss", "gate"]


def test_searches_state_their_best_and_what_diverged() -> None:
    values = [0.5, math.nan, 0.2, 0.3]
    found = {
        "a": [Trial({"lr": 10.0**-i, "mode": "xy"[i % 2]}, v, [1, 2], [1, v], i + 5) for i, v in enumerate(values)]
    }
    assert line(figure_text.sweep(sweep(found).rows, Page(), "loss"), "a") == [
        "a", "4", "1", "0.2000", "0.3000", "7", "lr=0.01", "mode=x",
    ]  # fmt: skip
    grid = figure_text.settings_grid(settings_grid(found).rows, Page(), "loss")
    assert line(grid, "a") == ["a", "mode", "y", "2", "1", "0.3000", "0.3000"]
    best = figure_text.parallel(parallel(found).rows, Page(), "loss", most=2).splitlines()
    assert best[2].split()[:2] == ["7", "0.2000"]
    assert best[-1] == "2 worse trials are not listed"
    text = figure_text.sensitivity(sensitivity(found, tolerance=0.6).rows, Page(), "lr", "loss")
    assert line(text, "a") == ["a", "4", "1", "0.2000", "0.01", "0.001", "0.01", "1.0"]
    lost = figure_text.sensitivity(sensitivity({"a": [Trial({"lr": 0.1}, math.nan)]}).rows, Page(), "lr", "loss")
    assert line(lost, "a") == ["a", "1", "1", "NaN", "-", "-", "-", "-"]


def test_a_profile_quotes_shares_at_factors() -> None:
    costs = {"a": {"s": 1.0, "t": 3.0}, "b": {"s": 1.04, "t": 1.0}, "c": {"s": math.nan, "t": math.nan}}
    text = figure_text.profile(profile(costs).rows, Page(), "loss")
    assert line(text, "a") == ["a", "50%", "50%", "50%", "50%", "100%"]
    assert line(text, "b") == ["b", "50%", "100%", "100%", "100%", "100%"]
    assert line(text, "c") == ["c", "0%", "0%", "0%", "0%", "0%"]


def test_a_target_states_the_median_or_that_half_did_not_get_there() -> None:
    reached = {"a": steps_to_target(RUNS, 0.25), "b": steps_to_target(RUNS, 0.06)}
    text = figure_text.target(target(reached).rows, Page(), "steps", "loss ≤ 0.25")
    assert line(text, "a") == ["a", "3", "of", "3", "7.000"]
    assert line(text, "b") == ["b", "1", "of", "3", "not", "reached", "by", "half"]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_plots_keep_their_width_in_ascii(width: int) -> None:
    rows = envelope_rows({"": {"loss": {"a": RUNS}}}).rows
    plot = figure_text.envelopes(rows, Page(width=width, ascii=True), "step").split("\n\n")[0]
    assert max(map(len, plot.splitlines())) <= width
    assert plot.isascii()


@pytest.mark.parametrize(
    ("count", "said"), [(11, "1 worse trial is not listed"), (12, "2 worse trials are not listed")]
)
def test_trials_that_are_not_listed_are_counted(count: int, said: str) -> None:
    rows = [{"optimizer": "sgd", "trial": i, "settings": "lr=1", "outcome": float(i)} for i in range(count)]
    assert figure_text.parallel(rows, figure_text.Page(), "loss").endswith(said)
