"""Two or more optimizers over several tasks: what holds on these tasks, and what may be said of tasks in general."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import special

from vrcli.direction import sign_of
from vrcli.stats.decide import centres
from vrcli.stats.exact import differences, doubled_ranks
from vrcli.stats.inference import Array, Direction, holm, oriented, signed_rank, t_interval, t_quantile
from vrcli.stats.replicates import pairs_of

#: Tasks from which a test over tasks can reach 5%: 2^(1 - 6) = 0.031.
ENOUGH_TASKS = 6
#: Bootstrap resamples, from a fixed seed.
RESAMPLES = 2000
#: Permutations within tasks, from a fixed seed: a p near 5% is known to +- 0.3%.
PERMUTATIONS = 20_000


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
    primary: tuple[str, str] | None = None,
) -> tuple[AcrossTasks, ...]:
    """Compare each pair of optimizers (with `against`: each other one with it) over the tasks.

    Args:
        values: by task, then optimizer: (K, m) as in `replicates.compare_replicates`; K and m may differ by task.
        primary: the pair that was declared to count, as there.

    Raises:
        ValueError: a value that is not positive (ratios mean nothing), an optimizer missing on a task, or arrays of
            different shapes on one.
    """
    names = list(next(iter(values.values()), {}))
    tables = {task: _positive(task, by_name, names, direction) for task, by_name in values.items()}
    found = [_pair(a, b, tables, direction, level) for a, b in pairs_of(names, against, primary)]
    p_holm, general = (
        _adjusted(p, declared=primary is not None) for p in ([one.p for one in found], [one.p_general for one in found])
    )
    return tuple(replace(one, p_holm=p, p_general_holm=q) for one, p, q in zip(found, p_holm, general, strict=True))


def _adjusted(p: Sequence[float], *, declared: bool) -> list[float]:
    """Holm; after a declared pair, which is tested at the whole level, the others count only once it is decided."""
    return [p[0], *(max(p[0], q) for q in holm(p[1:]))] if declared else holm(p)


def _positive(
    task: str, by_name: Mapping[str, Array], names: Sequence[str], direction: Direction
) -> Mapping[str, Array]:
    """One task's values, infinite where a run diverged and oriented: as they are, or their negatives."""
    shapes = {np.shape(table) for table in by_name.values()}
    if set(by_name) != set(names) or len(shapes) != 1:
        raise ValueError(f"{task} needs values of one shape for {', '.join(names)}; it has {', '.join(by_name)}")
    if any((np.asarray(table) <= 0).any() for table in by_name.values()):
        raise ValueError(f"{task} has a value that is not positive, so ratios mean nothing")
    return {name: oriented(table, direction) for name, table in by_name.items()}


def _pair(a: str, b: str, tables: Mapping[str, Mapping[str, Array]], direction: Direction, level: float) -> AcrossTasks:
    both = [_centred(by_name[a], by_name[b]) for by_name in tables.values()]  # per task y of a and of b, (K,)
    ratios = [_log_ratios(x, y, direction) for x, y in both]
    effects = [
        TaskEffect(task, tuple(own.tolist()), *_mean(own, level), int((x < y).sum()))
        for task, own, (x, y) in zip(tables, ratios, both, strict=True)
    ]
    means = np.array([one.effect for one in effects])
    # Satterthwaite: variances of the tasks' means add up, each with its own degrees of freedom.
    variances = np.array([own.var(ddof=1) / len(own) if len(own) > 1 else math.nan for own in _finite(ratios)])
    total = float(variances.sum())
    df = total**2 / float((variances**2 / [max(1, len(own) - 1) for own in ratios]).sum()) if total else 1.0
    effect, error = float(means.mean()), math.sqrt(total) / len(means)
    half = t_quantile(df, level) * error
    p = 2 * float(special.stdtr(df, -abs(effect) / error)) if error else float(effect == 0)
    middles = means if np.isfinite(means).all() else np.array([_median(own) for own in ratios])
    improvement, improvement_interval, iqm, iqm_interval = _resampled(both, ratios, level)
    enough = len(means) >= ENOUGH_TASKS
    sign = sign_of(direction)
    return AcrossTasks(
        a=a,
        b=b,
        tasks=tuple(effects),
        effect=effect,
        low=effect - half,
        high=effect + half,
        df=df,
        p=p,
        p_holm=p,
        p_general=signed_rank(sign * middles, np.zeros(len(middles))) if enough else math.nan,
        p_general_holm=math.nan,
        smallest_p=2.0 ** (1 - len(means)),
        improvement=improvement,
        improvement_interval=improvement_interval,
        iqm=iqm,
        iqm_interval=iqm_interval,
        level=level,
    )


def _centred(a: Array, b: Array) -> tuple[Array, Array]:
    """y of both by replicate: means over the runs, or medians where a run of either diverged."""
    diverged = np.isinf(a).any() or np.isinf(b).any()
    return centres(a, "median" if diverged else "mean"), centres(b, "median" if diverged else "mean")


def _log_ratios(a: Array, b: Array, direction: Direction) -> Array:
    """log(y_a / y_b) of oriented y; a diverged one is worst, whichever side that is."""
    if direction == "min":
        return differences(np.log(a), np.log(b))
    # Oriented values are the negatives of the metric's: what diverged is at zero, the worst of a positive metric.
    with np.errstate(divide="ignore"):
        a, b = (np.log(np.where(np.isinf(y), 0.0, -y)) for y in (a, b))
    return differences(a, b)


def _mean(values: Array, level: float) -> tuple[float, float, float]:
    """Mean and t interval; NaN where a value is not finite."""
    mean = float(values.mean()) if np.isfinite(values).all() else math.nan
    return mean, *t_interval(values, level)


def _finite(rows: Sequence[Array]) -> list[Array]:
    return [np.where(np.isfinite(row), row, math.nan) for row in rows]


def _median(values: Array) -> float:
    """Of values that may be infinite at both ends."""
    ordered = np.sort(values)
    low, high = float(ordered[(len(ordered) - 1) // 2]), float(ordered[len(ordered) // 2])
    return low if low == high else 0.0 if math.isinf(low) and math.isinf(high) else (low + high) / 2


def _resampled(
    both: Sequence[tuple[Array, Array]], ratios: Sequence[Array], level: float
) -> tuple[float, tuple[float, float], float, tuple[float, float]]:
    """Probability of improvement and interquartile mean (Agarwal et al. 2021), resampling replicates within tasks.

    The first row of every table is the sample itself.
    """
    rng = np.random.default_rng(0)
    better: list[Array] = []
    log_ratios: list[Array] = []
    for (x, y), own in zip(both, ratios, strict=True):
        n = len(own)
        picks = np.vstack([np.arange(n), rng.integers(0, n, (RESAMPLES, n))])
        wins = (x[:, None] < y[None, :]) + 0.5 * (x[:, None] == y[None, :])
        better.append(wins[picks[:, :, None], picks[:, None, :]].mean(axis=(1, 2)))
        log_ratios.append(own[picks])
    improvement = np.mean(better, axis=0)
    ordered = np.sort(np.concatenate(log_ratios, axis=1), axis=1)
    cut = ordered.shape[1] // 4
    iqm = ordered[:, cut : ordered.shape[1] - cut]
    iqm = np.where(np.isfinite(iqm).all(axis=1), np.where(np.isfinite(iqm), iqm, 0.0).mean(axis=1), math.nan)
    return float(improvement[0]), _middle(improvement[1:], level), float(iqm[0]), _middle(iqm[1:], level)


def _middle(drawn: Array, level: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ranks_over_tasks(costs: Mapping[str, Mapping[str, float]], level: float = 0.95) -> Ranks | None:
    """Rank optimizers by their costs on each task; None below six tasks, where no such test can speak.

    Everything is by permutation of the ranks within tasks, so few tasks and ties are not trouble.

    Args:
        costs: by optimizer and task, smaller is better, NaN or infinite for a failure (worst); see `costs_of`.
    """
    names, ranks = list(costs), _ranks(costs)
    if len(ranks) < ENOUGH_TASKS or len(names) < 2:
        return None
    rng = np.random.default_rng(0)
    drawn = rng.permuted(np.broadcast_to(ranks, (PERMUTATIONS, *ranks.shape)), axis=2).mean(axis=1)
    average = ranks.mean(axis=0)

    def p_of(observed: float, chance: Array) -> float:
        return float(((chance >= observed - 1e-9).sum() + 1) / (len(chance) + 1))

    # Friedman's statistic rises with the variance of the average ranks.
    p = p_of(float(average.var()), drawn.var(axis=1))
    pairs: list[tuple[int, int]] = list(combinations(range(len(names)), 2))
    p_pairs = [p_of(float(abs(average[i] - average[j])), np.abs(drawn[:, i] - drawn[:, j])) for i, j in pairs]
    return Ranks(
        average=dict(zip(names, average.tolist(), strict=True)),
        p=p,
        pairs={(names[i], names[j]): q for (i, j), q in zip(pairs, holm(p_pairs), strict=True)},
        critical=float(np.quantile(np.ptp(drawn, axis=1), level, method="higher")),
        tasks=len(ranks),
    )


def average_ranks(costs: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean rank over tasks by optimizer, 1 is best, ties share; from fewer than six tasks it claims nothing.

    Args:
        costs: as in `ranks_over_tasks`.
    """
    return dict(zip(costs, _ranks(costs).mean(axis=0).tolist(), strict=True))


def _ranks(costs: Mapping[str, Mapping[str, float]]) -> Array:
    """Ranks on each task (tasks, optimizers)."""
    tasks = sorted({task for by_task in costs.values() for task in by_task})
    return (
        doubled_ranks(oriented(np.array([[own.get(task, math.nan) for own in costs.values()] for task in tasks]))) / 2
    )


def costs_of(values: Mapping[str, Mapping[str, Array]], direction: Direction = "min") -> dict[str, dict[str, float]]:
    """By optimizer and task the centre over replicates, smaller is better, infinite where most diverged.

    For `ranks_over_tasks`, and for `profiles.performance_profile` where the metric is a loss. The centre is the mean,
    or on a task where a run diverged the median, of runs and of replicates.

    Args:
        values: as in `across_tasks`.
    """
    costs: dict[str, dict[str, float]] = {}
    for task, by_name in values.items():
        tables = {name: oriented(table, direction) for name, table in by_name.items()}
        diverged = any(np.isinf(table).any() for table in tables.values())
        for name, table in tables.items():
            y = centres(table, "median" if diverged else "mean")
            costs.setdefault(name, {})[task] = float(centres(y, "median") if diverged else y.mean())
    return costs
