"""Is one optimizer better than another: the test, the interval that agrees with it, and a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations

import numpy as np

from vrcli.direction import sign_of
from vrcli.stats import inference as statistics
from vrcli.stats.exact import holm_rows
from vrcli.stats.inference import Array, Direction
from vrcli.stats.luck import tipping_point
from vrcli.stats.power import detectable_difference, seeds_needed

#: Pairs from which the exact sign-flip and signed-rank tests can reach 5%: 2^(1 - 6) = 0.031.
ENOUGH_PAIRS = 6


@dataclass(frozen=True)
class Comparison:
    """Two optimizers on one metric.

    The verdict rests on `p_holm`. `p` and `interval` come from one procedure at every n: Student's t on the paired
    differences, or Welch's where the seeds do not pair; the interval contains 0 exactly when p > 1 - level. Where runs
    diverged there is no mean, so an exact rank test decides and no interval is quoted.

    Args:
        a: first optimizer.
        b: second optimizer.
        metric: what was compared, in words.
        direction: whether smaller or larger is better.
        n: seeds of each (the smaller number where they differ).
        paired: whether the seeds are the same.
        diverged: runs of `a` and of `b` that diverged.
        difference: mean of `a` minus mean of `b`; NaN where a run diverged.
        interval: for the difference, at `level`, not adjusted for several comparisons.
        level: of the interval; 1 - level is the error rate of the verdict.
        p: two-sided p-value of `test`.
        p_holm: the same, adjusted for `family` comparisons.
        family: comparisons made together.
        test: name of the test.
        p_check: exact (or, for many seeds, resampled) permutation test of the same difference, as a check on `p`.
        wins: seeds in which `a` is better; of unpaired samples, 0.
        losses: seeds in which `b` is better.
        effect_size: d_z of pairs, Hedges' g otherwise; in the sign of `difference`.
        superiority: probability that a run of `a` is better than a run of `b`.
        lean: share of what `test` looks at that speaks for `a`, above a half where it finds `a` better: of the signed
            ranks, or of the pairs of unpaired runs; for the tests of means 1, 0 or a half.
        detectable: smallest true difference that n seeds show with probability 0.8 in so many comparisons, given the
            spread seen and that it is itself an estimate.
        seeds_needed: seeds that would show the observed difference with probability 0.8, likewise.
        bootstrap: interval for the difference that assumes no distribution (BCa), where it was asked for.
        error: standard error of `difference`.
        df: its degrees of freedom.
    """

    a: str
    b: str
    metric: str
    direction: Direction
    n: int
    paired: bool
    diverged: tuple[int, int]
    difference: float
    interval: tuple[float, float]
    level: float
    p: float
    p_holm: float
    family: int
    test: str
    p_check: float
    wins: int
    losses: int
    effect_size: float
    superiority: float
    lean: float
    detectable: float
    seeds_needed: int | None
    bootstrap: tuple[float, float] = (math.nan, math.nan)
    error: float = math.nan
    df: float = math.nan

    @property
    def tipping(self) -> float:
        """Where each optimizer's settings came out of one search, see `luck.tipping_point`."""
        # The level at which Holm tested this pair: significant exactly where p is not above it.
        alpha = (1 - self.level) * (self.p / self.p_holm if self.p_holm else 1.0)
        return tipping_point(self.difference, self.error, self.df, 1 - alpha)

    @property
    def significant(self) -> bool:
        return self.p_holm <= 1 - self.level

    @property
    def better(self) -> str | None:
        """The optimizer that is better, or None when no difference can be claimed."""
        if not self.significant:
            return None
        return self.a if self.lean > 0.5 else self.b

    @property
    def half_width(self) -> float:
        return (self.interval[1] - self.interval[0]) / 2


def compare(
    a: str,
    a_values: Sequence[float],
    b: str,
    b_values: Sequence[float],
    *,
    paired: bool,
    metric: str = "best val loss",
    direction: Direction = "min",
    level: float = 0.95,
    bootstrap: bool = False,
    tests: int = 1,
) -> Comparison:
    """Compare two optimizers on one metric.

    Args:
        a_values: one value per seed, NaN or infinite for a diverged run.
        b_values: likewise; in the same order of seeds when `paired`.
        bootstrap: compute that interval, too.
        tests: comparisons made together, for what can be detected; p is adjusted by `compare_all`.

    Raises:
        ValueError: paired samples of different lengths, or an empty sample.
    """
    if not len(a_values) or not len(b_values):
        raise ValueError(f"nothing to compare: {a} has {len(a_values)} runs, {b} has {len(b_values)}")
    if paired and len(a_values) != len(b_values):
        raise ValueError(f"paired samples must match: {a} has {len(a_values)} runs, {b} has {len(b_values)}")
    x, y = statistics.oriented(a_values, direction), statistics.oriented(b_values, direction)
    n = min(len(x), len(y))
    diverged = (int(np.isinf(x).sum()), int(np.isinf(y).sum()))
    if any(diverged):
        result = statistics.TResult(math.nan, math.nan, math.nan, math.nan)
        p, lean, test = _rank_test(x, y, paired)
        spread = effect = math.nan
        p_check = p
    else:
        result, test, spread, effect, p_check = _mean_test(x, y, paired, level)
        p, lean = result.p, float(np.heaviside(-result.difference, 0.5))
    resampled = (math.nan, math.nan)
    if bootstrap and not any(diverged):
        resampled = statistics.bca_interval(x - y if paired else x, None if paired else y, level)
    sign = sign_of(direction)
    low, high = sorted((sign * result.low, sign * result.high))
    least, most = sorted((sign * resampled[0], sign * resampled[1]))
    strictest, sd_df = 1 - (1 - level) / tests, n - 1 if paired else len(x) + len(y) - 2
    return Comparison(
        a=a,
        b=b,
        metric=metric,
        direction=direction,
        n=n,
        paired=paired,
        diverged=diverged,
        difference=sign * result.difference,
        interval=(low, high),
        level=level,
        p=p,
        p_holm=p,
        family=1,
        test=test,
        p_check=p_check,
        wins=int((x < y).sum()) if paired else 0,
        losses=int((x > y).sum()) if paired else 0,
        effect_size=sign * effect,
        superiority=statistics.superiority(x, y),
        lean=lean,
        detectable=detectable_difference(spread, n, paired=paired, level=strictest, sd_df=sd_df),
        seeds_needed=seeds_needed(result.difference, spread, paired=paired, level=strictest, sd_df=sd_df),
        bootstrap=(least, most),
        error=result.error,
        df=result.df,
    )


def _mean_test(x: Array, y: Array, paired: bool, level: float) -> tuple[statistics.TResult, str, float, float, float]:
    """Result, name, spread, effect size and check of the tests on means."""
    if paired:
        d = x - y
        result = statistics.paired_t(d, level)
        spread = result.error * math.sqrt(len(d))
        return result, "paired t", spread, statistics.paired_effect(d), statistics.sign_flip(d)
    result = statistics.welch(x, y, level)
    spread = statistics.pooled_sd(x, y) if result.error else 0.0
    return result, "Welch t", spread, statistics.hedges_g(x, y), statistics.permutation(x, y)


def p_of(x: Array, y: Array, paired: bool) -> float:
    """The p-value that `compare` would find, alone: for tables with many rows.

    Args:
        x: values with smaller better and +infinity for diverged runs, see `statistics.oriented`.
        y: likewise.
    """
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return _rank_test(x, y, paired)[0]
    return statistics.paired_t(x - y).p if paired else statistics.welch(x, y).p


def _rank_test(x: Array, y: Array, paired: bool) -> tuple[float, float, str]:
    """The rank test for samples with diverged runs: p, which way it leans, and its name.

    Few pairs cannot reach 5% by swapping labels within pairs, so below six the pairing is given up; seeds shared by
    both optimizers make the unpaired test stricter, not looser.
    """
    if paired and len(x) >= ENOUGH_PAIRS:
        return statistics.signed_rank(x, y), statistics.signed_rank_share(x, y), "signed rank, exact"
    lean = statistics.superiority(x, y)
    if min(len(x), len(y)) < 2:
        return math.nan, lean, "rank sum"
    return statistics.rank_sum(x, y), lean, "rank sum, exact"


def compare_all(
    groups: Mapping[str, Mapping[int, float]],
    *,
    metric: str = "best val loss",
    direction: Direction = "min",
    level: float = 0.95,
    bootstrap: bool = False,
) -> list[Comparison]:
    """Every pair of optimizers, with Holm's correction over all pairs.

    Args:
        groups: value by seed, by optimizer. Two optimizers with the same seeds are compared pair by pair; with other
            seeds, as independent samples, so that no run is dropped.
        bootstrap: compute each pair's bootstrap interval, too.
    """
    found = []
    tests = max(1, math.comb(len(groups), 2))
    pair = partial(compare, metric=metric, direction=direction, level=level, bootstrap=bootstrap, tests=tests)
    for a, b in combinations(groups, 2):
        paired = set(groups[a]) == set(groups[b])
        seeds_a = sorted(groups[a])
        seeds_b = seeds_a if paired else sorted(groups[b])
        values_a, values_b = [groups[a][s] for s in seeds_a], [groups[b][s] for s in seeds_b]
        found.append(pair(a, values_a, b, values_b, paired=paired))
    adjusted = statistics.holm([c.p for c in found])
    return [replace(c, p_holm=p, family=len(found)) for c, p in zip(found, adjusted, strict=True)]


def differ_from_best(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of rows that were each compared with the best one seen, in the given order.

    That row was chosen because it is best, so any pair might have come to be compared: a p counts against all pairs of
    the rows not yet told from the best, k (k - 1) / 2 for k of them with the best. As in Holm's procedure, a row that
    differs leaves the others fewer. A NaN (no test possible) stays NaN and is not counted.

    Simulated, the chance that any of 4 or 10 equal rows is wrongly said to differ stays below 5%, where Holm over k - 1
    tests makes it 7% and 12%. It needs p-values that hold: Welch's test of 2 values against 10 does not (9% in all).
    """
    adjusted: list[float] = holm_rows(np.asarray(p_values, dtype=np.float64), of_best=True).tolist()
    return adjusted
