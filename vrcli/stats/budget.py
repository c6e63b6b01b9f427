"""What a search budget buys, and what a target costs: best of k trials, and steps to a target loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vrcli.direction import sign_of
from vrcli.stats.decide import centres
from vrcli.stats.inference import Array, Direction, oriented, summary


@dataclass(frozen=True)
class BestOfK:
    """The best value of k trials drawn from the trials that were run.

    Args:
        k: 1, 2, ..., the number of trials.
        expected: expected best of k; infinite while all k may have diverged: worse than any number.
        median: median of the best of k; infinite only while all k more likely than not diverged.
        all_diverged: probability that all k diverged.
        n: trials run.
        diverged: how many of them diverged.
    """

    k: Array
    expected: Array
    median: Array
    all_diverged: Array
    n: int
    diverged: int


def expected_best(values: Sequence[float], k: int, *, direction: Direction = "min") -> float:
    """Expected best of k trials (Dodge et al. 2019, equation 7), from n >= 1 trials; diverged ones are worst.

    Raises:
        ValueError: no trials, or k below 1.
    """
    n = len(values)
    if n < 1 or k < 1:
        raise ValueError(f"needs at least one trial and k >= 1, got {n} trials and k = {k}")
    ordered = np.sort(oriented(values, direction))[::-1]  # worst first
    # P(best of k <= i-th of the ordered values) = (i / n)^k
    reach = (np.arange(n + 1) / n) ** k
    # Every trial may be all that is drawn, though its probability may be too small for a float.
    found = math.inf if np.isinf(ordered).any() else float(ordered @ np.diff(reach))
    return sign_of(direction) * found


def best_of_k(values: Sequence[float], *, most: int | None = None, direction: Direction = "min") -> BestOfK:
    """The whole curve, for k up to `most` or the number of trials; beyond it, it would be extrapolation.

    Raises:
        ValueError: no trials.
    """
    n = len(values)
    if n < 1:
        raise ValueError("needs at least one trial")
    sign = sign_of(direction)
    ordered = np.sort(oriented(values, direction))
    ks = np.arange(1, min(most or n, n) + 1)
    # P(best of k > i-th best) = (1 - i/n)^k: the median is the first value at which it falls to a half.
    ranks = np.arange(1, n + 1) / n
    median = [ordered[int(np.argmax((1 - ranks) ** k <= 0.5))] for k in ks]
    n_diverged = int(np.isinf(ordered).sum())
    return BestOfK(
        k=ks.astype(np.float64),
        expected=np.array([expected_best(values, int(k), direction=direction) for k in ks]),
        median=sign * np.array(median),
        all_diverged=np.asarray((n_diverged / n) ** ks, dtype=np.float64),
        n=n,
        diverged=n_diverged,
    )


def best_of_search(trials: Iterable[tuple[str, float | None]], *, direction: Direction = "min") -> BestOfK | None:
    """The curve of a search, from the state and value of each trial that ended; None where none of them tells.

    A stopped trial counts with the best value it had reached. A failed one says nothing of its settings, so it is left
    out.
    """
    values = [
        value if value is not None and state in ("completed", "pruned") else math.nan
        for state, value in trials
        if state != "failed"
    ]
    return best_of_k(values, direction=direction) if values else None


@dataclass(frozen=True)
class ToTarget:
    """How long runs took to reach a target.

    Args:
        when: for the runs that got there, in the runs' order; None for the others.
        last: where each run's curve ends.
        diverged: whether the run diverged: whatever it touched before, it did not get there.
    """

    when: tuple[float | None, ...]
    last: tuple[float, ...]
    diverged: tuple[bool, ...]

    @property
    def n(self) -> int:
        return len(self.when)

    @property
    def reached(self) -> int:
        return sum(w is not None for w in self.when)

    def distribution(self) -> tuple[Array, Array]:
        """Where the share of runs that got there rises, and to what.

        A run that ended or diverged before it got there counts as one that did not: the end of a budget is what the
        optimizer was given, so it does not hide a success that chance kept from sight.
        """
        at, counts = np.unique([w for w in self.when if w is not None], return_counts=True)
        return at.astype(np.float64), np.cumsum(counts) / max(1, self.n)

    @property
    def median(self) -> float | None:
        """Where half the runs got there; None when they have not."""
        x, share = self.distribution()
        at = np.flatnonzero(share >= 0.5)
        return float(x[at[0]]) if len(at) else None

    def __str__(self) -> str:
        share = f"reached by {self.reached} of {self.n}"
        return share if self.median is None else f"{self.median:g} (median, {share})"


def steps_to_target(
    curves: Sequence[tuple[ArrayLike, ArrayLike]],
    target: float,
    *,
    direction: Direction = "min",
    diverged: Sequence[bool] | None = None,
) -> ToTarget:
    """Steps (or epochs, or seconds) until each run's curve first reaches the target.

    A diverged run does not get there, even if its curve touched the target before: it has no result.

    Args:
        curves: x and y of each run, x increasing.
        diverged: which of the runs diverged.
    """
    n_diverged = list(diverged) if diverged is not None else [False] * len(curves)
    when: list[float | None] = []
    last: list[float] = []
    for (x, y), gone in zip(curves, n_diverged, strict=True):
        xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            hits = np.flatnonzero(sign_of(direction) * ys <= sign_of(direction) * target)
        when.append(float(xs[hits[0]]) if len(hits) and not gone else None)
        last.append(float(xs[-1]) if len(xs) else 0.0)
    return ToTarget(tuple(when), tuple(last), tuple(bool(flag) for flag in n_diverged))


def parts_of(trials: int) -> tuple[int, ...]:
    """The numbers of trials after which a search is looked at: a quarter, half and all of them."""
    return tuple(sorted({max(1, trials // 4), max(1, trials // 2), trials}))


@dataclass(frozen=True)
class AfterTrials:
    """What tuning bought: the incumbent of each search after so many trials, measured again on fresh seeds.

    Args:
        trials: after which the incumbents were taken.
        searches: K behind every mean.
        mean: over searches by number of trials; NaN where an incumbent diverged. The same holds for the ends.
        low: lower end of the t interval over searches.
        high: upper end.
        median: over searches with diverged incumbents as worst; NaN where it falls among them.
        diverged: incumbents that diverged (most of their runs did), by number of trials.
    """

    trials: tuple[int, ...]
    searches: int
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    median: tuple[float, ...]
    diverged: tuple[int, ...]


def after_trials(values: Mapping[int, Array], *, direction: Direction = "min", level: float = 0.95) -> AfterTrials:
    """Performance against tuning budget (Sivaprasad et al. 2020), from replicated searches.

    Args:
        values: by number of trials (K, m): m fresh runs of each search's incumbent; NaN for a diverged run.
    """
    sign = sign_of(direction)
    found = []
    for trials in sorted(values):
        table = oriented(values[trials], direction)
        y = sign * centres(table, "median" if np.isinf(table).any() else "mean")
        found.append(summary(y.tolist(), direction=direction, level=level))
    whole = [one.diverged == 0 for one in found]

    def kept(numbers: Iterable[float]) -> tuple[float, ...]:
        return tuple(number if good else math.nan for number, good in zip(numbers, whole, strict=True))

    return AfterTrials(
        trials=tuple(sorted(values)),
        searches=found[0].n if found else 0,
        mean=kept(one.mean for one in found),
        low=kept(one.low for one in found),
        high=kept(one.high for one in found),
        median=tuple(one.median for one in found),
        diverged=tuple(one.diverged for one in found),
    )
