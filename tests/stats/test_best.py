"""Rows that are said to differ from the best one seen: how often wrongly."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import special

sys.path.insert(0, str(Path(__file__).parent))
from simulated import Array, at_most

from vrcli.stats.comparison import differ_from_best
from vrcli.stats.decide import _t_tests
from vrcli.stats.exact import holm_rows

COUNT = 5000
SIZES = (3, 5, 10, 4, 8, 3, 5, 10, 6, 7)


def against_the_best(values: Array, sizes: tuple[int, ...], paired: bool) -> tuple[Array, Array]:
    """p of each row (count, rows) against the smallest mean, NaN for that one, and which it is."""
    n = np.array(sizes)
    used = np.arange(values.shape[2]) < n[:, None]
    mean = np.where(used, values, 0).sum(axis=2) / n
    best, all_rows = mean.argmin(axis=1), np.arange(len(values))
    if paired:
        p = _t_tests(values - values[all_rows, best][:, None])[2]
    else:  # Welch
        v = np.where(used, (values - mean[..., None]) ** 2, 0).sum(axis=2) / (n - 1) / n
        v_best = v[all_rows, best][:, None]
        df = (v + v_best) ** 2 / (v**2 / (n - 1) + v_best**2 / (n[best] - 1)[:, None])
        p = 2 * special.stdtr(df, -np.abs(mean - mean[all_rows, best][:, None]) / np.sqrt(v + v_best))
    p[all_rows, best] = math.nan
    return p, best


@pytest.mark.parametrize("rows", [4, 10])
@pytest.mark.parametrize(
    ("sizes", "paired", "uneven"),
    [((5,) * 10, True, False), ((10,) * 10, True, False), ((5,) * 10, False, False), (SIZES, False, False),
     (SIZES, False, True)],
    ids=["5 pairs", "10 pairs", "5 each", "unequal n", "unequal n and variance"],
)  # fmt: skip
def test_equal_rows_are_told_from_the_best_in_at_most_one_of_twenty_tables(
    rows: int, sizes: tuple[int, ...], paired: bool, uneven: bool
) -> None:
    rng = np.random.default_rng(rows)
    values = rng.standard_normal((COUNT, rows, max(sizes[:rows])))
    values *= np.geomspace(0.5, 2, rows)[:, None] if uneven else 1.0
    values += rng.standard_normal((COUNT, 1, values.shape[2])) if paired else 0.0
    p, _ = against_the_best(values, sizes[:rows], paired)
    assert (holm_rows(p, of_best=True) <= 0.05).any(axis=1).mean() <= at_most(0.05, COUNT)
    if paired:  # tested as if the best one had been named beforehand
        assert (holm_rows(p) <= 0.05).any(axis=1).mean() > 0.065


@pytest.mark.parametrize("rows", [4, 10])
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("worse", [1.5, 30.0])
def test_so_it_is_where_half_the_rows_are_worse(rows: int, paired: bool, worse: float) -> None:
    rng = np.random.default_rng(rows)
    group = np.arange(rows) >= rows // 2
    values = rng.standard_normal((COUNT, rows, 8)) + worse * group[:, None]
    p, best = against_the_best(values, (8,) * rows, paired)
    told = holm_rows(p, of_best=True) <= 0.05
    alike = group[None] == group[best][:, None]
    assert (told & alike).any(axis=1).mean() <= at_most(0.05, COUNT)
    if worse > 10:
        assert told[~alike].mean() > 0.99


def test_each_step_counts_the_pairs_of_the_rows_that_are_left() -> None:
    found = differ_from_best([0.02, math.nan, 0.001, 0.3])
    assert found == [
        pytest.approx(0.06),
        pytest.approx(math.nan, nan_ok=True),
        pytest.approx(0.006),
        pytest.approx(0.3),
    ]
    assert differ_from_best([0.04]) == [0.04]
    assert differ_from_best([]) == []
