"""What optimizers do beside the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, cast

from vrcli.report.figures import base
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.counts import Panels, Units, counted_runs, diverged_runs, legend_labels
from vrcli.report.figures.panels import BINS, GRID, band_words, envelope_panel, listed, units_of
from vrcli.report.figures.style import Plot, Series, head, legend_below, new_figure, style_of, styled
from vrcli.report.figures.text import Page, Rows, by, panels_of
from vrcli.report.wording import quantity
from vrcli.results.lines import Reader
from vrcli.stats.curves import Band

METRICS = ("train_loss", "lr_effective", "velocity_norm", "gate")


@dataclass(frozen=True)
class Telemetry(Figure):
    """Loss, effective learning rate, velocity norm and gate. The panels stand above each other, for one task."""

    every: base.Every = False
    metric: Annotated[tuple[str, ...], base.ANY_CURVE] = ()
    x: base.X = "step"
    band: Annotated[str, Option("--band", "sd, ci, minmax or quantile", choices=base.BANDS)] = "quantile"
    level: Annotated[float | None, Option("--level", "share of a ci or quantile band [default: 0.9]", "SHARE")] = None
    log: base.Log = None

    def check(self) -> None:
        super().check()
        base.check_level(self.level, self.band)

    def make(self, reader: Reader, notes: list[str]) -> Drawn | None:
        sections = base.best_settings(reader, notes, every=self.every, most=1)
        if sections is None:
            return None
        (title,) = sections
        runs = base.runs_of(sections)
        metrics = reader.metrics(runs, self.metric, METRICS)
        panels = reader.panels(sections, metrics, self.x)
        if not panels:
            notes.append(base.no_curves(self.x))
            return None
        missing = [quantity(name) for name in METRICS if name not in metrics]
        if missing and not self.metric:
            notes.append(f"none of these runs recorded: {', '.join(missing)}")
        notes += [*base.machines(runs, self.x), *base.unseen(panels)]
        plot = draw(
            {metric: listed(panel) for metric, panel in panels[title].items()}, x=self.x, band=cast(Band, self.band),
            level=self.level or 0.9, log=self.log, grid_points=GRID if self.x == "seconds" else None, title=title,
            diverged=diverged_runs(sections)[title], units=units_of(sections, panels)[title],
        )  # fmt: skip
        return Drawn(plot, lambda page: f"{title}\n\n{text(plot.rows, page, base.AXES[self.x].label)}", self.log)


FIGURE = Telemetry


def draw(
    metrics: Panels,
    *,
    x: str = "step",
    band: Band = "quantile",
    level: float = 0.9,
    log: bool | None = None,
    grid_points: int | None = None,
    title: str = "",
    diverged: Mapping[Series, int] | None = None,
    units: Units | None = None,
) -> Plot:
    """Several metrics of the same runs above each other on one x axis.

    Args:
        metrics: x and y of each run, by line, by metric.
        x: one of `base.AXES`.
        title: what the figure is of.
        diverged: by line; see `envelope.draw`.
        units: likewise, of each metric.
    """
    with styled():
        count = max(1, len(metrics))
        figure, grid = new_figure(count, 1, sharex=True, size=(5.2, 1.5 * count + 0.8))
        head(figure, title)
        diverged_of_lines = diverged or {}
        labels = legend_labels({"": counted_runs(metrics, diverged_of_lines, units)})
        styles = style_of(series for panel in metrics.values() for series in panel)
        rows: list[dict[str, Any]] = []
        for line, (metric, panel) in zip(grid, metrics.items(), strict=False):
            about = (labels, diverged_of_lines, band, level, log, grid_points, BINS, (units or {}).get(metric, {}))
            rows += envelope_panel(line[0], metric, panel, styles, *about)
            label = quantity(metric)
            line[0].set_ylabel(label.replace(" ", "\n", 1) if len(label) > 14 else label)
        grid[-1][0].set_xlabel(base.AXES[x].label)
        legend_below(figure, *chain(*grid), note=band_words(band, level, rows))
        return Plot(figure, rows)


def text(rows: Rows, page: Page, x_label: str) -> str:
    """One low plot per metric, above each other."""
    parts = []
    for title, panel in panels_of(rows):
        series = {
            name: ([row["x"] for row in own], [row["centre"] for row in own]) for name, own in by(panel, "optimizer")
        }
        parts.append(f"{title}\n{page.plot(series, x_label, height=max(4, page.height // 2))}")
    return "\n\n".join(parts)
