"""What figures of curves share: rows of panels, envelopes in them, and long curves as means over bins."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vrcli.report.figures import base
from vrcli.report.figures.base import AXES
from vrcli.report.figures.counts import Curve, Curves, diverged_of
from vrcli.report.figures.scales import log_of_lines, placed, plain_log_ticks, whole_ticks
from vrcli.report.figures.style import PAGE, PANEL, Series, mark_on_top, new_figure
from vrcli.report.wording import quantity
from vrcli.results.groups import search_of
from vrcli.results.lines import Panels, Reader
from vrcli.stats.curves import Band, Envelope, binned, envelope, first_nonfinite
from vrcli.stats.inference import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The curves that figures show where none are named.
LOSSES = ("train_loss", "val_loss")
#: Bins over which a long curve's means are drawn: more points would be a smear at the width of a panel.
BINS = 100
#: Positions on an axis of seconds, on which runs have none in common.
GRID = 200
#: Never on a logarithmic axis of themselves: schedules end at zero and counts begin there, and little else would show.
LINEAR = ("lr_effective", "flow_triggers")
#: How far below the lowest mean and above the highest a logarithmic axis goes for the sake of a band.
BELOW, ABOVE = 2.5, 10.0


def read(
    reader: Reader, notes: list[str], sections: base.Sections, metrics: Sequence[str], x: str
) -> Panels[Series] | None:
    """The curves of the lines of each section; None where there are none. What must be said of them joins the notes."""
    panels = reader.panels(sections, metrics, x)
    if not panels:
        notes.append(base.no_curves(x))
        return None
    notes += [*base.machines(base.runs_of(sections), x), *base.unseen(panels)]
    return panels


def units_of(
    sections: base.Sections, panels: Mapping[str, Mapping[str, Mapping[Series, Mapping[str, Any]]]]
) -> dict[str, dict[str, dict[Series, list[Hashable]]]]:
    """The searches of the lines that have several, as tables count them; other lines count runs and are left out."""
    searches: dict[str, Hashable] = {str(run.id): search_of(run) for run in base.runs_of(sections)}
    return {
        section: {
            metric: {
                series: own
                for series, runs in panel.items()
                if len(set(own := [searches[run] for run in runs])) > 1 and None not in own
            }
            for metric, panel in in_section.items()
        }
        for section, in_section in panels.items()
    }


def section_grid(sections: Mapping[str, Mapping[str, Any]]) -> tuple[Figure, list[list[Axes]]]:
    """One row of axes per section, as wide as the widest; places without a panel are empty."""
    width = max((len(panels) for panels in sections.values()), default=1) or 1
    count = max(1, len(sections))
    page = PAGE if width > 1 else PANEL + 0.6
    figure, grid = new_figure(count, width, size=(page, (2.5 if count == 1 else 2.0) * count + 0.4))
    for line, panels in zip(grid, sections.values(), strict=False):
        for axes in line[len(panels) :]:
            axes.set_visible(False)
    return figure, grid


def name_axes(
    line: Sequence[Axes],
    section: str,
    panels: Mapping[str, Any],
    counts: Mapping[Series, str],
    x: str,
    y_label: str | None,
) -> None:
    """Titles and axis labels of one row; the numbers of runs where they are not the same in every row."""
    for axes, metric in zip(line, panels, strict=False):
        title = quantity(metric)
        axes.set_xlabel(AXES[x].label)
        if AXES[x].whole:
            whole_ticks(axes)
        # A remark on a second line: beside a low panel one line would be too long.
        axes.set_ylabel(title.replace(" (", "\n(") if y_label is None else y_label)
        if y_label is not None:
            axes.set_title(title)
    if section and line:
        told = runs_behind(counts)
        line[0].set_title(f"{section}\n" if told else section, loc="left", fontweight="bold")
        if told:
            note = line[0].annotate(told, (0, 1), (0, 5), xycoords="axes fraction",
                                    textcoords="offset points", fontsize=7)  # fmt: skip
            # Out of the layout: a long list must not push the panels apart.
            note.set_in_layout(False)


def runs_behind(counts: Mapping[Series, str]) -> str:
    """The number of runs that most lines have, and the lines with others: "n = 5; AdamW: 5, 1 diverged"."""
    every = list(counts.values())
    if not every:
        return ""
    usual = max(every, key=every.count)
    others = [f"{series.label}: {count}" for series, count in counts.items() if count != usual]
    return "; ".join([f"n = {usual}", *others])


def listed(panel: Mapping[Series, Mapping[str, Curve]]) -> dict[Series, Curves]:
    """The curves of one panel without the names of their runs."""
    return {series: list(runs.values()) for series, runs in panel.items()}


def band_words(band: Band, level: float, rows: Sequence[Mapping[str, Any]]) -> str:
    share = f"{100 * level:g}%"
    searches = [row["units"] < row["runs"] for row in rows]
    over = "searches" if searches and all(searches) else "searches or runs" if any(searches) else "runs"
    logs = [row["logs"] for row in rows]
    mean, of_logs = "mean", ""
    if any(logs):
        mean = "geometric mean" if all(logs) else "mean (geometric on logarithmic axes)"
        of_logs = " of the logarithms"
    words = {
        "sd": "mean ± standard deviation over runs",
        "ci": f"{mean} and {share} interval{of_logs} over {over}",
        "minmax": "mean and range over runs",
        "quantile": f"median and the middle {share} of runs",
    }[band]
    if any(row["low"] <= 0 < row["centre"] for row in rows):
        words += "; bands may pass zero"
    if any(row["n"] < row["runs"] for row in rows):
        words += "; thin where runs have ended"
    if any(row["nonfinite"] for row in rows):
        words += "; dots where a run's value stopped being finite"
    most = max((row["averaged"] for row in rows), default=1)
    return words + (f"; points average up to {most} steps" if most > 1 else "")


def envelope_panel(
    axes: Axes,
    metric: str,
    panel: Mapping[Series, Curves],
    styles: Mapping[Series, Mapping[str, Any]],
    labels: Mapping[Series, str] | None,
    diverged: Mapping[Series, int],
    band: Band,
    level: float,
    log: bool | None,
    grid_points: int | None,
    bins: int | None,
    units: Mapping[Series, Sequence[Hashable]],
) -> list[dict[str, Any]]:
    """Draw the envelopes of one panel and return their numbers.

    Args:
        units: what each curve of a line is a repetition of; of lines that are not named, each its own.
    """
    binned_curves = {series: in_bins(curves, bins) for series, curves in panel.items()}

    def envelopes(*, logs: bool = False) -> dict[Series, Envelope]:
        return {
            series: envelope(
                own, band=band, level=level, grid=_grid(own, grid_points), units=units.get(series), logs=logs
            )
            for series, (own, _) in binned_curves.items()
        }

    found = envelopes()
    log = False if log is None and metric in LINEAR else log
    log = log_of_lines(axes, [one.centre for one in found.values()], log)
    if log and band == "ci" and all(_positive(own) for own, _ in binned_curves.values()):
        found = envelopes(logs=True)
    rows: list[dict[str, Any]] = []
    for series, one in found.items():
        curves = panel[series]
        nonfinite = [x for x in map(first_nonfinite, curves) if x is not None]
        _draw(axes, series.label if labels is None else labels[series], one, styles[series])
        mark_on_top(axes, nonfinite, styles[series]["color"])
        n_diverged = diverged_of(curves, diverged.get(series, 0))
        rows += _rows(quantity(metric), series.label, one, binned_curves[series][1], n_diverged)
    drawn = _extent(found.values())
    if axes.get_yscale() == "symlog":
        drawn = drawn[::3]  # the edges of bands reach as far below zero as above it
    if log:
        # The edge of a band may come close to zero or pass it, where a logarithmic axis has no room for it; that of two
        # runs may be at thousands of times their mean.
        centres = np.concatenate([values[np.isfinite(values) & (values > 0)] for values in drawn[::3]])
        low, high = centres.min(initial=np.inf) / BELOW, centres.max(initial=0.0) * ABOVE
        drawn = [np.where((values < low) | (values > high), np.nan, values) for values in drawn]
    limit(axes, drawn)
    if log:
        low_end, high_end = axes.get_ylim()
        plain_log_ticks(axes.yaxis, high_end / low_end)
    return rows


def _extent(found: Iterable[Envelope]) -> list[Array]:
    """Centre and edges of each line, the edges as far as all runs are alive."""
    return [
        values
        for one in found
        for values in (one.centre, *(np.where(one.n == one.runs, edge, np.nan) for edge in (one.high, one.low)))
    ]


def _positive(curves: Curves) -> bool:
    """Whether all values have logarithms, but for those that are not finite."""
    return all(((values := np.asarray(y, dtype=np.float64)) > 0)[np.isfinite(values)].all() for _, y in curves)


def in_bins(curves: Curves, bins: int | None) -> tuple[Curves, int]:
    """Long curves as means of bins, and how many steps the widest bin averages."""
    positions = [np.asarray(x, dtype=np.float64) for x, _ in curves]
    longest = max((len(x) for x in positions), default=0)
    if not bins or longest <= 1.5 * bins:
        return curves, 1
    low, high = min(float(x[0]) for x in positions if len(x)), max(float(x[-1]) for x in positions if len(x))
    edges = np.linspace(low, high, bins + 1)
    return [binned(curve, edges) for curve in curves], math.ceil(longest / bins)


def limit(axes: Axes, drawn: Sequence[Array]) -> None:
    """Fit the axis to the lines and to the bands of all runs: the band of two survivors may be wider than the page."""
    pool = np.concatenate([np.empty(0), *drawn])
    pool = pool[np.isfinite(pool) & ((pool > 0) | (axes.get_yscale() != "log"))]
    if not len(pool) or pool.min() == pool.max():
        return
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(np.array([pool.min(), pool.max()]))
    margin = 0.05 * (high - low)
    axes.set_ylim(*scale.inverted().transform(np.array([low - margin, high + margin])))


def lone(y: Array) -> dict[str, Any]:
    """How values without a neighbour are drawn: a line needs two."""
    there = np.isfinite(y)
    alone = np.flatnonzero(there & ~np.append(False, there[:-1]) & ~np.append(there[1:], False))
    return {"marker": "o", "markersize": 3.5, "markevery": alone.tolist()} if len(alone) else {}


def _grid(curves: Curves, points: int | None) -> Array | None:
    ends = [float(np.asarray(x)[-1]) for x, _ in curves if len(np.asarray(x))]
    return np.linspace(0.0, max(ends), points) if points and ends else None


def _draw(axes: Axes, label: str, found: Envelope, style: Mapping[str, Any]) -> None:
    whole = found.n == found.runs
    if not whole.any():
        whole = found.n == found.n.max(initial=0)
    # The full line keeps one point beyond where all runs are alive, so that the two lines meet.
    joined = whole | np.append(whole[1:], False) | np.append(False, whole[:-1])
    centre = placed(axes, found.centre)
    alone = lone(centre)
    axes.plot(found.x, np.where(joined, centre, np.nan), label=label, **style, **alone)
    axes.plot(found.x, np.where(whole, np.nan, centre), **{**style, "linewidth": 0.6})
    axes.fill_between(found.x, found.low, found.high, color=style["color"], alpha=0.18, linewidth=0)
    if alone:  # nor has a band of one value an area
        at = alone["markevery"]
        axes.vlines(found.x[at], found.low[at], found.high[at], color=style["color"], alpha=0.4, linewidth=1.4)


def _rows(title: str, name: str, found: Envelope, averaged: int, diverged: int) -> list[dict[str, Any]]:
    columns = (found.x, found.centre, found.low, found.high, found.n, found.nonfinite)
    about = {"panel": title, "optimizer": name, "runs": found.runs, "units": found.units, "diverged": diverged,
             "averaged": averaged, "logs": found.logs}  # fmt: skip
    return [
        {**about, "x": x, "centre": c, "low": low, "high": high, "n": n, "nonfinite": nonfinite}
        for x, c, low, high, n, nonfinite in zip(*(column.tolist() for column in columns), strict=True)
    ]
