"""Performance against tuning budget, from replicated searches."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vrcli.stats.budget import after_trials


def test_means_over_searches() -> None:
    rng = np.random.default_rng(0)
    tables = {20: rng.random((5, 3)), 5: 1 + rng.random((5, 3)), 10: rng.random((5, 3))}
    found = after_trials(tables)
    assert (found.trials, found.searches) == ((5, 10, 20), 5)
    for index, trials in enumerate(found.trials):
        y = tables[trials].mean(axis=1)
        reference = stats.ttest_1samp(y, 0).confidence_interval()
        assert (found.mean[index], found.low[index], found.high[index]) == pytest.approx((y.mean(), *reference))
    assert found.diverged == (0, 0, 0)


@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_diverged_incumbent_is_worst(direction: str) -> None:
    table = np.arange(9.0).reshape(3, 3)
    table[1, :2] = math.nan  # most of its runs
    table[0, 0] = math.nan
    found = after_trials({8: table}, direction=direction)
    assert found.diverged == (1,)
    assert math.isnan(found.mean[0])
    assert found.median[0] == 7.0 if direction == "min" else found.median[0] == 1.0


def test_no_budgets() -> None:
    assert after_trials({}).trials == ()
