"""The paths of optimizers over the contours of a test function."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vrcli.errors import UsageError
from vrcli.report.figures import base
from vrcli.report.figures.base import Drawn, Figure
from vrcli.report.figures.style import PANEL, Plot, Series, legend_below, new_figure, style_of, styled
from vrcli.report.figures.text import Rows, by, table
from vrcli.report.wording import number
from vrcli.results.lines import Reader

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What a task keeps with a run for this figure: `x` and `y`, their grid of `gap`, and `minima`.
LANDSCAPE = "landscape.json"
#: Curves of the first two coordinates.
COORDINATES = ("val_x", "val_y")
LEVELS = 16

#: Steps and the two coordinates, by run.
Paths = Mapping[str, tuple[Any, Any, Any]]


@dataclass(frozen=True)
class Trajectory(Figure):
    """The way of each optimizer over the contours of a function. It needs runs of the task functions."""

    every: base.Every = False

    def make(self, reader: Reader, notes: list[str]) -> Drawn | None:
        sections = base.best_settings(reader, notes, every=self.every)
        if sections is None:
            return None
        panels = {}
        for title, lines in sections.items():
            kept = reader.file(base.runs_of({title: lines}), LANDSCAPE)
            if kept is None:
                notes.append(f"{title}: no {LANDSCAPE} is kept with these runs, so there are no contours: not drawn")
            else:
                panels[title] = json.loads(kept), {line: _paths(reader, runs) for line, runs in lines.items()}
        if not panels:
            raise UsageError("none of these runs is of a test function; train one with: vr run functions --opt vradam")
        plot = draw(panels)
        return Drawn(plot, lambda page: text(plot.rows))


FIGURE = Trajectory


def _paths(reader: Reader, runs: Sequence[Any]) -> Paths:
    read = reader.curves(runs, COORDINATES, "step")
    found = {}
    for run in runs:
        if all((run.id, name) in read for name in COORDINATES):
            (steps, x), (_, y) = (read[run.id, name] for name in COORDINATES)
            found[str(run.id)] = steps, x, y
    return found


def draw(panels: Mapping[str, tuple[Mapping[str, Any], Mapping[Series, Paths]]]) -> Plot:
    """One panel per function.

    Args:
        panels: the landscape and the paths by line, by the panel's title.
    """
    with styled():
        columns = min(2, len(panels))
        count = -(-len(panels) // columns)
        size = (columns * PANEL + 0.6, 3.2 * count + 0.5)
        figure, grid = new_figure(count, columns, size=size)
        styles = style_of(line for _, lines in panels.values() for line in lines)
        rows: list[dict[str, Any]] = []
        every = [axes for row in grid for axes in row]
        for axes in every[len(panels) :]:
            axes.set_visible(False)
        for axes, (title, (landscape, lines)) in zip(every, panels.items(), strict=False):
            _contours(axes, landscape)
            axes.set_title(title, loc="left", fontweight="bold")
            for line, paths in lines.items():
                rows += _walk(axes, line, paths, styles[line], landscape, title)
        note = "contours: denser towards the minima, which are stars; dots: where paths end"
        legend_below(figure, max(every, key=lambda axes: len(axes.get_legend_handles_labels()[1])), note=note)
        return Plot(figure, rows)


def _contours(axes: Axes, landscape: Mapping[str, Any]) -> None:
    x, y, gap = (np.asarray(landscape[name], dtype=np.float64) for name in ("x", "y", "gap"))
    # Heights at equal steps would leave a narrow valley without a line, and levels at equal steps a wide plain.
    levels = np.unique(np.quantile(gap, np.linspace(0, 1, LEVELS) ** 2))
    shades = [str(shade) for shade in np.linspace(1.0, 0.75, len(levels) - 1)]
    axes.contourf(x, y, gap, levels=levels, colors=shades)
    axes.contour(x, y, gap, levels=levels[1:-1], colors="#999999", linewidths=0.4)
    for at in landscape["minima"]:
        axes.plot(*at, marker="*", color="black", markersize=8, linestyle="none", zorder=6)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    axes.grid(False)


def _walk(
    axes: Axes, line: Series, paths: Paths, style: Mapping[str, Any], landscape: Mapping[str, Any], title: str
) -> list[dict[str, Any]]:
    """Draw the paths of one line and return their points."""
    rows = []
    for turn, (run, (steps, x, y)) in enumerate(paths.items()):
        thin = {"linewidth": 0.8 if len(paths) > 1 else 1.2, "alpha": 0.8}
        axes.plot(x, y, label=line.label if turn == 0 else None, **{**style, **thin})
        axes.plot(x[-1:], y[-1:], marker="o", markersize=4, linestyle="none", color=style["color"], zorder=5)
        about = {"function": landscape["function"], "section": title, "optimizer": line.label, "run": run}
        points = zip(steps, x, y, strict=True)
        rows += [{**about, "step": int(step), "x": float(a), "y": float(b)} for step, a, b in points]
    return rows


def text(rows: Rows) -> str:
    """Where each path begins and ends."""
    ends = []
    for name, own in by(rows, "section"):
        for run in dict.fromkeys(row["run"] for row in own):
            path = [row for row in own if row["run"] == run]
            first, last = path[0], path[-1]
            ends.append(
                {
                    "function": name,
                    "optimizer": last["optimizer"],
                    "run": run,
                    "steps": last["step"],
                    "from": f"{number(first['x'])}, {number(first['y'])}",
                    "to": f"{number(last['x'])}, {number(last['y'])}",
                }
            )
    return table(ends)
