"""Performance over many tasks, and how forgiving an optimizer is of its learning rate."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vrcli.direction import sign_of
from vrcli.stats.inference import Array, Direction, oriented


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
        at: values of the setting, increasing; the middle of a bin's where values were pooled.
        middle: median outcome at each, diverged runs as worst; infinite where most diverged.
        diverged: runs that diverged at each.
        n: runs at each.
        binned: whether values lie so close that they were pooled in thirds of a decade.
        best: the setting with the best median, None where everything diverged.
        stable: range around it in which the median stays within the tolerance of the best.
        decades: width of that range in powers of ten; NaN where it begins at zero or below.
    """

    at: Array
    middle: Array
    diverged: tuple[int, ...]
    n: tuple[int, ...]
    binned: bool
    best: float | None
    stable: tuple[float, float] | None

    @property
    def decades(self) -> float:
        if self.stable is None:
            return 0.0
        return math.log10(self.stable[1] / self.stable[0]) if self.stable[0] > 0 else math.nan


def sensitivity_of(
    points: Sequence[tuple[float, float]], *, tolerance: float = 0.1, direction: Direction = "min"
) -> Sensitivity:
    """Summarise outcomes over a setting such as the learning rate.

    Args:
        points: setting and outcome of each run; NaN or infinite when it diverged.
        tolerance: how much worse than the best the outcome may be, as a share of the best's magnitude.
    """
    binned = _too_close([setting for setting, _ in points])
    bins: dict[float, list[tuple[float, float]]] = defaultdict(list)
    for setting, outcome in points:
        bins[round(3 * math.log10(setting)) if binned else setting].append((setting, outcome))
    members = [sorted(bins[key]) for key in sorted(bins)]
    outcomes = [np.array([outcome for _, outcome in own]) for own in members]
    at = [float(np.median([setting for setting, _ in own])) for own in members]
    middle = np.array([float(np.median(oriented(own, direction))) for own in outcomes])  # as costs
    n_diverged = tuple(int((~np.isfinite(own)).sum()) for own in outcomes)
    best = stable = None
    if np.isfinite(middle).any():
        index = int(np.argmin(middle))
        good = middle <= middle[index] + tolerance * abs(middle[index])
        first, last = index, index
        while first > 0 and good[first - 1]:
            first -= 1
        while last < len(at) - 1 and good[last + 1]:
            last += 1
        best, stable = at[index], (members[first][0][0], members[last][-1][0])
    return Sensitivity(
        np.array(at), sign_of(direction) * middle, n_diverged, tuple(map(len, members)), binned, best, stable
    )


def _too_close(settings: Sequence[float]) -> bool:
    """Whether a search put settings closer than a sixth of a decade: each alone is one noisy run."""
    values = np.unique(np.array(settings, dtype=np.float64))
    if len(values) < 3 or values[0] <= 0 or values[-1] < 10 * values[0]:
        return False
    return float(np.diff(np.log10(values)).min()) < 1 / 6
