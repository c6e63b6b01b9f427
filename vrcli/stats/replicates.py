"""Is one optimizer better than another, when the whole protocol is the unit of replication.

A replicate is one independent search and the m fresh runs of its winner; K replicates stand behind each optimizer, and
replicate k uses the same seeds for all of them. The values of one replicate share the luck of its search, so they are
one observation: y(k), their mean. Two optimizers are compared by d(k) = y_a(k) - y_b(k), with K - 1 degrees of freedom
(Student's t). Where a run of either diverged there is no mean: y(k) is the median with diverged runs as worst, and an
exact signed-rank test of d decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from vrcli.stats.inference import Array, Direction
from vrcli.stats.luck import Luck
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
        tests: tests that p is adjusted for: the worst level is (1 - level) / tests.
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
        """Probability that so many searches (default: as many as here) show a true difference, in so many tests."""
        raise NotImplementedError

    def searches_needed(self, difference: float) -> int | None:
        """Searches that show a true difference with probability 0.8, in so many tests."""
        raise NotImplementedError


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
            alike, and reaches the level from four replicates on.

    Raises:
        ValueError: fewer than two optimizers, arrays of different shapes, an unknown name, or a K that is no look.
    """
    raise NotImplementedError
