"""Power against the textbook's numbers and against simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import special

from vrcli.stats import power


@pytest.mark.parametrize(
    ("effect", "paired", "seeds"),
    # Cohen 1988 / G*Power, two-sided 5%, power 0.8
    [(0.5, True, 34), (0.2, True, 199), (0.2, False, 394), (0.5, False, 64), (0.8, False, 26), (1.0, False, 17)],
)
def test_seeds_needed_equal_the_tables(effect: float, paired: bool, seeds: int) -> None:
    assert power.seeds_needed(effect, 1.0, paired=paired) == seeds
    assert power.seeds_needed(-3 * effect, 3.0, paired=paired) == seeds


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_power_equals_simulation(n: int, paired: bool) -> None:
    effect, rng = 1.2, np.random.default_rng(n)
    x = effect + rng.standard_normal((40_000, n))
    if paired:
        t, df = x.mean(1) / (x.std(1, ddof=1) / math.sqrt(n)), n - 1
    else:  # Welch
        y = rng.standard_normal((40_000, n))
        vx, vy = x.var(1, ddof=1), y.var(1, ddof=1)
        t = (x.mean(1) - y.mean(1)) / np.sqrt((vx + vy) / n)
        df = (n - 1) * (vx + vy) ** 2 / (vx**2 + vy**2)
    simulated = float((np.abs(t) > special.stdtrit(df, 0.975)).mean())
    assert power.power_of(effect, n, paired=paired) == pytest.approx(simulated, abs=0.01)


@pytest.mark.parametrize("n", [2, 3, 10, 50])
@pytest.mark.parametrize("paired", [True, False])
def test_detectable_difference_is_found_with_the_stated_power(n: int, paired: bool) -> None:
    found = power.detectable_difference(2.0, n, paired=paired)
    assert power.power_of(found / 2.0, n, paired=paired) == pytest.approx(0.8, abs=1e-6)
    assert power.seeds_needed(found * (1 + 1e-6), 2.0, paired=paired) == n


@pytest.mark.parametrize("tests", [1, 6])
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_what_the_spread_seen_lets_detect_is_detected_so_often(n: int, paired: bool, tests: int) -> None:
    """The sd comes from one experiment, the runs that should show the difference from another: 0.8 over both."""
    count, level, rng = 40_000, 1 - 0.05 / tests, np.random.default_rng(n)
    sd_df = n - 1 if paired else 2 * n - 2
    seen = np.sqrt(rng.chisquare(sd_df, count) / sd_df)
    true = seen * power.detectable_difference(1.0, n, paired=paired, level=level, sd_df=sd_df)
    x, df = true[:, None] + rng.standard_normal((count, n)), n - 1
    error = x.var(1, ddof=1) / n
    if not paired:
        y = rng.standard_normal((count, n))
        vx, vy = error, y.var(1, ddof=1) / n
        x, error, df = x - y.mean(1, keepdims=True), vx + vy, (n - 1) * (vx + vy) ** 2 / (vx**2 + vy**2)
    found = np.abs(x.mean(1)) > special.stdtrit(df, 0.5 + level / 2) * np.sqrt(error)
    assert found.mean() == pytest.approx(0.8, abs=0.01)
    known = power.detectable_difference(1.0, n, paired=paired, level=level)
    assert known < true.mean() / seen.mean()  # taken for known, the same sd promises more than it keeps
    needed = power.seeds_needed(float(true[0] / seen[0]) * (1 + 1e-6), 1.0, paired=paired, level=level, sd_df=sd_df)
    assert needed == n


def test_power_rises_with_the_effect_to_one() -> None:
    for n in (2, 3, 5, 20, 200):
        curve = [power.power_of(e, n, paired=True) for e in np.geomspace(1e-3, 1e4, 200)]
        assert all(b >= a - 1e-9 for a, b in itertools.pairwise(curve))
        assert curve[0] == pytest.approx(0.05, abs=0.01)
        assert curve[-1] == pytest.approx(1.0, abs=1e-3)


def test_questions_without_an_answer() -> None:
    assert math.isnan(power.detectable_difference(1.0, 1, paired=True))
    assert math.isnan(power.detectable_difference(math.nan, 5, paired=True))
    assert math.isnan(power.detectable_difference(0.0, 5, paired=True))
    assert power.seeds_needed(0.0, 1.0, paired=True) is None
    assert power.seeds_needed(1e-6, 1.0, paired=True) is None
    assert power.seeds_needed(math.nan, 1.0, paired=True) is None
    assert power.seeds_needed(0.1, 0.0, paired=True) is None
