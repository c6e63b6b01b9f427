"""What a search budget buys, and what a target costs: best of k trials, and steps to a target loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vrcli.stats.inference import Array, Direction, oriented


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
    return found if direction == "min" else -found


def best_of_k(values: Sequence[float], *, most: int | None = None, direction: Direction = "min") -> BestOfK:
    """The whole curve, for k up to `most` or the number of trials; beyond it, it would be extrapolation.

    Raises:
        ValueError: no trials.
    """
    n = len(values)
    if n < 1:
        raise ValueError("needs at least one trial")
    sign = 1.0 if direction == "min" else -1.0
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


def best_of_search(trials: Iterable[tuple[str, float | None]]) -> BestOfK | None:
    """The curve of a search, from the state and value of each trial that ended; None where none of them tells.

    A stopped trial counts with the best value it had reached. A failed one says nothing of its settings, so it is left
    out.
    """
    values = [
        value if value is not None and state in ("completed", "pruned") else math.nan
        for state, value in trials
        if state != "failed"
    ]
    return best_of_k(values) if values else None


@dataclass(frozen=True)
class ToTarget:
    """How long runs took to reach a target.

    Args:
        when: for the runs that got there, in the runs' order; None for the others.
        last: where each run's curve ends: a run that did not get there is only known to need longer.
        diverged: whether the run diverged, and so will never get there.
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
        """Where the share of runs that got there rises, and to what: one minus the Kaplan-Meier estimate."""
        hits = [w for w in self.when if w is not None]
        if not hits:
            return np.empty(0), np.empty(0)
        from scipy import stats

        # A diverged run is at risk past every other time; its own place beyond them does not matter.
        never = max(*hits, *self.last) + 1
        rows = zip(self.when, self.last, self.diverged, strict=True)
        misses = [never if n_diverged else end for w, end, n_diverged in rows if w is None]
        found = stats.ecdf(stats.CensoredData(uncensored=hits, right=misses)).sf
        events = np.isin(found.quantiles, hits)
        return found.quantiles[events], 1 - found.probabilities[events]

    @property
    def median(self) -> float | None:
        """Where half the runs got there; None when they have not."""
        x, share = self.distribution()
        at = np.flatnonzero(share >= 0.5 - 1e-12)
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

    Misses are censored where their curve ends, never counted as the maximum. A diverged run will never get there, so
    it stays at risk for ever: leaving it out would credit the optimizer for the runs it lost.

    Args:
        curves: x and y of each run, x increasing.
        diverged: which of the runs diverged.
    """
    n_diverged = list(diverged) if diverged is not None else [False] * len(curves)
    when: list[float | None] = []
    last: list[float] = []
    for x, y in curves:
        xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            hits = np.flatnonzero(ys <= target if direction == "min" else ys >= target)
        when.append(float(xs[hits[0]]) if len(hits) else None)
        last.append(float(xs[-1]) if len(xs) else 0.0)
    return ToTarget(tuple(when), tuple(last), tuple(bool(flag) for flag in n_diverged))
