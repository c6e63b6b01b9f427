"""Every run's own curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from vrcli.report.figures import base
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.counts import Curve, Diverged, counted_runs, diverged_runs, legend_labels
from vrcli.report.figures.panels import (
    BINS,
    LOSSES,
    in_bins,
    limit,
    listed,
    lone,
    name_axes,
    read,
    section_grid,
)
from vrcli.report.figures.scales import log_of_lines, placed
from vrcli.report.figures.style import Plot, Series, legend_below, mark_on_top, style_of, styled
from vrcli.report.figures.text import Page, Rows, by, panels_of
from vrcli.report.wording import counted, quantity
from vrcli.results.lines import Reader, by_optimizer, own_lines
from vrcli.stats.curves import first_nonfinite

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Curves(Figure):
    """Every run's own curve, coloured by optimizer. Training is left, validation right."""

    selects = ("opts", "preset", "tag", "group", "sweeps", "where", "since", "status")

    words: Annotated[tuple[str, ...], Option("", "tasks, or runs by number or name", "[TASK|RUN]...")] = ()
    run: Annotated[
        tuple[str, ...], Option("--run", "only this run (number or name); repeatable", "RUN", selects=True)
    ] = ()
    metric: base.Metrics = ()
    x: base.X = "step"
    log: base.Log = None
    every_step: base.EveryStep = False

    def make(self, reader: Reader, notes: list[str]) -> Drawn | None:
        runs, alone = reader.named(self.run, self.words)
        if not runs:
            notes.append(base.NO_RUNS)
            return None
        sections = base.named(own_lines(runs) if alone else by_optimizer(runs))
        metrics = reader.metrics(runs, self.metric, LOSSES)
        panels = read(reader, notes, sections, metrics, self.x)
        if panels is None:
            return None
        bins = None if self.every_step else BINS
        plot = draw(panels, x=self.x, log=self.log, bins=bins, diverged=diverged_runs(sections))
        return Drawn(plot, lambda page: text(plot.rows, page, base.AXES[self.x].label), self.log)


FIGURE = Curves


def draw(
    sections: Mapping[str, Mapping[str, Mapping[Series, Mapping[str, Curve]]]],
    *,
    x: str = "step",
    y_label: str | None = None,
    log: bool | None = None,
    bins: int | None = BINS,
    diverged: Diverged | None = None,
) -> Plot:
    """Every run's own curve as a thin line, one colour per optimizer.

    Args:
        sections: x and y by run, by line, by the panel's metric, by the title of the row of panels.
        x: one of `base.AXES`.
        y_label: of every panel; None where the panel's title says it.
        bins: see `envelope.draw`.
        diverged: likewise.
    """
    with styled():
        figure, grid = section_grid(sections)
        styles = style_of(series for panels in sections.values() for panel in panels.values() for series in panel)
        plain = {s: {t: listed(panel) for t, panel in panels.items()} for s, panels in sections.items()}
        counts = {title: counted_runs(panels, (diverged or {}).get(title, {})) for title, panels in plain.items()}
        alone = all(count == "1" for by_series in counts.values() for count in by_series.values())
        labels = {series: series.label for series in styles} if alone else legend_labels(counts)
        rows: list[dict[str, Any]] = []
        for line, (section, panels) in zip(grid, sections.items(), strict=False):
            for axes, (metric, panel) in zip(line, panels.items(), strict=False):
                found = _panel(axes, metric, panel, styles, labels, log, bins)
                rows += [{"section": section, **row} for row in found]
            name_axes(line, section, panels, counts[section] if labels is None else {}, x, y_label)
        most = max((row["averaged"] for row in rows), default=1)
        notes = ["one line per run"]
        notes += ["dots where a run's value stopped being finite"] * any(not math.isfinite(r["y"]) for r in rows)
        notes += [f"points average up to {most} steps"] * (most > 1)
        legend_below(figure, *chain(*grid), note="; ".join(notes))
        return Plot(figure, rows)


def _panel(
    axes: Axes,
    metric: str,
    panel: Mapping[Series, Mapping[str, Curve]],
    styles: Mapping[Series, Mapping[str, Any]],
    labels: Mapping[Series, str] | None,
    log: bool | None,
    bins: int | None,
) -> list[dict[str, Any]]:
    """Draw the runs of one panel, in turns so that no optimizer hides the others, and return their numbers."""
    rows: list[dict[str, Any]] = []
    thinned, averaged = in_bins([curve for runs in panel.values() for curve in runs.values()], bins)
    drawn = iter(thinned)
    lines = [
        (turn, series, run, np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
        for series, runs in panel.items()
        for turn, (run, (x, y)) in enumerate((run, next(drawn)) for run in runs)
    ]
    values = [y for *_, y in lines]
    log_of_lines(axes, values, log)
    for turn, series, run, x, y in sorted(lines, key=lambda line: line[0]):
        label = (labels[series] if labels is not None else series.label) if turn == 0 else None
        many = len(panel[series]) > 1
        drawn_y = placed(axes, y)
        thin_line = {**styles[series], **lone(drawn_y)} | ({"linewidth": 0.7, "alpha": 0.75} if many else {})
        axes.plot(x, drawn_y, label=label, **thin_line)
        about = {"panel": quantity(metric), "optimizer": series.label, "run": run, "averaged": averaged}
        rows += [{**about, "x": at, "y": value} for at, value in zip(x.tolist(), y.tolist(), strict=True)]
    for series, runs in panel.items():
        nonfinite = [x for x in map(first_nonfinite, runs.values()) if x is not None]
        mark_on_top(axes, nonfinite, styles[series]["color"])
    limit(axes, values)
    return rows


def text(rows: Rows, page: Page, x_label: str) -> str:
    """Of each optimizer the mean of its runs and the range they span."""
    parts = []
    for title, panel in panels_of(rows):
        series = {}
        for name, own in by(panel, "optimizer"):
            ordered = sorted(own, key=lambda row: float(row["x"]))
            runs = len({row["run"] for row in own})
            label = f"{name} ({counted(runs, 'run')})" if runs > 1 else name
            series[label] = ([row["x"] for row in ordered], [row["y"] for row in ordered])
        parts.append(f"{title}\n{page.plot(series, x_label)}")
    return "\n\n".join(parts)
