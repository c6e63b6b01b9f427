"""Is one optimizer better than another, when the whole protocol is the unit of replication.

A replicate is one independent search and the m fresh runs of its winner; K replicates stand behind each optimizer, and
replicate k uses the same seeds for all of them. The values of one replicate share the luck of its search, so they are
one observation: y(k), their mean. Two optimizers are compared by d(k) = y_a(k) - y_b(k), with K - 1 degrees of freedom
(Student's t). Where a run of either diverged there is no mean: y(k) is the median with diverged runs as worst, and an
exact signed-rank test of d decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Literal

import numpy as np

from vrcli.direction import sign_of
from vrcli.stats.decide import Decisions, Plan, centres, decide, replicates_needed
from vrcli.stats.exact import flip_signs
from vrcli.stats.inference import Array, Direction, holm, oriented, summary, t_quantile
from vrcli.stats.luck import Luck, luck_of
from vrcli.stats.power import detectable_difference, power_of, seeds_needed
from vrcli.stats.sequential import Looks


class Verdict(StrEnum):
    """What can be said of a pair (a, b), in words about a."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal within the margin"
    UNDECIDED = "undecided"
    #: Whatever the values, the exact rank test of so few replicates cannot speak: see `Pair.needs`.
    MORE = "needs more replicates"


@dataclass(frozen=True)
class Replicated:
    """One optimizer over its replicates.

    Args:
        name: of the optimizer.
        y: one value per replicate, see `centre`; NaN where the replicate diverged (most of its runs did).
        centre: what y is of its runs: their mean, or, once one of them diverged, their median with diverged as worst.
        mean: of y; NaN once a replicate diverged. The same holds for `low` and `high`.
        low: lower end of the t interval for the mean, K - 1 degrees of freedom.
        high: upper end.
        median: of y with diverged replicates as worst; NaN where it falls among them.
        seeds: m, fresh runs per replicate.
        diverged: runs that diverged, by replicate.
        luck: how much of the spread of y is luck of the search.
    """

    name: str
    y: tuple[float, ...]
    centre: Literal["mean", "median"]
    mean: float
    low: float
    high: float
    median: float
    seeds: int
    diverged: tuple[int, ...]
    luck: Luck

    @property
    def searches(self) -> int:
        return len(self.y)

    @property
    def diverged_share(self) -> float:
        """Share of the runs that diverged."""
        return sum(self.diverged) / (self.searches * self.seeds)

    @property
    def diverged_replicates(self) -> int:
        return sum(2 * count > self.seeds for count in self.diverged)


@dataclass(frozen=True)
class Pair:
    """Two optimizers over the replicates.

    Args:
        a: first optimizer.
        b: second optimizer; with `against`, that one.
        secondary: a primary pair was declared and this is another one.
        test: "paired t", "signed rank, exact" or "rank sum, exact".
        d: y_a - y_b by replicate; infinite where only one of the two diverged, 0 where both did.
        difference: mean of d; NaN where ranks decide. The same holds for both intervals.
        interval: t interval for the difference at `level`; with looks, the repeated interval of this look.
        simultaneous: wider, so that all intervals of the comparison hold together (Bonferroni over `tests`).
        level: 1 - level is the error rate of all verdicts of the comparison together.
        p: two-sided, of `test` at this number of replicates.
        p_looks: the same with the other looks accounted for; equals p where there is one look.
        p_holm: p_looks adjusted for the tests made; the verdict rests on it.
        tests: tests that p is adjusted for.
        strictest: p that decides even where Holm is strictest, at the last look: (1 - level) / tests with one look.
        wins: replicates in which a is better.
        losses: replicates in which b is better.
        sd: standard deviation of d; NaN where ranks decide.
        detectable: true difference that the planned number of searches shows with probability 0.8, in so many tests,
            given the spread seen and that it is itself an estimate.
        needed: searches that would show `difference` with probability 0.8; None where no sensible number would.
        needs: searches from which the exact rank test can reach the level in so many tests; None where ranks do not
            decide.
        margin: within which a and b count as equal, in units of the metric; NaN where none was declared.
        p_equal: of two one-sided tests that the difference is outside the margin, with looks accounted for.
        p_equal_holm: the same, adjusted for the tests made.
        diverged: share of the runs of a and of b that diverged.
        p_diverged: exact test that both diverge equally often, with replicates as units; 1 where nothing diverged.
        p_diverged_holm: the same, adjusted over the pairs.
        verdict: about a.
    """

    a: str
    b: str
    secondary: bool
    test: str
    d: tuple[float, ...]
    difference: float
    interval: tuple[float, float]
    simultaneous: tuple[float, float]
    level: float
    p: float
    p_looks: float
    p_holm: float
    tests: int
    strictest: float
    wins: int
    losses: int
    sd: float
    detectable: float
    needed: int | None
    needs: int | None
    margin: float
    p_equal: float
    p_equal_holm: float
    diverged: tuple[float, float]
    p_diverged: float
    p_diverged_holm: float
    verdict: Verdict

    @property
    def searches(self) -> int:
        return len(self.d)

    @property
    def half_width(self) -> float:
        return (self.interval[1] - self.interval[0]) / 2

    @property
    def better(self) -> str | None:
        """The optimizer that is better, or None when no difference can be claimed."""
        return {Verdict.BETTER: self.a, Verdict.WORSE: self.b}.get(self.verdict)

    @property
    def equal(self) -> bool:
        """Whether the two are equal within the margin; a pair can be that and different, too."""
        return self.p_equal_holm <= 1 - self.level

    def power(self, difference: float, searches: int | None = None) -> float:
        """Probability that so many searches (default: as many as here) show a true difference, in so many tests.

        NaN where ranks decide.
        """
        if not self.sd > 0:
            return math.nan
        n = searches or self.searches
        return power_of(difference / self.sd, n, paired=True, level=1 - self.strictest, sd_df=self.searches - 1)

    def searches_needed(self, difference: float) -> int | None:
        """Searches that show a true difference with probability 0.8, in so many tests; None where no number does."""
        return seeds_needed(difference, self.sd, paired=True, level=1 - self.strictest, sd_df=self.searches - 1)


@dataclass(frozen=True)
class Comparison:
    """Optimizers compared over independent searches.

    Args:
        metric: what was compared, by name.
        direction: whether smaller or larger is better.
        level: 1 - level is the error rate of all verdicts together.
        optimizers: in the given order.
        pairs: the tests made; the primary one first where it was declared.
        against: the optimizer all were compared with, or None.
        primary: the declared pair, or None.
        looks: the planned looks, or None for one.
        look: which of them this is, from 1.
    """

    metric: str
    direction: Direction
    level: float
    optimizers: tuple[Replicated, ...]
    pairs: tuple[Pair, ...]
    against: str | None
    primary: tuple[str, str] | None
    looks: Looks | None
    look: int


def compare_replicates(
    values: Mapping[str, Array],
    *,
    metric: str,
    direction: Direction = "min",
    level: float = 0.95,
    against: str | None = None,
    primary: tuple[str, str] | None = None,
    margin: float | None = None,
    relative: bool = False,
    looks: Looks | None = None,
    unpaired_ranks: bool = False,
) -> Comparison:
    """Compare optimizers over replicates of the whole protocol.

    The tests made are all pairs; with `against`, each other optimizer with that one. They are adjusted by Holm. A
    `primary` pair is tested first, at the full level; the others may be claimed only once it has been decided (fixed
    sequence, then Holm among them), so that all claims together keep the level.

    Args:
        values: by optimizer (K, m): m fresh runs of the winner of each of K independent searches; NaN or infinite for
            a diverged run. The same K and m for all.
        against: the optimizer that all others are compared with.
        primary: the pair that counts, declared before anything ran.
        margin: adds the verdict "equal within the margin", by two one-sided tests.
        relative: the margin is a share of the mean of the two optimizers' means.
        looks: the planned looks, of which this is the one whose number of searches is K.
        unpaired_ranks: where ranks decide and the signed ranks of K replicates cannot reach the level, take the exact
            rank-sum test instead: it gives up the pairing, which makes it stricter where shared seeds make the two
            alike, and reaches the level from four replicates on (six pairs: five).

    Raises:
        ValueError: fewer than two optimizers, arrays of different shapes, an unknown name, a margin that is not
            positive, or a K that is not a look.
    """
    names = list(values)
    sign = sign_of(direction)
    tables = np.stack([oriented(np.asarray(values[name]), direction) for name in names]) if _alike(values) else None
    if tables is None or (looks and tables.shape[1] not in looks.sizes):
        shapes = {name: np.shape(table) for name, table in values.items()}
        at = f", with a K of {looks.sizes}" if looks else ""
        raise ValueError(f"needs two optimizers or more with values (K, m) of one shape{at}; got {shapes}")
    if margin is not None and not margin > 0:
        raise ValueError(f"a margin must be positive, got {margin}")
    plan = Plan(
        pairs=[(names.index(a), names.index(b)) for a, b in pairs_of(names, against, primary)],
        alpha=1 - level,
        primary=primary is not None,
        margin=math.nan if margin is None else margin,
        relative=relative,
        looks=looks,
        unpaired_ranks=unpaired_ranks,
    )
    found = decide(tables[None], plan)
    diverged = np.isinf(tables).sum(axis=2)  # (optimizers, K)
    p_diverged = [float(flip_signs((diverged[a] - diverged[b])[None])[0]) for a, b in plan.pairs]
    shares = zip(p_diverged, holm(p_diverged), strict=True)
    pairs = [
        _pair(index, names, plan, found, sign, diverged / tables.shape[2], share) for index, share in enumerate(shares)
    ]
    return Comparison(
        metric=metric,
        direction=direction,
        level=level,
        optimizers=tuple(_replicated(name, table, sign, level) for name, table in zip(names, tables, strict=True)),
        pairs=tuple(pairs),
        against=against,
        primary=primary,
        looks=looks,
        look=looks.sizes.index(tables.shape[1]) + 1 if looks else 1,
    )


def _alike(values: Mapping[str, Array]) -> bool:
    shapes = {np.shape(table) for table in values.values()}
    return len(values) > 1 and len(shapes) == 1 and all(len(shape) == 2 and min(shape) > 0 for shape in shapes)


def pairs_of(
    names: Sequence[str], against: str | None = None, primary: tuple[str, str] | None = None
) -> list[tuple[str, str]]:
    """The pairs that a comparison tests, the primary one first.

    Raises:
        ValueError: an unknown name, or a pair of one optimizer.
    """
    for name in [*([against] if against else []), *(primary or ())]:
        if name not in names:
            raise ValueError(f"{name} is not compared; the optimizers are {', '.join(names)}")
    if primary and primary[0] == primary[1]:
        raise ValueError(f"a pair needs two optimizers, got {primary[0]} twice")
    found = [(name, against) for name in names if name != against] if against else list(combinations(names, 2))
    if primary is None:
        return found
    return [primary, *(pair for pair in found if set(pair) != set(primary))]


def _replicated(name: str, table: Array, sign: float, level: float) -> Replicated:
    """Summarise one optimizer from its oriented values (K, m)."""
    diverged = np.isinf(table)
    centre: Literal["mean", "median"] = "median" if diverged.any() else "mean"
    y = centres(table, centre)
    told = summary((sign * y).tolist(), direction="min" if sign > 0 else "max", level=level)
    whole = told.diverged == 0
    return Replicated(
        name=name,
        y=tuple(float(sign * value) if math.isfinite(value) else math.nan for value in y),
        centre=centre,
        mean=told.mean if whole else math.nan,
        low=told.low if whole else math.nan,
        high=told.high if whole else math.nan,
        median=told.median,
        seeds=table.shape[1],
        diverged=tuple(diverged.sum(axis=1).tolist()),
        luck=luck_of(sign * table, level),
    )


def _pair(
    index: int,
    names: Sequence[str],
    plan: Plan,
    found: Decisions,
    sign: float,
    diverged: Array,
    p_diverged: tuple[float, float],
) -> Pair:
    """One pair of a comparison, in the metric's own sign.

    Args:
        diverged: share of the runs that diverged (optimizers, K).
        p_diverged: of the test of these shares, and adjusted.
    """
    tests, at = found.tests, (0, index)
    a, b = plan.pairs[index]
    d, count, alpha = tests.d[at], plan.tests[index], plan.alpha
    searches, ranked = len(d), bool(tests.ranked[at])
    mean, error = sign * float(tests.mean[at]), float(tests.error[at])
    sd = error * math.sqrt(searches)
    # The p below which this look decides, alone and where Holm is strictest; and below which the last one does.
    look = plan.looks.sizes.index(searches) if plan.looks else 0
    alone, worst = (plan.looks.nominal(p) if plan.looks else (p,) for p in (alpha, alpha / count))
    strictest, planned = worst[-1], plan.looks.sizes[-1] if plan.looks else searches
    needs = replicates_needed(alpha / count, paired=not tests.unpaired[at]) if ranked else None
    return Pair(
        a=names[a],
        b=names[b],
        secondary=plan.primary and index > 0,
        test="rank sum, exact" if tests.unpaired[at] else "signed rank, exact" if ranked else "paired t",
        d=tuple((sign * d).tolist()),
        difference=mean,
        interval=_interval(mean, error, searches, 1 - alone[look]),
        simultaneous=_interval(mean, error, searches, 1 - worst[look]),
        level=1 - alpha,
        p=float(tests.p[at]),
        p_looks=float(found.p_looks[at]),
        p_holm=float(found.p_adjusted[at]),
        tests=count,
        strictest=strictest,
        wins=int((d < 0).sum()),
        losses=int((d > 0).sum()),
        sd=sd,
        detectable=detectable_difference(sd, planned, paired=True, level=1 - strictest, sd_df=searches - 1),
        needed=seeds_needed(mean, sd, paired=True, level=1 - strictest, sd_df=searches - 1),
        needs=needs,
        margin=float(tests.margin[at]),
        p_equal=float(found.p_equal[at]),
        p_equal_holm=float(found.p_equal_adjusted[at]),
        diverged=(float(diverged[a].mean()), float(diverged[b].mean())),
        p_diverged=p_diverged[0],
        p_diverged_holm=p_diverged[1],
        verdict=_verdict(found, at, alpha, needs or 2),
    )


def _interval(mean: float, error: float, searches: int, level: float) -> tuple[float, float]:
    half = t_quantile(searches - 1, level) * error
    return mean - half, mean + half


def _verdict(found: Decisions, at: tuple[int, int], alpha: float, needs: int) -> Verdict:
    """A difference comes before equality: a pair can be different and equal within the margin, see `Pair.equal`."""
    if found.p_adjusted[at] <= alpha:
        return Verdict.BETTER if found.tests.lean[at] < 0 else Verdict.WORSE
    if found.p_equal_adjusted[at] <= alpha:
        return Verdict.EQUAL
    return Verdict.MORE if found.tests.d.shape[-1] < needs else Verdict.UNDECIDED
