"""Performance over many tasks, and how forgiving an optimizer is of its learning rate."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vrcli.report.statistics import Array, oriented


def performance_profile(costs: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[Array, Array]]:
    """Share of tasks on which each optimizer is within a factor of the best (Dolan and More 2002).

    Args:
        costs: positive costs by optimizer and task. A missing, NaN or infinite cost is a failure, which no factor
            mends; a task that every optimizer failed still counts.

    Returns:
        Per optimizer the factors (increasing) at which its share rises, and the shares.

    Raises:
        ValueError: a cost that is not positive: ratios to it mean nothing.
    """
    tasks = sorted({task for by_task in costs.values() for task in by_task})
    table = {name: np.array([by_task.get(t, math.nan) for t in tasks]) for name, by_task in costs.items()}
    table = {name: np.where(np.isfinite(row), row, np.inf) for name, row in table.items()}
    if any((row <= 0).any() for row in table.values()):
        raise ValueError("a performance profile needs positive costs")
    if not tasks:
        return {name: (np.empty(0), np.empty(0)) for name in costs}
    best = np.min(np.array(list(table.values())), axis=0)
    found = {}
    for name, row in table.items():
        done = np.isfinite(row)
        factors, counts = np.unique(row[done] / best[done], return_counts=True)
        found[name] = (factors, np.cumsum(counts) / len(tasks))
    return found


@dataclass(frozen=True)
class Sensitivity:
    """How the outcome depends on one setting.

    Args:
        at: values of the setting, increasing.
        middle: median outcome at each, diverged runs as worst; infinite where most diverged.
        diverged: runs that diverged at each.
        n: runs at each.
        best: the setting with the best median, None where everything diverged.
        stable: range around it in which the median stays within the tolerance of the best.
        decades: width of that range in powers of ten; NaN where it begins at zero or below.
    """

    at: Array
    middle: Array
    diverged: tuple[int, ...]
    n: tuple[int, ...]
    best: float | None
    stable: tuple[float, float] | None

    @property
    def decades(self) -> float:
        if self.stable is None:
            return 0.0
        return math.log10(self.stable[1] / self.stable[0]) if self.stable[0] > 0 else math.nan


def sensitivity_of(points: Sequence[tuple[float, float]], *, tolerance: float = 0.1) -> Sensitivity:
    """Summarise outcomes over a setting such as the learning rate.

    Args:
        points: setting and outcome of each run; smaller is better, NaN or infinite when it diverged.
        tolerance: how far above the best the outcome may be, as a share of the best's magnitude.
    """
    runs: dict[float, list[float]] = defaultdict(list)
    for setting, outcome in points:
        runs[setting].append(outcome)
    at = sorted(runs)
    middle = np.array([float(np.median(oriented(runs[s]))) for s in at])
    lost = tuple(int((~np.isfinite(runs[s])).sum()) for s in at)
    counts = tuple(len(runs[s]) for s in at)
    best = stable = None
    if np.isfinite(middle).any():
        index = int(np.argmin(middle))
        good = middle <= middle[index] + tolerance * abs(middle[index])
        first, last = index, index
        while first > 0 and good[first - 1]:
            first -= 1
        while last < len(at) - 1 and good[last + 1]:
            last += 1
        best, stable = at[index], (at[first], at[last])
    return Sensitivity(np.array(at), middle, lost, counts, best, stable)
