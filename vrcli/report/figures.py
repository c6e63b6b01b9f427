"""Figures of runs: envelopes, telemetry, times to a target and performance profiles.

Each function returns the figure together with the numbers it shows, so that a figure can be checked and redrawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from vrcli.report.budget import ToTarget
from vrcli.report.curves import Band, Envelope, binned, envelope
from vrcli.report.figure_style import (
    Plot,
    legend_below,
    log_where_it_serves,
    mark_on_top,
    new_figure,
    plain_log_ticks,
    style_of,
    styled,
)
from vrcli.report.profiles import performance_profile
from vrcli.report.statistics import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves: TypeAlias = Sequence[tuple[ArrayLike, ArrayLike]]
#: Positions beyond which a curve is drawn as means of consecutive stretches: more would be a smear.
STRETCHES = 200


def envelopes(
    panels: Mapping[str, Mapping[str, Curves]],
    *,
    x_label: str = "step",
    y_label: str = "loss",
    band: Band = "sd",
    level: float = 0.95,
    log: bool | None = None,
    grid_points: int | None = None,
) -> Plot:
    """Mean curve and band over runs, one colour per optimizer, one panel per split.

    The line is thin where not all runs are alive, and there is no band where fewer than two are. A dot on the upper
    edge marks where a run's loss stopped being finite.

    Args:
        panels: x and y of each run, by optimizer, by the panel's title ("training", "validation").
        band: see `curves.envelope`.
        log: logarithmic loss axis; by default where it serves.
        grid_points: interpolate all runs to this many positions, for axes without common positions (seconds).
    """
    with styled():
        figure, grid = new_figure(1, max(1, len(panels)))
        names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
        rows: list[dict[str, Any]] = []
        for axes, (title, panel) in zip(grid[0], panels.items(), strict=False):
            rows += _panel(axes, title, panel, style_of(names), band, level, log, grid_points)
            axes.set_title(title)
            axes.set_xlabel(x_label)
            axes.set_ylabel(y_label)
        legend_below(figure, _fullest(axes for line in grid for axes in line), note=_band_words(band, level, rows))
        return Plot(figure, rows)


def telemetry(
    metrics: Mapping[str, Mapping[str, Curves]], *, x_label: str = "step", band: Band = "quantile", level: float = 0.9
) -> Plot:
    """Several metrics of the same runs above each other on one x axis.

    Args:
        metrics: x and y of each run, by optimizer, by the axis label ("training loss", "effective learning rate").
    """
    with styled():
        count = max(1, len(metrics))
        figure, grid = new_figure(count, 1, sharex=True, size=(5.2, 1.5 * count + 0.8))
        names = list(dict.fromkeys(name for panel in metrics.values() for name in panel))
        rows: list[dict[str, Any]] = []
        for line, (label, panel) in zip(grid, metrics.items(), strict=False):
            rows += _panel(line[0], label, panel, style_of(names), band, level, None, None)
            line[0].set_ylabel(label.replace(" ", "\n", 1) if len(label) > 14 else label)
        grid[-1][0].set_xlabel(x_label)
        legend_below(figure, _fullest(axes for line in grid for axes in line), note=_band_words(band, level, rows))
        return Plot(figure, rows)


def _fullest(panels: Iterable[Axes]) -> Axes:
    """The panel with the most optimizers, whose legend serves for all."""
    return max(panels, key=lambda axes: len(axes.get_legend_handles_labels()[1]))


def _band_words(band: Band, level: float, rows: Sequence[Mapping[str, Any]]) -> str:
    share = f"{100 * level:g}%"
    words = {
        "sd": "mean ± standard deviation over runs",
        "ci": f"mean and its {share} interval over runs",
        "minmax": "mean and range over runs",
        "quantile": f"median and the middle {share} of runs",
    }[band]
    if any(row["n"] < row["runs"] for row in rows):
        words += "; thin where runs have ended"
    if any(row["lost"] for row in rows):
        words += "; dots where a run's value stopped being finite"
    most = max((row["averaged"] for row in rows), default=1)
    return words + (f"; points average up to {most} steps" if most > 1 else "")


def _panel(
    axes: Axes,
    title: str,
    panel: Mapping[str, Curves],
    styles: Mapping[str, Mapping[str, Any]],
    band: Band,
    level: float,
    log: bool | None,
    grid_points: int | None,
) -> list[dict[str, Any]]:
    """Draw the envelopes of one panel and return their numbers."""
    rows: list[dict[str, Any]] = []
    drawn: list[Array] = []
    for name, curves in panel.items():
        stretched, averaged = (curves, 1) if grid_points else _in_stretches(curves)
        found = envelope(stretched, band=band, level=level, grid=_grid(curves, grid_points))
        lost = [x for x in map(_first_lost, curves) if x is not None]
        _draw(axes, name, found, styles[name], len(lost))
        mark_on_top(axes, lost, styles[name]["color"])
        drawn += [found.centre, *(np.where(found.n == found.runs, edge, np.nan) for edge in (found.low, found.high))]
        rows += _rows(title, name, found, averaged)
    log = log_where_it_serves(axes, [np.where(values > 0, values, np.nan) for values in drawn], log)
    _limit(axes, drawn, log)
    return rows


def _in_stretches(curves: Curves) -> tuple[Curves, int]:
    """Long curves as means of stretches, and how many steps the longest stretch averages."""
    positions = [np.asarray(x, dtype=np.float64) for x, _ in curves]
    longest = max((len(x) for x in positions), default=0)
    if longest <= 2 * STRETCHES:
        return curves, 1
    low, high = min(float(x[0]) for x in positions if len(x)), max(float(x[-1]) for x in positions if len(x))
    edges = np.linspace(low, high, STRETCHES + 1)
    return [binned(curve, edges) for curve in curves], math.ceil(longest / STRETCHES)


def _limit(axes: Axes, drawn: Sequence[Array], log: bool) -> None:
    """Fit the axis to the lines and to the bands of all runs: the band of two survivors may be wider than the page."""
    pool = np.concatenate([np.empty(0), *drawn])
    pool = pool[np.isfinite(pool) & ((pool > 0) | (not log))]
    if not len(pool) or pool.min() == pool.max():
        return
    low, high = float(pool.min()), float(pool.max())
    if log:
        margin = (high / low) ** 0.05
        axes.set_ylim(low / margin, high * margin)
    else:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def _grid(curves: Curves, points: int | None) -> Array | None:
    ends = [float(np.asarray(x)[-1]) for x, _ in curves if len(np.asarray(x))]
    return np.linspace(0.0, max(ends), points) if points and ends else None


def _draw(axes: Axes, name: str, found: Envelope, style: Mapping[str, Any], lost: int) -> None:
    whole = found.n == found.runs
    label = f"{name} (n = {found.runs}{f', {lost} lost' if lost else ''})"
    if not whole.any():
        whole = found.n == found.n.max(initial=0)
    # The full line keeps one point beyond where all runs are alive, so that the two lines meet.
    joined = whole | np.append(whole[1:], False) | np.append(False, whole[:-1])
    axes.plot(found.x, np.where(joined, found.centre, np.nan), label=label, **style)
    axes.plot(found.x, np.where(whole, np.nan, found.centre), **{**style, "linewidth": 0.6})
    axes.fill_between(found.x, found.low, found.high, color=style["color"], alpha=0.18, linewidth=0)


def _first_lost(curve: tuple[ArrayLike, ArrayLike]) -> float | None:
    x, y = np.asarray(curve[0], dtype=np.float64), np.asarray(curve[1], dtype=np.float64)
    lost = np.flatnonzero(~np.isfinite(y))
    return float(x[lost[0]]) if len(lost) else None


def _rows(title: str, name: str, found: Envelope, averaged: int) -> list[dict[str, Any]]:
    columns = (found.x, found.centre, found.low, found.high, found.n, found.lost)
    about = {"panel": title, "optimizer": name, "runs": found.runs, "averaged": averaged}
    return [
        {**about, "x": x, "centre": c, "low": low, "high": high, "n": n, "lost": lost}
        for x, c, low, high, n, lost in zip(*(column.tolist() for column in columns), strict=True)
    ]


def target(reached: Mapping[str, ToTarget], *, x_label: str = "steps", target_label: str = "the target") -> Plot:
    """The share of runs that reached a target, over what it took them; runs that ended before are ticks on their line.

    Args:
        reached: by optimizer, see `budget.steps_to_target`.
    """
    with styled():
        figure, grid = new_figure()
        axes = grid[0][0]
        end = max([0.0, *(x for found in reached.values() for x in found.last)])
        rows: list[dict[str, Any]] = []
        for name, style in style_of(reached).items():
            found = reached[name]
            at, share = found.distribution()
            xs, ys = (
                np.concatenate([[0.0], at, [end]]),
                np.concatenate([[0.0], share, share[-1:] if len(share) else [0.0]]),
            )
            axes.plot(xs, ys, drawstyle="steps-post", label=f"{name} ({found.reached} of {found.n})", **style)
            outs = zip(found.when, found.last, found.diverged, strict=True)
            ended = [x for when, x, lost in outs if when is None and not lost]
            heights = [float(ys[np.searchsorted(xs, x, side="right") - 1]) for x in ended]
            axes.plot(ended, heights, linestyle="none", marker="|", markersize=8, color=style["color"])
            rows += [{"optimizer": name, "x": x, "share": y} for x, y in zip(xs.tolist(), ys.tolist(), strict=True)]
        axes.set_ylim(-0.02, 1.04)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"{x_label} to {target_label}")
        axes.set_ylabel("share of runs")
        legend_below(figure, axes)
        return Plot(figure, rows)


def profile(
    costs: Mapping[str, Mapping[str, float]], *, cost_label: str = "validation loss", most: float | None = None
) -> Plot:
    """Dolan and More's performance profiles: on what share of tasks each optimizer is within a factor of the best.

    Args:
        costs: by optimizer, by task; smaller is better, NaN or infinite for a failure.
        most: largest factor drawn; by default a little past the largest that occurs.
    """
    found = performance_profile(costs)
    with styled():
        figure, grid = new_figure()
        axes = grid[0][0]
        largest = max([1.0, *(float(f[-1]) for f, _ in found.values() if len(f))])
        end = most or 1.1 * largest
        rows: list[dict[str, Any]] = []
        for name, style in style_of(found).items():
            factors, shares = found[name]
            xs = np.concatenate([[1.0], factors, [max(end, largest)]])
            ys = np.concatenate([[0.0], shares, shares[-1:]]) if len(shares) else np.zeros(2)
            axes.plot(xs, ys, drawstyle="steps-post", label=name, **style)
            rows += [
                {"optimizer": name, "factor": x, "share": y}
                for x, y in zip(factors.tolist(), shares.tolist(), strict=True)
            ]
        if end > 10:
            axes.set_xscale("log")
            plain_log_ticks(axes.xaxis, end)
        axes.set_xlim(1.0, max(end, math.nextafter(1.0, 2.0)))
        axes.set_ylim(-0.02, 1.04)
        axes.set_xlabel(f"{cost_label} relative to the best optimizer")
        tasks = len({task for by_task in costs.values() for task in by_task})
        axes.set_ylabel(f"share of {tasks} tasks")
        legend_below(figure, axes)
        return Plot(figure, rows)
