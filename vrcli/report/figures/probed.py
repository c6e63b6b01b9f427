"""What figures of probes share: panels of the sparse curves of runs, measured values solid and thresholds dashed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from vrcli.errors import UsageError
from vrcli.report.figures import base
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.panels import BINS, in_bins, limit, lone
from vrcli.report.figures.scales import log_of_lines, placed, whole_ticks
from vrcli.report.figures.style import PAGE, Plot, Series, head, legend_below, new_figure, style_of, styled
from vrcli.report.figures.text import Page, Rows, by
from vrcli.results.lines import Reader, by_optimizer, own_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vrcli.stats.inference import Array

#: Up to so many measurements of a run each has a mark: the line between them is no measurement.
_MARKED = 12

#: Curves by run, by line.
Lines = Mapping[Series, Mapping[str, Mapping[str, tuple[Any, Any]]]]


@dataclass(frozen=True)
class Panel:
    """One panel.

    Args:
        curves: drawn solid, the first full, the others thinner.
        dashed: drawn dashed: what the others are measured against.
        log: logarithmic y axis; None for where it serves.
    """

    title: str
    curves: Sequence[str]
    dashed: Sequence[str] = ()
    log: bool | None = None


@dataclass(frozen=True)
class Probed(Figure):
    """A figure of what a probe measured: of the runs named, or of a task's."""

    selects = ("opts", "preset", "tag", "group", "sweeps", "where", "since")

    words: Annotated[tuple[str, ...], Option("", "runs by number or name, or a task", "[RUN|TASK]...")] = ()
    x: base.X = "step"
    log: base.Log = None

    def panels(self, known: Sequence[str]) -> list[Panel]:
        """What to draw of the curves that there are."""
        raise NotImplementedError

    #: Which probe measures what it shows.
    probe = ""
    note = "one line per run"

    def make(self, reader: Reader, notes: list[str]) -> Drawn | None:
        runs, alone = reader.named((), self.words)
        if not runs:
            notes.append(base.NO_RUNS)
            return None
        measured = reader.store.curves.beginning(f"{self.probe}_", [run.id for run in runs])
        known = [run for run in runs if run.id in measured]
        if not known:
            raise UsageError(
                f"run {_few(runs)} has no curve of the probe {self.probe}; vr run ... --probe {self.probe} does"
            )
        if left := [run for run in runs if run not in known]:
            notes.append(f"without a curve of the probe {self.probe}, and not drawn: run {_few(left)}")
        sections = base.named(own_lines(known) if alone or len(known) == 1 else by_optimizer(known))
        if len(sections) > 1:
            raise UsageError(f"these runs are of {', '.join(sections)}; name one task, or runs of one")
        ((title, lines),) = sections.items()
        plot = self.of_lines(reader, title, lines)
        return Drawn(plot, lambda page: text(plot.rows, page, base.AXES[self.x].label), self.log)

    def of_lines(self, reader: Reader, title: str, lines: Mapping[Series, Sequence[Any]]) -> Plot:
        """The figure of these runs by line."""
        runs = base.runs_of({title: dict(lines)})
        panels = self.panels(reader.store.curves.metrics([run.id for run in runs]))
        wanted = list(dict.fromkeys(name for one in panels for name in (*one.curves, *one.dashed)))
        read = reader.curves(runs, wanted, self.x)
        own = {
            series: {str(run.id): {m: read[run.id, m] for m in wanted if (run.id, m) in read} for run in members}
            for series, members in lines.items()
        }  # fmt: skip
        return draw(panels, own, x=self.x, log=self.log, title=title, note=self.note)


def _few(runs: Sequence[Any]) -> str:
    return ", ".join(str(run.id) for run in runs[:3]) + (", ..." if len(runs) > 3 else "")


def draw(
    panels: Sequence[Panel], lines: Lines, *, x: str = "step", log: bool | None = None, title: str = "", note: str = ""
) -> Plot:
    """The panels in two columns.

    Args:
        lines: x and y by curve, by run, by line.
    """
    with styled():
        columns = min(2, len(panels))
        count = -(-len(panels) // columns)
        figure, grid = new_figure(count, columns, size=(PAGE if columns > 1 else 4.2, 1.9 * count + 0.7), sharex=True)
        head(figure, title)
        styles = style_of(lines)
        every = [axes for row in grid for axes in row]
        rows: list[dict[str, Any]] = []
        for axes in every[len(panels) :]:
            axes.set_visible(False)
        for place, (axes, panel) in enumerate(zip(every, panels, strict=False)):
            rows += _panel(axes, panel, lines, styles, panel.log if log is None else log)
            axes.set_title(panel.title)
            if place >= len(panels) - columns:
                axes.set_xlabel(base.AXES[x].label)
                axes.tick_params(labelbottom=True)
            if base.AXES[x].whole:
                whole_ticks(axes)
        legend_below(figure, *every, note=note)
        return Plot(figure, rows)


def _panel(
    axes: Axes, panel: Panel, lines: Lines, styles: Mapping[Series, Mapping[str, Any]], log: bool | None
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    drawn: list[tuple[Array, Array, dict[str, Any]]] = []
    for series, runs in lines.items():
        for turn, (run, curves) in enumerate(runs.items()):
            for rank, name in enumerate((*panel.curves, *panel.dashed)):
                if name not in curves:
                    continue
                (((at, y),), averaged) = in_bins([curves[name]], BINS)
                at, y = np.asarray(at, dtype=np.float64), np.asarray(y, dtype=np.float64)
                look = _look(styles[series], rank, name in panel.dashed, len(runs) > 1)
                if len(at) <= _MARKED and name not in panel.dashed:
                    look |= {"marker": "o", "markersize": 2.5}
                drawn.append((at, y, {**look, "label": None if rank or turn else series.label}))
                about = {"panel": panel.title, "optimizer": series.label, "run": run, "curve": name}
                rows += [{**about, "averaged": averaged, "x": a, "y": b} for a, b in zip(at.tolist(), y, strict=True)]
    values = [y for _, y, _ in drawn]
    log_of_lines(axes, values, log)
    for at, y, look in drawn:
        y = placed(axes, y)
        axes.plot(at, y, **(look if "marker" in look else {**look, **lone(y)}))
    limit(axes, values)
    return [{**row, "y": float(row["y"])} for row in rows]


def _look(style: Mapping[str, Any], rank: int, dashed: bool, several: bool) -> dict[str, Any]:
    if dashed:
        return {**style, "linestyle": "--", "linewidth": 0.9, "alpha": 0.8}
    width = (0.8 if several else 1.4) if rank == 0 else 0.6
    return {**style, "linestyle": "-", "linewidth": width, "alpha": 1.0 if rank == 0 else 0.6}


def text(rows: Rows, page: Page, x_label: str) -> str:
    """One low plot per panel."""
    parts = []
    for title, panel in by(rows, "panel"):
        series: dict[str, tuple[list[float], list[float]]] = {}
        for row in panel:
            xs, ys = series.setdefault(f"{row['optimizer']} {row['curve']}", ([], []))
            xs.append(row["x"])
            ys.append(row["y"])
        parts.append(f"{title}\n{page.plot(series, x_label, height=max(5, page.height // 2))}")
    return "\n\n".join(parts)
