"""Envelopes against pandas and numpy on random curves with losses, gaps and unequal ends."""

from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vrcli.stats.curves import align, best_so_far, envelope, rescaled, thin, thin_envelope


def random_curves(seed: int, runs: int = 6, length: int = 40) -> list[tuple[np.ndarray, np.ndarray]]:
    """Unequal lengths, missing steps, NaN and infinities."""
    rng = np.random.default_rng(seed)
    curves = []
    for _ in range(runs):
        steps = np.sort(rng.choice(np.arange(1, length + 1), rng.integers(1, length), replace=False))
        values = rng.standard_normal(len(steps))
        values[rng.random(len(steps)) < 0.1] = np.nan
        values[rng.random(len(steps)) < 0.1] = np.inf
        values[rng.random(len(steps)) < 0.05] = -np.inf
        curves.append((steps, values))
    return curves


def frame(curves) -> tuple[pd.DataFrame, pd.Series]:
    """Runs as columns by step, without lost values; and the number of lost values by step."""
    columns = [pd.Series(y, index=x) for x, y in curves]
    table = pd.concat(columns, axis=1).sort_index()
    lost = sum(
        pd.Series(~np.isfinite(y), index=x).reindex(table.index, fill_value=False).astype(int) for x, y in curves
    )
    return table.replace([np.inf, -np.inf], np.nan), lost


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("band", ["sd", "ci", "minmax", "quantile"])
def test_envelope_equals_pandas(seed: int, band: str) -> None:
    curves = random_curves(seed, runs=1 + seed)
    table, lost = frame(curves)
    found = envelope(curves, band=band, level=0.9)
    n, sd = table.count(axis=1), table.std(axis=1)
    centre = table.mean(axis=1) if band != "quantile" else table.median(axis=1)
    if band == "sd":
        low, high = centre - sd, centre + sd
    elif band == "ci":
        reach = sd / np.sqrt(n) * stats.t.ppf(0.95, n - 1)
        low, high = centre - reach, centre + reach
    elif band == "minmax":
        low, high = table.min(axis=1), table.max(axis=1)
    else:
        low, high = table.quantile(0.05, axis=1), table.quantile(0.95, axis=1)
    assert found.x.tolist() == table.index.tolist()
    assert found.n.tolist() == n.tolist()
    assert found.nonfinite.tolist() == lost.tolist()
    for mine, theirs in ((found.centre, centre), (found.low, low), (found.high, high)):
        np.testing.assert_allclose(mine, theirs.to_numpy(), rtol=1e-12, atol=1e-12)


def test_one_run_has_a_line_and_no_band() -> None:
    found = envelope([([1, 2], [3.0, 4.0])], band="sd")
    assert found.centre.tolist() == [3.0, 4.0]
    assert np.isnan(found.low).all()
    assert found.n.tolist() == [1, 1]


def test_no_runs_and_empty_runs() -> None:
    for band in ("sd", "ci", "minmax", "quantile"):
        assert len(envelope([], band=band).x) == 0
        found = envelope([([], []), ([1], [math.nan])], band=band)
        assert np.isnan(found.centre).all()
        assert (found.runs, found.n.tolist(), found.nonfinite.tolist()) == (2, [0], [1])


def test_a_run_that_ended_is_not_carried_on() -> None:
    found = envelope([([1, 2, 3], [1.0, 1.0, 1.0]), ([1, 2], [3.0, math.inf])])
    assert found.n.tolist() == [2, 1, 1]
    assert found.nonfinite.tolist() == [0, 1, 0]
    assert found.centre.tolist() == [2.0, 1.0, 1.0]


def test_a_grid_interpolates_within_each_run_only() -> None:
    curves = [([0.0, 2.0, 4.0], [0.0, 2.0, 4.0]), ([1.0, 3.0], [10.0, 30.0]), ([0.0, 1.0, 2.0], [5.0, math.nan, 7.0])]
    at, table = align(curves, grid=[0.0, 1.0, 2.0, 3.5])
    assert at.tolist() == [0.0, 1.0, 2.0, 3.5]
    np.testing.assert_array_equal(table[0], [0.0, 1.0, 2.0, 3.5])
    np.testing.assert_array_equal(table[1], [np.nan, 10.0, 20.0, np.nan])
    np.testing.assert_array_equal(table[2], [5.0, np.inf, 7.0, np.nan])
    assert envelope(curves, grid=at).n.tolist() == [2, 2, 3, 1]


def test_forty_runs_of_2500_points_take_less_than_half_a_second() -> None:
    rng = np.random.default_rng(0)
    curves = [(np.arange(2500), rng.standard_normal(2500)) for _ in range(40)]
    for band in ("sd", "ci", "minmax", "quantile"):
        start = time.perf_counter()
        envelope(curves, band=band)
        assert time.perf_counter() - start < 0.5


def test_steps_become_epochs() -> None:
    assert rescaled([5, 10, 15, 20, 25], [10, 20], [1, 2]).tolist() == [0.5, 1.0, 1.5, 2.0, 2.5]
    assert rescaled([0, 10, 20], [10, 20], [3.0, 4.0]).tolist() == [0.0, 3.0, 4.0]
    assert np.isnan(rescaled([1, 2], [], [])).all()


def test_best_so_far_skips_lost_values() -> None:
    np.testing.assert_array_equal(best_so_far([math.nan, 3.0, math.inf, 2.0, 5.0]), [np.nan, 3.0, 3.0, 2.0, 2.0])
    np.testing.assert_array_equal(best_so_far([0.5, math.nan, 0.7, 0.6], "max"), [0.5, 0.5, 0.7, 0.7])


@given(
    st.lists(st.floats(-100, 100) | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=400),
    st.integers(8, 120),
)
@settings(deadline=None, max_examples=150, derandomize=True)
def test_thinning_keeps_ends_extremes_and_losses(y: list[float], most: int) -> None:
    kept = thin(y, most)
    values = np.array(y)
    assert len(kept) <= most or len(y) <= most
    assert kept[0] == 0
    assert kept[-1] == len(y) - 1
    assert (np.diff(kept) > 0).all()
    finite = values[np.isfinite(values)]
    if len(finite):
        thinned = values[kept][np.isfinite(values[kept])]
        assert thinned.min() == finite.min()
        assert thinned.max() == finite.max()
    assert np.isfinite(values).all() == np.isfinite(values[kept]).all()


def test_thinning_keeps_the_extremes_of_every_stretch() -> None:
    y = np.random.default_rng(1).standard_normal(10_000)
    kept = thin(y, 302)
    for start in range(0, 10_000, 100):
        part = kept[(kept >= start) & (kept < start + 100)]
        assert y[part].max() == y[start : start + 100].max()
        assert y[part].min() == y[start : start + 100].min()


def test_a_thinned_envelope_keeps_its_range() -> None:
    rng = np.random.default_rng(0)
    found = envelope([(np.arange(5000), rng.standard_normal(5000)) for _ in range(5)])
    small = thin_envelope(found, 300)
    assert len(small.x) <= 300
    assert small.low.min() == found.low.min()
    assert small.high.max() == found.high.max()
    assert set(small.x) <= set(found.x)
    assert thin_envelope(small, 300) is small


def test_the_interval_of_a_mean_is_over_units() -> None:
    rng = np.random.default_rng(3)
    table = rng.random((6, 4)) + 0.5
    table[4, 3] = np.nan
    units = ["a", "a", "b", "b", "c", "c"]
    found = envelope([(np.arange(4), row) for row in table], band="ci", units=units)
    means = np.array([np.nanmean(table[i : i + 2], axis=0) for i in (0, 2, 4)])
    low, high = stats.t.interval(0.95, 2, means.mean(0), stats.sem(means))
    np.testing.assert_allclose(found.centre, means.mean(0))
    np.testing.assert_allclose([found.low, found.high], [low, high])
    assert (found.units, found.runs, found.n.tolist()) == (3, 6, [6, 6, 6, 5])


def test_an_interval_of_logarithms_stays_positive() -> None:
    table = np.array([[0.001, 1.0], [2.0, 1.1], [0.5, 0.9]])
    curves = [(np.arange(2), row) for row in table]
    assert envelope(curves, band="ci").low[0] < 0
    found = envelope(curves, band="ci", logs=True)
    low, high = stats.t.interval(0.95, 2, np.log(table).mean(0), stats.sem(np.log(table)))
    np.testing.assert_allclose([found.low, found.high], np.exp([low, high]))
    np.testing.assert_allclose(found.centre, stats.gmean(table))
    assert (found.low > 0).all()
