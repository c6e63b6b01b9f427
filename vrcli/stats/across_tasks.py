"""Two or more optimizers over several tasks: what holds on these tasks, and what may be said of tasks in general."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vrcli.stats.inference import Array, Direction

#: Tasks from which a test over tasks can reach 5%: 2^(1 - 6) = 0.031.
ENOUGH_TASKS = 6


@dataclass(frozen=True)
class TaskEffect:
    """A pair of optimizers on one task.

    Args:
        task: its name.
        ratios: log(y_a / y_b) by replicate; below 0 means that a's value is smaller. Infinite where only one of the
            two diverged, 0 where both did.
        effect: mean of the ratios; NaN where one is not finite.
        low: lower end of its t interval.
        high: upper end.
        wins: replicates in which a is better.
    """

    task: str
    ratios: tuple[float, ...]
    effect: float
    low: float
    high: float
    wins: int


@dataclass(frozen=True)
class AcrossTasks:
    """A pair of optimizers over several tasks.

    Args:
        a: first optimizer.
        b: second optimizer.
        tasks: the pair on each.
        effect: mean over tasks of the mean log ratio: a's value is exp(effect) times b's; NaN where a replicate
            diverged. The same holds for `low`, `high` and `p`, which speak of these tasks only.
        low: lower end of the interval (Satterthwaite).
        high: upper end.
        df: of the interval.
        p: two-sided, that the mean over these tasks is 0.
        p_holm: the same, adjusted over the pairs.
        p_general: signed-rank test over tasks, for tasks in general; NaN below six tasks.
        p_general_holm: the same, adjusted over the pairs.
        smallest_p: the smallest p that a signed-rank test of so many tasks can give.
        improvement: probability that a replicate of a is better than one of b, averaged over tasks.
        improvement_interval: by a bootstrap of replicates within each task.
        iqm: mean of the middle half of all log ratios; NaN where it reaches diverged ones.
        iqm_interval: likewise.
        level: of all intervals.
    """

    a: str
    b: str
    tasks: tuple[TaskEffect, ...]
    effect: float
    low: float
    high: float
    df: float
    p: float
    p_holm: float
    p_general: float
    p_general_holm: float
    smallest_p: float
    improvement: float
    improvement_interval: tuple[float, float]
    iqm: float
    iqm_interval: tuple[float, float]
    level: float


@dataclass(frozen=True)
class Ranks:
    """Optimizers ranked on each task.

    Args:
        average: mean rank over tasks by optimizer, 1 is best, ties share.
        p: Friedman's test that all are alike, by permutation within tasks.
        pairs: by pair, Holm-adjusted p of the difference of average ranks, by permutation.
        critical: difference of average ranks that only 1 - level of all permutations exceed anywhere.
        tasks: how many.
    """

    average: Mapping[str, float]
    p: float
    pairs: Mapping[tuple[str, str], float]
    critical: float
    tasks: int


def across_tasks(
    values: Mapping[str, Mapping[str, Array]],
    *,
    direction: Direction = "min",
    level: float = 0.95,
    against: str | None = None,
) -> tuple[AcrossTasks, ...]:
    """Compare each pair of optimizers (with `against`: each other one with it) over the tasks.

    Args:
        values: by task, then optimizer: (K, m) as in `replicates.compare_replicates`; K and m may differ by task.

    Raises:
        ValueError: a value that is not positive (ratios mean nothing), or an optimizer missing on a task.
    """
    raise NotImplementedError


def ranks_over_tasks(costs: Mapping[str, Mapping[str, float]], level: float = 0.95) -> Ranks | None:
    """Rank optimizers by their costs on each task; None below six tasks, where no such test can speak.

    Args:
        costs: by optimizer and task, smaller is better, NaN or infinite for a failure (worst); see `costs_of`.
    """
    raise NotImplementedError


def costs_of(values: Mapping[str, Mapping[str, Array]], direction: Direction = "min") -> dict[str, dict[str, float]]:
    """By optimizer and task the centre over replicates, infinite where most replicates diverged.

    For `ranks_over_tasks`, and for `profiles.performance_profile` where the metric is a loss.
    """
    raise NotImplementedError
