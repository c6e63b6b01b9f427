"""Performance profiles against their definition."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vrcli.report.figures import profile as profile_figure
from vrcli.report.figures.text import Page
from vrcli.stats.profiles import performance_profile

sys.path.insert(0, str(Path(__file__).parent))
from samples import RNG, line, profile


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


def test_a_profile_quotes_shares_at_factors() -> None:
    costs = {"a": {"s": 1.0, "t": 3.0}, "b": {"s": 1.04, "t": 1.0}, "c": {"s": math.nan, "t": math.nan}}
    text = profile_figure.text(profile(costs).rows, Page(), "loss")
    assert line(text, "a") == ["a", "50%", "50%", "50%", "50%", "100%"]
    assert line(text, "b") == ["b", "50%", "100%", "100%", "100%", "100%"]
    assert line(text, "c") == ["c", "0%", "0%", "0%", "0%", "0%"]
