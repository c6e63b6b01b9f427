"""Envelopes by the numbers behind them, by what is drawn, and as text."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from vrcli.report.figures import envelope
from vrcli.report.figures.text import Page
from vrcli.stats.curves import binned

sys.path.insert(0, str(Path(__file__).parent))
from samples import LOST, RNG, RUNS, X, curves, envelope_rows, envelopes, line, panels_of


def test_envelope_rows_equal_numpy() -> None:
    drawn = curves(5)
    rows = envelopes({"training": {"a": drawn}}, band="sd").rows
    table = np.array([y for _, y in drawn])
    np.testing.assert_allclose([r["centre"] for r in rows], table.mean(0))
    np.testing.assert_allclose([r["high"] for r in rows], table.mean(0) + table.std(0, ddof=1))
    assert {r["n"] for r in rows} == {5}


def test_a_run_that_diverged_is_counted_marked_and_thins_the_line() -> None:
    plot = envelopes({"training": {"a": curves(4, die=12)}})
    axes = plot.figure.axes[0]
    by_x = {r["x"]: r for r in plot.rows}
    assert (by_x[11.0]["n"], by_x[12.0]["n"], by_x[12.0]["nonfinite"], by_x[20.0]["n"]) == (4, 3, 1, 3)
    (label,) = axes.get_legend_handles_labels()[1]
    assert label == "a (n = 4, 1 diverged)"
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [
        line.get_xdata().tolist() if hasattr(line.get_xdata(), "tolist") else line.get_xdata() for line in dots
    ] == [[12.0]]
    thick, thin = (np.asarray(line.get_ydata()) for line in axes.lines[:2])
    assert np.isfinite(thick[:11]).all()
    assert np.isnan(thick[13:]).all()
    assert np.isfinite(thin[11:]).all()
    assert np.isnan(thin[:11]).all()


def test_the_mean_of_one_evaluation_is_seen_with_its_interval() -> None:
    axes = envelopes({"validation": {"a": [([100.0], [value]) for value in (0.1, 0.2, 0.3)]}}).figure.axes[0]
    (dot,) = [line for line in axes.lines if line.get_marker() == "o"]
    assert list(dot.get_ydata()) == [pytest.approx(0.2)]
    low, high = axes.collections[-1].get_segments()[0][:, 1]
    assert low < 0.1 < 0.3 < high


def test_long_curves_are_averaged_and_say_so() -> None:
    x = np.arange(1, 3001)
    y = RNG.standard_normal((3, 3000))
    plot = envelopes({"training": {"a": [(x, row) for row in y]}})
    assert len(plot.rows) == 100
    assert {r["averaged"] for r in plot.rows} == {30}
    assert np.mean([r["centre"] for r in plot.rows]) == pytest.approx(y.mean(), abs=1e-3)
    assert "average up to 30 steps" in plot.figure.legends[0].get_title().get_text().replace("\n", " ")


def test_binned_means_equal_numpy_and_keep_losses() -> None:
    x, y = np.arange(10.0), np.arange(10.0) ** 2
    y[7] = math.inf
    at, means = binned((x, y), np.array([0.0, 5.0, 9.0]))
    assert at.tolist() == [2.5, 7.0]
    assert means[0] == np.mean(y[:5])
    assert math.isnan(means[1])


def test_the_band_of_few_survivors_does_not_set_the_scale() -> None:
    wild = [(np.arange(1, 4), [1.0, 1.0, 1.0]) for _ in range(3)] + [
        (np.arange(1, 6), [1.0, 1.1, 1.0, 1.0, v]) for v in (0.9, 50.0)
    ]
    low, high = envelopes({"t": {"a": wild}}, band="ci", log=False).figure.axes[0].get_ylim()
    assert low > -50
    assert high < 100


def test_sections_stand_in_rows_and_say_their_own_n() -> None:
    loss = "validation loss"
    panels = {"cnn": {loss: {"a": curves(3), "b": curves(3), "c": curves(3, die=12)}}, "t": {loss: {"a": curves(2)}}}
    plot = envelope_rows(panels)
    assert [axes.get_title(loc="left").strip() for axes in plot.figure.axes] == ["cnn", "t"]
    facts = {(r["section"], r["optimizer"], r["runs"]) for r in plot.rows}
    assert facts == {("cnn", "a", 3), ("cnn", "b", 3), ("cnn", "c", 3), ("t", "a", 2)}
    assert [text.get_text() for text in plot.figure.legends[0].get_texts()] == ["a", "b", "c"]
    notes = [text.get_text() for axes in plot.figure.axes for text in axes.texts]
    assert notes == ["n = 3; c: 3, 1 diverged", "n = 2"]
    colours = {axes.lines[0].get_color() for axes in plot.figure.axes}
    assert len(colours) == 1
    same = envelope_rows({"cnn": {"v": {"a": curves(3)}}, "t": {"v": {"a": curves(3)}}})
    assert [text.get_text() for text in same.figure.legends[0].get_texts()] == ["a (n = 3)"]


@pytest.mark.parametrize("band", ["sd", "ci", "minmax", "quantile"])
def test_a_band_that_passes_zero_does_not_stretch_a_logarithmic_axis(band: str) -> None:
    x = np.arange(1, 50)
    drawn = [(x, np.exp(-x / 8) * scale) for scale in (0.01, 0.02, 3.0)]
    plot = envelope_rows({"": {"loss": {"a": drawn}}}, band=band)
    low, high = plot.figure.axes[0].get_ylim()
    lowest = min(r["centre"] for r in plot.rows)
    assert lowest / 4 < low < lowest
    assert high >= max(r["centre"] for r in plot.rows)


def test_the_band_of_two_runs_does_not_stretch_a_logarithmic_axis() -> None:
    """Its interval may reach to thousands of times the mean: the quantile of one degree of freedom is 12.7."""
    x = np.arange(1, 50)
    plot = envelope_rows({"": {"gate": {"a": [(x, np.exp(-x / 8)), (x, np.exp(-x / 20))]}}}, band="ci")
    assert max(row["high"] for row in plot.rows) > 1000
    high = plot.figure.axes[0].get_ylim()[1]
    assert max(row["centre"] for row in plot.rows) <= high < 20


def test_names_of_axes_are_no_longer_than_their_panels() -> None:
    figure = envelope_rows({name: {"training loss (epoch mean)": {"a": curves()}} for name in "abcd"}).figure
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert axes.yaxis.label.get_window_extent().height <= axes.get_window_extent().height


def test_an_envelope_states_n_losses_and_the_band() -> None:
    rows = envelope_rows({"cnn": {"loss": {"a": [*RUNS, LOST], "b": RUNS}}}, band="sd").rows
    text = envelope.text(rows, Page(), "step")
    assert text.startswith("cnn · loss\n")
    last = np.array([y[-1] for _, y in RUNS])
    assert line(text, "b") == ["b", "3", "3", "0", "0.1500", "20", "0.1500", f"{last.std(ddof=1):.4f}"]
    assert line(text, "a")[:4] == ["a", "4", "3", "1"]


def test_an_envelope_of_what_should_be_large_quotes_its_highest() -> None:
    steep = [(X, y**3) for _, y in RUNS]
    rows = envelope_rows({"": {"accuracy": {"a": [(X, 1 - y) for _, y in RUNS]}, "loss": {"a": steep}}}).rows
    accuracy, loss = envelope.text(rows, Page(), "step", {"accuracy"}).split("\n\nloss\n")
    assert "highest" in accuracy
    assert "lowest" not in accuracy
    assert line(accuracy, "a")[4:6] == [f"{1 - (1 / 20 + 0.1):.4f}", "20"]
    assert "lowest" in loss
    assert line(loss, "a")[4:6] == [f"{stats.gmean([0.05, 0.15, 0.25]) ** 3:.4g}", "20"]
    assert "means are geometric" in loss
    assert "geometric" not in accuracy


def test_an_envelope_of_nothing_finite_says_so() -> None:
    rows = envelope_rows({"": {"loss": {"a": [(X, np.full(20, math.nan))]}}}).rows
    text = envelope.text(rows, Page(), "step")
    assert "no finite values" in text
    assert "NaN" in line(text, "a")


@pytest.mark.parametrize("width", [60, 80, 100])
def test_plots_keep_their_width_in_ascii(width: int) -> None:
    rows = envelope_rows({"": {"loss": {"a": RUNS}}}).rows
    plot = envelope.text(rows, Page(width=width, ascii=True), "step").split("\n\n")[0]
    assert max(map(len, plot.splitlines())) <= width
    assert plot.isascii()


def test_the_usual_band_is_the_interval_that_tables_quote(tmp_path: Path) -> None:
    """Of several searches over their means, on a logarithmic axis of the logarithms, and the caption says so."""
    drawn = curves(6)
    panels = {"quick": panels_of({"val_loss": {"a": drawn}})}
    (series,) = panels["quick"]["val_loss"]
    units = {"quick": {"val_loss": {series: [1, 1, 2, 2, 3, 3]}}}
    for log, words in ((False, "mean and 95% interval over searches"),
                       (True, "geometric mean and 95% interval of the logarithms over searches")):  # fmt: skip
        plot = envelope.draw(panels, units=units, log=log)
        table = np.array([y for _, y in drawn]).reshape(3, 2, -1).mean(1)
        values = np.log(table) if log else table
        low, high = stats.t.interval(0.95, 2, values.mean(0), stats.sem(values))
        edges = np.exp([low, high]) if log else np.array([low, high])
        np.testing.assert_allclose([[r["low"] for r in plot.rows], [r["high"] for r in plot.rows]], edges)
        assert {(r["units"], r["runs"]) for r in plot.rows} == {(3, 6)}
        assert words in plot.figure.legends[0].get_title().get_text().replace("\n", " ")
        assert plot.figure.legends[0].get_texts()[0].get_text() == "a (n = 3 x 2)"
