"""What decides a replicated comparison, for many comparisons at once.

`replicates.compare_replicates` uses it for one; simulations of its error rates and power use it for thousands. Values
are oriented: smaller is better, +infinity is a diverged run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from vrcli.stats.exact import differences, flip_signs, holm_rows, signed_ranks
from vrcli.stats.inference import Array, rank_sum, superiority, without_spread
from vrcli.stats.sequential import Looks


@dataclass(frozen=True)
class Plan:
    """What is tested, fixed before the values are known.

    Args:
        pairs: places of the two optimizers of each test; the primary one first where there is one.
        alpha: error rate of all claims together.
        primary: whether the first pair is tested alone, before the others.
        margin: within which two count as equal; NaN for none.
        relative: the margin is a share of the mean of both means.
        looks: the planned looks, or None for one.
        unpaired_ranks: see `replicates.compare_replicates`.
    """

    pairs: Sequence[tuple[int, int]]
    alpha: float = 0.05
    primary: bool = False
    margin: float = math.nan
    relative: bool = False
    looks: Looks | None = None
    unpaired_ranks: bool = False

    @property
    def tests(self) -> list[int]:
        """For each pair, by how many tests Holm divides alpha where it is strictest."""
        every = len(self.pairs)
        return [1] + [every - 1] * (every - 1) if self.primary else [every] * every


@dataclass(frozen=True)
class PairTests:
    """Tests at one number of replicates: rows are comparisons, columns pairs, and d is (rows, pairs, K).

    Args:
        d: difference of each replicate.
        ranked: whether ranks decide, because a run of one of the two diverged.
        unpaired: whether they do so without the pairing.
        mean: of d; NaN where ranks decide. The same holds for `error` and `p_equal`.
        error: standard error of the mean.
        lean: below 0 where the test favours the first of the pair.
        p: two-sided.
        margin: absolute, NaN without one.
        p_equal: of two one-sided tests that the difference is outside the margin.
    """

    d: Array
    ranked: NDArray[np.bool_]
    unpaired: NDArray[np.bool_]
    mean: Array
    error: Array
    lean: Array
    p: Array
    margin: Array
    p_equal: Array


@dataclass(frozen=True)
class Decisions:
    """Tests, with the other looks accounted for, and adjusted for the tests made: all (rows, pairs)."""

    tests: PairTests
    p_looks: Array
    p_adjusted: Array
    p_equal: Array
    p_equal_adjusted: Array


def decide(values: Array, plan: Plan) -> Decisions:
    """Test every pair of every comparison.

    Args:
        values: (rows, optimizers, K, m), oriented.
    """
    searches = values.shape[2]
    sizes = [size for size in plan.looks.sizes if size <= searches] if plan.looks else [searches]
    looks = [pair_tests(values[:, :, :size], plan) for size in sizes]
    p, p_equal = _over_looks(looks, plan.looks) if plan.looks else (looks[-1].p, looks[-1].p_equal)
    gate = np.fmin(p, p_equal)[:, :1]
    return Decisions(looks[-1], p, _adjusted(p, gate, plan.primary), p_equal, _adjusted(p_equal, gate, plan.primary))


def _adjusted(p: Array, gate: Array, primary: bool) -> Array:
    """Holm; after a primary pair, which is tested at the whole level, the others count only once it is decided."""
    if not primary:
        return holm_rows(p)
    return np.concatenate([p[:, :1], np.maximum(gate, holm_rows(p[:, 1:]))], axis=1)


def _over_looks(looks: Sequence[PairTests], planned: Looks) -> tuple[Array, Array]:
    """p and p_equal with all looks accounted for; ranks, of which few replicates say nothing, wait for the last."""
    ranked = np.stack([look.ranked for look in looks], axis=-1)
    p = np.stack([look.p for look in looks], axis=-1)
    found = planned.overall(np.where(ranked | np.isnan(p), 1.0, p))
    if len(looks) == len(planned.sizes):
        last = looks[-1]
        found = np.where(last.ranked, np.minimum(found, planned.at_last(last.p)), found)
    equal = np.stack([look.p_equal for look in looks], axis=-1)
    # A one-sided test is half a two-sided one.
    p_equal = planned.overall(np.where(np.isnan(equal), 1.0, np.minimum(2 * equal, 1.0))) / 2
    return found, np.where(np.isnan(looks[-1].p_equal), np.nan, p_equal)


def pair_tests(values: Array, plan: Plan) -> PairTests:
    """Test every pair of every comparison once, without regard to other tests.

    Args:
        values: (rows, optimizers, K, m), oriented.
    """
    searches = values.shape[2]
    first, second = (np.array([pair[side] for pair in plan.pairs]) for side in (0, 1))
    diverged = np.asarray(np.isinf(values).any(axis=(2, 3)))
    ranked: NDArray[np.bool_] = diverged[:, first] | diverged[:, second]
    means, medians = centres(values, "mean"), centres(values, "median")
    a, b = (
        np.where(ranked[..., None], medians[:, side], means[:, side]) for side in (first, second)
    )  # (rows, pairs, K)
    d = differences(a, b)
    mean, error, p = _t_tests(np.where(ranked[..., None], np.nan, d))
    ranks = signed_ranks(d[ranked])
    p[ranked] = flip_signs(ranks) if searches > 1 else np.nan
    lean = np.array(mean)
    lean[ranked] = ranks.sum(axis=-1)
    too_few = np.array([replicates_needed(plan.alpha / tests) > searches for tests in plan.tests])
    unpaired = ranked & (too_few & plan.unpaired_ranks)
    for at in zip(*np.nonzero(unpaired), strict=True):
        p[at], lean[at] = rank_sum(a[at], b[at]), superiority(b[at], a[at]) - 0.5
    margin = np.full_like(mean, plan.margin)
    if plan.relative:
        margin *= np.abs(a.mean(axis=-1) + b.mean(axis=-1)) / 2
    p_equal = np.where(np.isnan(p), np.nan, _one_sided(margin - np.abs(mean), error, searches))
    return PairTests(d, ranked, unpaired, mean, error, lean, p, margin, p_equal)


def centres(values: Array, centre: Literal["mean", "median"]) -> Array:
    """One value per replicate (..., K) of its runs (..., K, m).

    The median counts diverged runs as worst. It is infinite once more than half of them diverged; where it would fall
    between a number and a diverged run, it is the number.
    """
    if centre == "mean":
        return np.asarray(values.mean(axis=-1))
    ordered, seeds = np.sort(values, axis=-1), values.shape[-1]
    low, high = ordered[..., (seeds - 1) // 2], ordered[..., seeds // 2]
    return np.where(np.isinf(high), low, (low + high) / 2)


def replicates_needed(alpha: float, *, paired: bool = True) -> int:
    """Replicates from which the exact signed-rank test (or the unpaired rank-sum test) can reach a level.

    Its smallest p, two of all arrangements, is 2^(1 - K), or 2 / C(2K, K).
    """
    return next(k for k in count(2) if 2 / (2**k if paired else math.comb(2 * k, k)) <= alpha)


def _t_tests(d: Array) -> tuple[Array, Array, Array]:
    """Mean, standard error and two-sided p of each row of differences (..., K).

    p is NaN for one replicate, and where replicates differ without any spread.
    """
    searches = d.shape[-1]
    mean = d.mean(axis=-1)
    if searches < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    error = d.std(axis=-1, ddof=1) / math.sqrt(searches)
    p = np.minimum(1.0, 2 * _one_sided(np.abs(mean), error, searches))
    untold = np.where(mean == 0, 1.0, np.nan)
    still = without_spread(mean, error)
    return mean, np.where(still, 0.0, error), np.where(still, untold, p)


def _one_sided(distance: Array, error: Array, searches: int) -> Array:
    """p of a t statistic."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(special.stdtr(searches - 1, -distance / error))
