"""Figures by the numbers behind them, by what is drawn, and by the files they become."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vrcli.errors import UsageError
from vrcli.report.figures.curves import envelope_rows, envelopes, run_curves, telemetry
from vrcli.report.figures.performance import profile, target
from vrcli.report.figures.settings import parallel, sensitivity, settings_grid
from vrcli.report.figures.style import Plot
from vrcli.report.figures.sweeps import Trial, sweep
from vrcli.stats.budget import steps_to_target
from vrcli.stats.curves import binned
from vrcli.stats.profiles import performance_profile, sensitivity_of

RNG = np.random.default_rng(0)


def curves(runs: int = 4, length: int = 30, die: int | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    found = []
    for run in range(runs):
        y = np.exp(-np.arange(length) / 10) + 0.05 + 0.01 * RNG.random(length)
        x = np.arange(1, length + 1)
        if die is not None and run == 0:
            x, y = x[:die], y[:die].copy()
            y[-1] = math.nan
        found.append((x, y))
    return found


def trials(count: int = 12) -> list[Trial]:
    found = []
    for i in range(count):
        lr = 10 ** RNG.uniform(-4, 0)
        lost = lr > 0.3
        y = np.full(8, math.nan) if lost else 0.1 + np.exp(-np.arange(8.0))
        settings = {"lr": lr, "normgrad": bool(i % 2), "lr_cutoff": i + 3}
        found.append(Trial(settings, math.nan if lost else float(y.min()), np.arange(1, 9), y, number=2 * i + 1))
    return found


PLOTS = {
    "envelopes": lambda: envelopes({"training": {"a": curves(), "b": curves(die=12)}, "validation": {"a": curves()}}),
    "run curves": lambda: run_curves(
        {"s": {"loss": {"a": {"1": curves()[0]}}}, "t": {"loss": {"a": {"2": curves()[0]}}}}
    ),
    "telemetry": lambda: telemetry({"training loss": {"a": curves()}, "gate": {"a": curves(1)}}),
    "target": lambda: target({"a": steps_to_target(curves(), 0.3), "b": steps_to_target(curves(), 0.001)}),
    "profile": lambda: profile({"a": {"cnn": 1.0, "t": 2.0}, "b": {"cnn": 1.5, "t": math.nan}}),
    "sweep": lambda: sweep({"a": trials(), "b": trials()}),
    "sensitivity": lambda: sensitivity({"a": trials(), "b": trials()}),
    "settings": lambda: settings_grid({"a": trials(), "b": trials()}),
    "parallel": lambda: parallel({"a": trials(), "b": trials()}),
}
EMPTY = {
    "envelopes": lambda: envelopes({}),
    "run curves": lambda: run_curves({}),
    "lost run": lambda: run_curves({"": {"loss": {"a": {"1": ([1.0], [math.nan])}}}}),
    "no runs": lambda: envelopes({"training": {"a": []}}),
    "only lost": lambda: envelopes({"training": {"a": [([1.0], [math.nan])]}}),
    "one point": lambda: envelopes({"training": {"a": [([1.0], [0.5])]}}),
    "telemetry": lambda: telemetry({}),
    "target": lambda: target({}),
    "never": lambda: target({"a": steps_to_target([([1.0], [math.nan])], 0.1)}),
    "profile": lambda: profile({}),
    "all failed": lambda: profile({"a": {"cnn": math.nan}, "b": {"cnn": math.inf}}),
    "sweep": lambda: sweep({"a": []}),
    "all diverged": lambda: sweep({"a": [Trial({"lr": 0.1}, math.nan)]}),
    "sensitivity": lambda: sensitivity({"a": [Trial({"lr": 0.1}, math.nan), Trial({}, 1.0)]}),
    "settings": lambda: settings_grid({}),
    "parallel": lambda: parallel({"a": [Trial({"lr": 0.1, "mode": None}, 0.5)]}),
}


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
@pytest.mark.parametrize("name", PLOTS)
def test_every_figure_becomes_a_file_of_every_format(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"figure{suffix}"
    PLOTS[name]().save(path)
    head = path.read_bytes()[:400]
    assert {".png": b"\x89PNG", ".svg": b"<svg", ".pdf": b"%PDF"}[suffix] in head


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_to_draw_is_no_error(tmp_path: Path, name: str) -> None:
    EMPTY[name]().save(tmp_path / "empty.png")


@pytest.mark.parametrize("name", PLOTS)
def test_axes_have_names_and_fonts_are_legible(name: str) -> None:
    for axes in PLOTS[name]().figure.axes:
        if not axes.get_visible():
            continue
        if name != "parallel":
            assert (
                axes.get_ylabel()
                or not any(label.get_visible() for label in axes.get_yticklabels())
                or axes.get_title()
            )
        sizes = [text.get_fontsize() for text in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        assert all(size >= 7 for size in sizes)


def test_the_same_figure_gives_the_same_svg(tmp_path: Path) -> None:
    drawn = curves()
    for name in ("one.svg", "two.svg"):
        envelopes({"training": {"a": drawn}}).save(tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_hostile_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    name = r"$\frac{1}{ <script> & _x_ \n"
    envelopes({name: {name: curves()}}, y_label=name).save(tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert "<script>" not in text
    assert r"$\frac{1}{ &lt;script&gt; &amp; _x_ \n" in text


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
    assert (by_x[11.0]["n"], by_x[12.0]["n"], by_x[12.0]["lost"], by_x[20.0]["n"]) == (4, 3, 1, 3)
    (label,) = axes.get_legend_handles_labels()[1]
    assert label == "a (n = 4, 1 lost)"
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [
        line.get_xdata().tolist() if hasattr(line.get_xdata(), "tolist") else line.get_xdata() for line in dots
    ] == [[12.0]]
    thick, thin = (np.asarray(line.get_ydata()) for line in axes.lines[:2])
    assert np.isfinite(thick[:11]).all()
    assert np.isnan(thick[13:]).all()
    assert np.isfinite(thin[11:]).all()
    assert np.isnan(thin[:11]).all()


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


def test_target_curve_is_the_share_of_runs() -> None:
    runs = [([1, 2, 3], [3, 2, 0.1]), ([1, 2, 3], [3, 0.1, 0.1]), ([1, 2, 3], [3, 2, 1])]
    rows = target({"a": steps_to_target(runs, 0.5)}).rows
    assert [(r["x"], pytest.approx(r["share"])) for r in rows] == [(0.0, 0.0), (2.0, 1 / 3), (3.0, 2 / 3), (3.0, 2 / 3)]


def test_performance_profile_equals_its_definition() -> None:
    table = RNG.lognormal(size=(4, 7))
    table[1, 2], table[2, 5] = math.nan, math.inf
    costs = {f"o{i}": {f"t{j}": table[i, j] for j in range(7)} for i in range(4)}
    found = performance_profile(costs)
    for (i, (factors, shares)), factor in itertools.product(enumerate(found.values()), (1.0, 1.5, 3.0, 10.0)):
        ratios = [table[i, j] / np.nanmin(np.where(np.isfinite(table[:, j]), table[:, j], np.nan)) for j in range(7)]
        share = np.mean([math.isfinite(r) and r <= factor for r in ratios])
        reached = shares[factors <= factor]
        assert (reached[-1] if len(reached) else 0.0) == pytest.approx(share)


def test_a_profile_needs_positive_costs() -> None:
    with pytest.raises(ValueError, match="positive"):
        performance_profile({"a": {"cnn": 0.0}})


def test_stable_range_is_the_stretch_around_the_best() -> None:
    outcomes = {1e-4: 0.5, 1e-3: 0.105, 1e-2: 0.1, 1e-1: 0.109, 1.0: math.nan}
    found = sensitivity_of([(lr, v) for lr, v in outcomes.items() for _ in range(2)] + [(1e-4, 0.1), (1e-4, math.nan)])
    assert found.best == 1e-2
    assert found.stable == (1e-3, 1e-1)
    assert found.decades == pytest.approx(2.0)
    assert found.diverged == (1, 0, 0, 0, 2)
    assert found.n == (4, 2, 2, 2, 2)
    assert math.isinf(found.middle[-1])
    lost = sensitivity_of([(0.1, math.nan)])
    assert (lost.best, lost.stable, lost.decades) == (None, None, 0.0)


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


def test_data_are_written_as_csv(tmp_path: Path) -> None:
    plot = PLOTS["envelopes"]()
    plot.save_data(tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert len(rows) == len(plot.rows)
    assert float(rows[0]["centre"]) == plot.rows[0]["centre"]


def test_a_figure_of_another_format_is_refused(tmp_path: Path) -> None:
    plot: Plot = PLOTS["profile"]()
    with pytest.raises(UsageError, match=r"\.png, \.svg or \.pdf"):
        plot.save(tmp_path / "figure.gif")


def test_sections_stand_in_rows_and_say_their_own_n() -> None:
    panels = {"cnn": {"validation loss": {"a": curves(3), "b": curves(3)}}, "t": {"validation loss": {"a": curves(2)}}}
    plot = envelope_rows(panels)
    assert [axes.get_title(loc="left").strip() for axes in plot.figure.axes] == ["cnn", "t"]
    facts = {(r["section"], r["optimizer"], r["runs"]) for r in plot.rows}
    assert facts == {("cnn", "a", 3), ("cnn", "b", 3), ("t", "a", 2)}
    assert [text.get_text() for text in plot.figure.legends[0].get_texts()] == ["a", "b"]
    notes = [text.get_text() for axes in plot.figure.axes for text in axes.texts]
    assert notes == ["n: a 3, b 3", "n: a 2"]
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
    assert labels == ["a (n = 3, 1 lost)", "b (n = 1)"]


@pytest.mark.parametrize("seed", range(5))
def test_sensitivity_of_random_runs_equals_pandas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    settings = rng.choice([1e-4, 3e-4, 1e-3, 1e-2, 1e-1], 60)
    outcomes = rng.lognormal(size=60)
    outcomes[rng.random(60) < 0.3] = rng.choice([math.nan, math.inf])
    found = sensitivity_of(list(zip(settings.tolist(), outcomes.tolist(), strict=True)), tolerance=0.2)
    frame = pd.DataFrame({"lr": settings, "y": np.where(np.isfinite(outcomes), outcomes, np.inf)})
    groups = frame.groupby("lr").y
    assert not found.binned
    assert found.at.tolist() == list(groups.groups)
    np.testing.assert_allclose(found.middle, groups.median().to_numpy())
    assert list(found.n) == groups.count().tolist()
    assert list(found.diverged) == frame.groupby("lr").y.apply(lambda y: int(np.isinf(y).sum())).tolist()
    if found.best is not None and found.stable is not None:
        best = groups.median().min()
        inside = groups.median().loc[found.stable[0] : found.stable[1]]
        assert (inside <= 1.2 * best).all()
        beyond = [lr for lr in found.at if lr < found.stable[0]][-1:]
        beyond += [lr for lr in found.at if lr > found.stable[1]][:1]
        assert (groups.median().loc[beyond] > 1.2 * best).all()


def test_close_settings_are_pooled_in_thirds_of_a_decade() -> None:
    rng = np.random.default_rng(3)
    settings = 10 ** rng.uniform(-5, -1, 80)
    outcomes = rng.lognormal(size=80)
    found = sensitivity_of(list(zip(settings.tolist(), outcomes.tolist(), strict=True)))
    frame = pd.DataFrame({"lr": settings, "y": outcomes, "bin": np.round(3 * np.log10(settings))})
    assert found.binned
    np.testing.assert_allclose(found.middle, frame.groupby("bin").y.median())
    np.testing.assert_allclose(found.at, frame.groupby("bin").lr.median())
    assert sum(found.n) == 80
    assert found.stable is not None
    assert set(found.stable) <= set(settings)


@pytest.mark.parametrize("seed", range(5))
def test_random_profiles_equal_pandas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.lognormal(size=(6, 3)), columns=list("abc"))
    table[rng.random((6, 3)) < 0.25] = math.nan
    table.iloc[0, 0] = math.inf
    costs = {name: {str(task): value for task, value in table[name].items()} for name in table}
    rows = pd.DataFrame(profile(costs).rows)
    finite = table.replace(math.inf, math.nan)
    ratios = finite.div(finite.min(axis=1), axis=0)
    for name in table:
        expected = ratios[name].dropna().sort_values()
        own = rows[rows.optimizer == name]
        for factor in (1.0, 1.3, 2.0, 8.0):
            share = own[own.factor <= factor * (1 + 1e-12)].share.max()
            assert (0.0 if math.isnan(share) else share) == pytest.approx((expected <= factor * (1 + 1e-12)).sum() / 6)


def test_an_optimizer_without_a_success_has_a_row() -> None:
    rows = profile({"a": {"t": 1.0}, "b": {"t": math.nan}}).rows
    assert [r["share"] for r in rows if r["optimizer"] == "b"] == [0.0]


def test_names_of_axes_are_no_longer_than_their_panels() -> None:
    figure = envelope_rows({name: {"training loss (epoch mean)": {"a": curves()}} for name in "abcd"}).figure
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert axes.yaxis.label.get_window_extent().height <= axes.get_window_extent().height
