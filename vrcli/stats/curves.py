"""Curves of several runs on one axis: envelopes with the number of runs behind each point, and thinning.

Values that are not finite never enter a mean; they are counted beside it. A run that ended is not carried on: the
number of runs alive is part of the result, because a mean over the finite runs is
biased in favour of an optimizer whose others diverged.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from vrcli.direction import HUGE, sign_of
from vrcli.stats.inference import Array, Direction, oriented

#: What surrounds the centre of several curves, see `envelope`.
Band: TypeAlias = Literal["sd", "ci", "minmax", "quantile"]

Counts: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Envelope:
    """Curves of one configuration over its runs.

    Args:
        x: positions, increasing.
        centre: mean of the finite values; their median for the quantile band; for the ci band the mean of the units,
            geometric where the interval is of logarithms. NaN where there is none.
        low: lower edge of the band; NaN where too few runs define one.
        high: upper edge.
        n: runs with a finite value at x.
        nonfinite: runs whose value at x is not finite.
        runs: all runs.
        band: what the edges mean.
        level: share of the ci or quantile band.
        units: how many independent units the runs are of; of the ci band.
        logs: the interval is of the logarithms.
    """

    x: Array
    centre: Array
    low: Array
    high: Array
    n: Counts
    nonfinite: Counts
    runs: int
    band: Band
    level: float
    units: int = 0
    logs: bool = False


def envelope(
    curves: Sequence[tuple[ArrayLike, ArrayLike]],
    *,
    band: Band = "sd",
    level: float = 0.95,
    grid: ArrayLike | None = None,
    units: Sequence[Hashable] | None = None,
    logs: bool = False,
) -> Envelope:
    """Centre and band over runs at each position.

    Args:
        curves: x (increasing) and y of each run.
        band: sd: mean +- standard deviation; ci: t interval of the mean over units; minmax: range; quantile: the middle
            `level`.
        grid: positions to interpolate each run to, within its own range: for axes on which runs share no positions
            (seconds). By default every position that any run has, without interpolation.
        units: what each curve is a repetition of, for the ci band: curves of the same search are one unit, their mean.
            By default each curve is its own.
        logs: of the ci band: mean and interval of the logarithms, so that the band of positive values stays positive.
    """
    x, table = align(curves, grid)
    finite = np.isfinite(table)
    n = finite.sum(axis=0)
    nonfinite = (np.isinf(table)).sum(axis=0)
    values = np.where(finite, table, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = values.sum(axis=0) / n
        spread = np.where(finite, table - mean, 0.0)
        sd = np.sqrt((spread**2).sum(axis=0) / (n - 1))  # 0/0 = NaN at n = 1
        sd[n < 2] = np.nan
    count = len(curves) if units is None else len(dict.fromkeys(units))
    if band == "ci":
        centre, low, high = _interval(np.where(finite, table, np.nan), units, level, logs=logs)
    elif band == "sd":
        centre, low, high = mean, mean - sd, mean + sd
    elif band == "minmax":
        low = np.where(finite, table, np.inf).min(axis=0, initial=np.inf)
        high = np.where(finite, table, -np.inf).max(axis=0, initial=-np.inf)
        centre, low, high = mean, np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)
    else:
        centre, low, high = _quantiles(np.where(finite, table, np.nan), n, (0.5, 0.5 - level / 2, 0.5 + level / 2))
    about = (n.astype(np.int64), nonfinite.astype(np.int64), len(curves), band, level, count, logs and band == "ci")
    return Envelope(x, centre, low, high, *about)


def _interval(
    table: Array, units: Sequence[Hashable] | None, level: float, *, logs: bool
) -> tuple[Array, Array, Array]:
    """Mean over units and its t interval, of each column without its NaN.

    Args:
        table: (runs, P).
    """
    if units is not None:
        members = [[i for i, own in enumerate(units) if own == unit] for unit in dict.fromkeys(units)]
        table = np.array([_mean(table[own])[0] for own in members]).reshape(len(members), table.shape[1])
    values = np.log(table) if logs else table
    mean, n = _mean(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        sd = np.sqrt(np.nansum((values - mean) ** 2, axis=0) / (n - 1))
    reach = np.where(n > 1, sd, np.nan) * _standard_errors(n, level)
    edges = (mean, mean - reach, mean + reach)
    return (np.exp(edges[0]), np.exp(edges[1]), np.exp(edges[2])) if logs else edges


def _mean(values: Array) -> tuple[Array, Counts]:
    """Mean of each column without its NaN, and of how many values it is."""
    n = np.isfinite(values).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nansum(values, axis=0) / n, n


def _standard_errors(n: Counts, level: float) -> Array:
    """Half-width of the t interval in standard deviations, by number of runs; NaN below two."""
    found = np.full(len(n), np.nan)
    for count in np.unique(n[n > 1]):
        found[n == count] = special.stdtrit(count - 1, 0.5 + level / 2) / np.sqrt(count)
    return found


def _quantiles(table: Array, n: Counts, shares: tuple[float, ...]) -> tuple[Array, ...]:
    """Quantiles of each column without its NaN, interpolated as numpy does by default."""
    ordered = np.sort(table, axis=0)  # NaN last
    columns = np.arange(table.shape[1])
    found = []
    for share in shares:
        at = share * (n - 1)
        below = np.clip(np.floor(at), 0, None).astype(np.int64)
        above = np.minimum(below + 1, np.maximum(n - 1, 0))
        low, high = ordered[below, columns], ordered[above, columns]
        found.append(np.where(n > 0, low + (high - low) * (at - below), np.nan))
    return tuple(found)


def align(curves: Sequence[tuple[ArrayLike, ArrayLike]], grid: ArrayLike | None = None) -> tuple[Array, Array]:
    """One row per run and one column per position.

    Returns:
        Positions (P,), and values (runs, P): NaN where a run has no value, +infinity where its value is not finite.
    """
    pairs = [(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)) for x, y in curves]
    if grid is not None:
        at = np.asarray(grid, dtype=np.float64)
        rows = [_interpolated(x, y, at) for x, y in pairs]
        return at, np.array(rows).reshape(len(rows), len(at))
    at = np.unique(np.concatenate([x for x, _ in pairs])) if pairs else np.empty(0)
    table = np.full((len(pairs), len(at)), np.nan)
    for row, (x, y) in zip(table, pairs, strict=True):
        row[np.searchsorted(at, x)] = np.where(np.isfinite(y), y, np.inf)
    return at, table


def _interpolated(x: Array, y: Array, at: Array) -> Array:
    """Values between a run's points; infinite next to one that is not finite, NaN outside the run's range."""
    if not len(x):
        return np.full(len(at), np.nan)
    finite = np.isfinite(y)
    found = np.interp(at, x[finite], y[finite]) if finite.any() else np.full(len(at), np.inf)
    nonfinite = np.interp(at, x, np.where(finite, 0.0, 1.0)) > 0
    return np.where((at < x[0]) | (at > x[-1]), np.nan, np.where(nonfinite, np.inf, found))


def binned(curve: tuple[ArrayLike, ArrayLike], edges: Array) -> tuple[Array, Array]:
    """One run's means over consecutive bins, at their middles; NaN-valued where a bin has a value that is not finite.

    Args:
        edges: of the bins, increasing; bins without points are left out.
    """
    x, y = np.asarray(curve[0], dtype=np.float64), np.asarray(curve[1], dtype=np.float64)
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(place, minlength=len(edges) - 1)
    with np.errstate(invalid="ignore"):
        means = np.bincount(place, np.where(np.isfinite(y), y, np.nan), len(edges) - 1) / np.maximum(counts, 1)
    some = counts > 0
    return ((edges[:-1] + edges[1:]) / 2)[some], means[some]


def bounded(values: ArrayLike) -> Array:
    """Values, of which those that no mean and no axis has room for are infinite, or 0."""
    found = np.asarray(values, dtype=np.float64)
    found = np.where(np.abs(found) > HUGE, np.copysign(np.inf, found), found)
    return np.where(np.abs(found) < 1 / HUGE, 0.0, found)


def first_nonfinite(curve: tuple[ArrayLike, ArrayLike]) -> float | None:
    """Where a run's value stopped being finite."""
    x, y = np.asarray(curve[0], dtype=np.float64), np.asarray(curve[1], dtype=np.float64)
    nonfinite = np.flatnonzero(~np.isfinite(y))
    return float(x[nonfinite[0]]) if len(nonfinite) else None


def rescaled(steps: ArrayLike, known_steps: ArrayLike, known: ArrayLike) -> Array:
    """Epochs or seconds at any step, from their values at some steps, starting with 0 at step 0.

    After the last known step the last rate goes on: a run that diverged within an epoch has steps there.
    """
    at = np.asarray(steps, dtype=np.float64)
    xs = np.concatenate([[0.0], np.asarray(known_steps, dtype=np.float64)])
    ys = np.concatenate([[0.0], np.asarray(known, dtype=np.float64)])
    if len(xs) < 2:
        return np.full(len(at), np.nan)
    rate = (ys[-1] - ys[-2]) / (xs[-1] - xs[-2])
    found: Array = np.where(at > xs[-1], ys[-1] + rate * (at - xs[-1]), np.interp(at, xs, ys))
    return found


def best_so_far(values: ArrayLike, direction: Direction = "min") -> Array:
    """The best value up to each position; NaN until the first finite one."""
    best = np.minimum.accumulate(oriented(np.asarray(values, dtype=np.float64), direction))
    best[np.isinf(best)] = np.nan
    found: Array = sign_of(direction) * best
    return found


def thin(y: ArrayLike, most: int) -> Counts:
    """Indices of at most `most` points that keep the ends, and of every bucket its extremes and a nonfinite value.

    Args:
        most: at least 8; all points are kept when there are no more.
    """
    values = np.asarray(y, dtype=np.float64)
    count = len(values)
    if count <= most:
        return np.arange(count)
    buckets = max(1, (most - 2) // 3)
    edges = np.linspace(0, count, buckets + 1).astype(np.int64)
    starts = edges[:-1]
    finite = np.isfinite(values)
    kept = [np.array([0, count - 1])]
    bucket = np.repeat(np.arange(buckets), np.diff(edges))
    for key in (np.where(finite, values, np.inf), np.where(finite, -values, np.inf), np.where(finite, np.inf, 0.0)):
        order = np.lexsort((key, bucket))[starts]  # the smallest of each bucket stands at its start
        kept.append(order[np.isfinite(key[order])])
    return np.unique(np.concatenate(kept)).astype(np.int64)


def thin_envelope(found: Envelope, most: int) -> Envelope:
    """The same envelope at no more than `most` positions: the ends, and the extremes of edges and centre, are kept."""
    if len(found.x) <= most:
        return found
    share = max(8, most // 3)
    kept = np.unique(np.concatenate([thin(v, share) for v in (found.centre, found.low, found.high)]))
    return Envelope(
        x=found.x[kept],
        centre=found.centre[kept],
        low=found.low[kept],
        high=found.high[kept],
        n=found.n[kept],
        nonfinite=found.nonfinite[kept],
        runs=found.runs,
        band=found.band,
        level=found.level,
        units=found.units,
        logs=found.logs,
    )
