"""Exact tests against every arrangement, and the adjustments against their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from vrcli.stats.exact import differences, doubled_ranks, flip_signs, holm_rows, signed_ranks


@pytest.mark.parametrize("ties", [False, True])
def test_signed_ranks_equal_the_enumeration_of_all_signs(ties: bool) -> None:
    rng = np.random.default_rng(0)
    d = rng.standard_normal((40, 6))
    if ties:
        d = np.round(2 * d) / 2
        d[rng.random(d.shape) < 0.2] = np.inf
    weights = signed_ranks(d)
    signs = np.array(list(itertools.product([0, 1], repeat=6)))
    for row, p in zip(weights, flip_signs(weights), strict=True):
        sums = signs @ np.abs(row)
        observed = row[row > 0].sum()
        assert p == min(1.0, 2 * min((sums <= observed).mean(), (sums >= observed).mean()))


@pytest.mark.parametrize("decimals", [8, 0])
def test_no_level_is_exceeded_with_ties(decimals: int) -> None:
    """Over all signs of any differences, p is at most alpha in at most alpha of them."""
    d = np.abs(np.round(np.random.default_rng(1).standard_normal(8), decimals))
    p = flip_signs(signed_ranks(np.array(list(itertools.product([-1.0, 1.0], repeat=8))) * d))
    for alpha in (0.01, 0.05, 0.1, 0.3):
        assert (p <= alpha).mean() <= alpha


def test_no_p_is_below_the_smallest_possible() -> None:
    for n in range(1, 10):
        assert flip_signs(np.arange(1, n + 1)[None])[0] == 2.0 ** (1 - n)


def test_two_diverged_replicates_are_a_tie() -> None:
    found = differences(np.array([np.inf, np.inf, 1.0]), np.array([np.inf, 1.0, np.inf]))
    assert found.tolist() == [0.0, np.inf, -np.inf]
    assert signed_ranks(found).tolist() == [0, 5, -5]


def test_ranks_equal_scipy() -> None:
    values = np.round(np.random.default_rng(2).standard_normal((7, 9)), 1)
    assert doubled_ranks(values).tolist() == (2 * stats.rankdata(values, axis=-1)).tolist()


def test_holm_by_rows_equals_its_definition() -> None:
    rng = np.random.default_rng(3)
    p = rng.random((200, 5)) ** 2
    p[rng.random(p.shape) < 0.2] = math.nan
    for row, found in zip(p, holm_rows(p), strict=True):
        known = np.sort(row[~np.isnan(row)])
        for value, adjusted in zip(row, found, strict=True):
            if math.isnan(value):
                assert math.isnan(adjusted)
            else:
                steps = [q * (len(known) - rank) for rank, q in enumerate(known) if q <= value]
                assert adjusted == pytest.approx(min(1.0, max(steps)))
