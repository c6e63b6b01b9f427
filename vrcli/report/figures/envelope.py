"""The mean and spread over seeds of each optimizer's settings."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, cast

from vrcli.report.figures import base
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.counts import Diverged, Panels, Units, counted_runs, diverged_runs, legend_labels
from vrcli.report.figures.panels import (
    BINS,
    GRID,
    LOSSES,
    band_words,
    envelope_panel,
    listed,
    name_axes,
    read,
    section_grid,
    units_of,
)
from vrcli.report.figures.style import Plot, legend_below, style_of, styled
from vrcli.report.figures.text import Page, Rows, by, panels_of, table
from vrcli.report.wording import number, quantity
from vrcli.results.lines import Reader
from vrcli.results.types import Column, Run
from vrcli.stats.curves import Band


@dataclass(frozen=True)
class Envelope(Figure):
    """Mean curve of each optimizer's best settings, and its spread. The spread is over the seeds; training is
    left, validation right."""

    every: base.Every = False
    metric: base.Metrics = ()
    x: base.X = "step"
    band: Annotated[
        str, Option("--band", "around the mean: ci (as tables quote it), sd, minmax or quantile", choices=base.BANDS)
    ] = "ci"
    level: Annotated[float | None, Option("--level", "share of a ci or quantile band [default: 0.95]", "SHARE")] = None
    log: base.Log = None
    every_step: base.EveryStep = False

    def check(self) -> None:
        super().check()
        base.check_level(self.level, self.band)

    def make(self, reader: Reader, notes: list[str]) -> Drawn | None:
        sections = base.best_settings(reader, notes, every=self.every)
        if sections is None:
            return None
        runs = base.runs_of(sections)
        metrics = reader.metrics(runs, self.metric, LOSSES)
        panels = read(reader, notes, sections, metrics, self.x)
        if panels is None:
            return None
        plot = draw(
            {section: {metric: listed(panel) for metric, panel in own.items()} for section, own in panels.items()},
            x=self.x, band=cast(Band, self.band), level=self.level or 0.95, log=self.log,
            grid_points=GRID if self.x == "seconds" else None, bins=None if self.every_step else BINS,
            diverged=diverged_runs(sections), units=units_of(sections, panels),
        )  # fmt: skip
        more = {quantity(name) for name in metrics if _more_is_better(reader, name, runs)}
        return Drawn(plot, lambda page: text(plot.rows, page, base.AXES[self.x].label, more), self.log)


FIGURE = Envelope


def _more_is_better(reader: Reader, metric: str, runs: Sequence[Run]) -> bool:
    """Only of metrics on validation are tasks asked: of learning rates and norms they know nothing."""
    column = reader.of_result(metric, runs) if metric.startswith("val_") else Column.of(metric)
    return column.direction == "max"


def draw(
    sections: Mapping[str, Panels],
    *,
    x: str = "step",
    y_label: str | None = None,
    band: Band = "ci",
    level: float = 0.95,
    log: bool | None = None,
    grid_points: int | None = None,
    bins: int | None = BINS,
    diverged: Diverged | None = None,
    units: Mapping[str, Units] | None = None,
) -> Plot:
    """Envelopes with one row of panels per section (task, data set, preset), which share colours and legend only.

    The line is thin where not all runs are alive, and there is no band where fewer than two are. A dot on the upper
    edge marks where a run's loss stopped being finite.

    Args:
        sections: panels by the title of their row; x and y of each run, by line, by the panel's metric.
        x: one of `base.AXES`.
        y_label: of every panel; None where the panel's title says it.
        band: see `curves.envelope`.
        log: logarithmic loss axis; by default where it serves.
        grid_points: interpolate all runs to this many positions, for axes without common positions (seconds).
        bins: long curves are drawn as means over so many bins; None for every step.
        units: what each curve is a repetition of, as `sections` has the curves; by default each run stands for itself.
        diverged: by the title of the row; by default the runs with a value that is not finite.
    """
    with styled():
        figure, grid = section_grid(sections)
        styles = style_of(series for panels in sections.values() for panel in panels.values() for series in panel)
        known = diverged or {}
        repeated = units or {}
        counts = {
            title: counted_runs(panels, known.get(title, {}), repeated.get(title)) for title, panels in sections.items()
        }
        labels = legend_labels(counts)
        rows: list[dict[str, Any]] = []
        for line, (section, panels) in zip(grid, sections.items(), strict=False):
            for axes, (metric, panel) in zip(line, panels.items(), strict=False):
                own = repeated.get(section, {}).get(metric, {})
                about = (labels, known.get(section, {}), band, level, log, grid_points, bins, own)
                found = envelope_panel(axes, metric, panel, styles, *about)
                rows += [{"section": section, **row} for row in found]
            name_axes(line, section, panels, counts[section] if labels is None else {}, x, y_label)
        legend_below(figure, *chain(*grid), note=band_words(band, level, rows))
        return Plot(figure, rows)


def text(rows: Rows, page: Page, x_label: str, more_is_better: Collection[str] = ()) -> str:
    """The centres of every panel's envelopes, and their best and last values with the band's half-width.

    Args:
        more_is_better: panels whose highest values are quoted, not the lowest.
    """
    parts = []
    for title, panel in panels_of(rows):
        series, facts = {}, []
        for name, own in by(panel, "optimizer"):
            n_diverged = own[0]["diverged"]
            label = f"{name} (n = {own[0]['runs']}{f', {n_diverged} diverged' if n_diverged else ''})"
            series[label] = ([row["x"] for row in own], [row["centre"] for row in own])
            facts.append(_envelope_facts(name, own, x_label, highest=own[0]["panel"] in more_is_better))
        said = "\nmeans are geometric, intervals those of the logarithms" if any(row["logs"] for row in panel) else ""
        parts.append(f"{title}\n{page.plot(series, x_label)}\n\n{table(facts, page.width)}{said}")
    return "\n\n".join(parts)


def _envelope_facts(name: str, rows: Rows, x_label: str, *, highest: bool) -> dict[str, str]:
    word = "highest" if highest else "lowest"
    finite = [row for row in rows if math.isfinite(row["centre"])]
    if not finite:
        return {"": name, "n": str(rows[0]["runs"]), "diverged": str(rows[0]["diverged"]), word: "NaN"}
    best, last = (max if highest else min)(finite, key=lambda row: float(row["centre"])), finite[-1]
    half = (last["high"] - last["low"]) / 2
    return {
        "": name,
        "n": str(last["runs"]),
        "at the end": str(last["n"]),
        "diverged": str(rows[0]["diverged"]),
        word: number(best["centre"]),
        f"at {x_label}": f"{best['x']:.0f}" if float(best["x"]).is_integer() else number(best["x"]),
        "last": number(last["centre"]),
        "half band": number(half) if math.isfinite(half) else "-",
    }
