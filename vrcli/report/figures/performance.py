"""Figures of what optimizers reach: times to a target, and performance profiles over tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vrcli.report.figures.style import Plot, head, legend_below, new_figure, plain_log_ticks, style_of, styled
from vrcli.report.wording import counted
from vrcli.stats.budget import ToTarget
from vrcli.stats.profiles import performance_profile


def target(
    reached: Mapping[str, ToTarget], *, x_label: str = "steps", target_label: str = "the target", title: str = ""
) -> Plot:
    """The share of runs that reached a target, over what it took them; runs that ended before are ticks on their line.

    Args:
        reached: by optimizer, see `budget.steps_to_target`.
        title: what the figure is of.
    """
    with styled():
        figure, grid = new_figure()
        head(figure, title)
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
            about = {"optimizer": name, "n": found.n, "reached": found.reached}
            rows += [{**about, "x": x, "share": y} for x, y in zip(xs.tolist(), ys.tolist(), strict=True)]
        axes.set_ylim(-0.02, 1.04)
        axes.set_xlim(0.0, 1.04 * end or 1.0)
        axes.set_xlabel(f"{x_label} to {target_label}")
        axes.set_ylabel("share of runs")
        legend_below(figure, axes)
        return Plot(figure, rows)


def profile(
    costs: Mapping[str, Mapping[str, float]],
    *,
    cost_label: str = "validation loss",
    problem: str = "task",
    note: str = "",
    most: float | None = None,
) -> Plot:
    """Dolan and More's performance profiles: on what share of tasks each optimizer is within a factor of the best.

    Args:
        costs: by optimizer, by task; smaller is better, NaN or infinite for a failure.
        problem: what each cost is of.
        note: which tasks they are.
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
            steps = zip(factors.tolist(), shares.tolist(), strict=True) if len(factors) else [(1.0, 0.0)]
            rows += [{"optimizer": name, "factor": x, "share": y} for x, y in steps]
        if end > 10:
            axes.set_xscale("log")
            plain_log_ticks(axes.xaxis, end)
        axes.set_xlim(1.0, max(end, math.nextafter(1.0, 2.0)))
        axes.set_ylim(-0.02, 1.04)
        axes.set_xlabel(f"{cost_label} relative to the best optimizer")
        tasks = len({task for by_task in costs.values() for task in by_task})
        axes.set_ylabel(f"share of {counted(tasks, problem)}")
        legend_below(figure, axes, note=note)
        return Plot(figure, rows)
