"""The luck of the search: intervals that hold, layouts that are cheapest, and the tipping point."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from simulated import draw

from vrcli.stats.comparison import compare, compare_all
from vrcli.stats.inference import t_quantile, welch
from vrcli.stats.luck import luck_of, next_layout, tipping_point
from vrcli.stats.power import detectable_difference, power_of


@pytest.mark.parametrize("tau", [0.4, 2.0])
def test_the_intervals_hold_the_truth(tau: float) -> None:
    found = [luck_of(table) for table in draw(1500, 1, 5, 3, tau=tau, seed=1)[:, 0]]
    share = tau**2 / (tau**2 + 1 / 3)
    held = np.mean([one.share_interval[0] <= share <= one.share_interval[1] for one in found])
    assert held == pytest.approx(0.95, abs=0.015)
    assert np.mean([one.tau_interval[0] <= tau <= one.tau_interval[1] for one in found]) >= 0.94
    assert np.mean([one.sigma**2 for one in found]) == pytest.approx(1.0, abs=0.05)


def test_five_searches_often_cannot_tell() -> None:
    told = [luck_of(table).told for table in draw(500, 1, 5, 3, seed=2)[:, 0]]
    assert np.mean(told) < 0.7
    many = luck_of(draw(1, 1, 200, 5, tau=2.0, seed=2)[0, 0])
    assert many.told
    assert many.most
    assert many.tau == pytest.approx(2.0, abs=0.3)
    none = luck_of(draw(1, 1, 200, 5, tau=0.0, seed=3)[0, 0])
    assert none.told
    assert not none.most


def test_what_cannot_be_taken_apart() -> None:
    for table in (np.ones((5, 1)), np.ones((1, 3)), np.array([[1.0, 2.0], [np.nan, 1.0]])):
        found = luck_of(table)
        assert math.isnan(found.tau)
        assert not found.told
        assert math.isnan(found.best_seeds(20))
    still = luck_of(np.repeat([[1.0], [2.0], [4.0]], 3, axis=1))
    assert (still.sigma, still.share, still.share_interval) == (0.0, 1.0, (1.0, 1.0))
    assert luck_of(np.ones((3, 3))).tau == 0.0


def test_the_best_number_of_seeds_is_the_known_formula() -> None:
    found = next_layout(0.2, 1.0, 0.4, trials=20)  # so many searches that degrees of freedom do not matter
    assert found is not None
    luck = luck_of(draw(1, 1, 4000, 40, seed=4)[0, 0])
    assert luck.best_seeds(20) == pytest.approx(1 / 0.4 * math.sqrt(29), rel=0.1)
    assert found.seeds == pytest.approx(1 / 0.4 * math.sqrt(29), abs=1)
    assert found.runs == found.searches * (29 + found.seeds)


def test_no_layout_of_the_same_power_is_cheaper() -> None:
    found = next_layout(1.5, 1.0, 0.4, trials=8, tests=6)
    assert found is not None
    assert found.power >= 0.8
    for seeds in range(1, 30):
        searches = (found.runs - 1) // (17 + seeds)
        effect = 1.5 / math.sqrt(2 * (0.16 + 1 / seeds))
        assert power_of(effect, searches, paired=True, level=1 - 0.05 / 6) < 0.8
    assert next_layout(0.0, 1.0, 0.4, trials=8) is None


def test_at_the_tipping_point_the_interval_reaches_zero() -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 10))
    found = welch(a, b + 3)
    tau = tipping_point(found.difference, found.error, found.df)
    assert tau > 0
    assert abs(found.difference) == pytest.approx(t_quantile(found.df, 0.95) * math.sqrt(found.error**2 + 2 * tau**2))
    assert tipping_point(0.1, 1.0, 9) == 0.0
    assert math.isnan(tipping_point(math.nan, 1.0, 9))


def test_a_comparison_of_settings_knows_its_tipping_point() -> None:
    """It is above 0 exactly where the verdict is, after Holm, too; and what is detectable counts the tests."""
    rng = np.random.default_rng(1)
    for shift in np.linspace(0, 3, 40):
        groups = {name: dict(enumerate(rng.standard_normal(6) + shift * place)) for place, name in enumerate("abc")}
        for found in compare_all(groups):
            assert (found.tipping > 0) == found.significant
    assert found.detectable == pytest.approx(
        detectable_difference(1.0, 6, paired=True, level=1 - 0.05 / 3, sd_df=5) * found.difference / found.effect_size
    )
    lost = compare("a", [1.0, math.nan, 2.0], "b", [1.0, 2.0, 3.0], paired=False)
    assert math.isnan(lost.tipping)
