"""Figures of runs: envelopes, the curves of single runs, and telemetry.

Each function returns the figure together with the numbers it shows, so that a figure can be checked and redrawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vrcli.report.figures.counts import LOST, Curve, Curves, Diverged, Panels, counted_runs, legend_labels, lost_of
from vrcli.report.figures.style import (
    PAGE,
    PANEL,
    Plot,
    head,
    legend_below,
    log_where_it_serves,
    mark_on_top,
    new_figure,
    plain_log_ticks,
    style_of,
    styled,
    whole_ticks,
)
from vrcli.stats.curves import Band, Envelope, binned, envelope, first_lost
from vrcli.stats.inference import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Stretches as whose means a long curve is drawn: more points would be a smear at the width of a panel.
STRETCHES = 100
#: How far below the lowest mean a logarithmic axis goes for the sake of a band.
BELOW = 2.5


def envelopes(
    panels: Panels,
    *,
    x_label: str = "step",
    y_label: str | None = "loss",
    band: Band = "sd",
    level: float = 0.95,
    log: bool | None = None,
    grid_points: int | None = None,
) -> Plot:
    """Mean curve and band over runs, one colour per optimizer, one panel per split: see `envelope_rows`.

    Args:
        panels: x and y of each run, by optimizer, by the panel's title ("training", "validation").
        y_label: of every panel; None where the panel's title says it.
    """
    return envelope_rows(
        {"": panels}, x_label=x_label, y_label=y_label, band=band, level=level, log=log, grid_points=grid_points
    )


def envelope_rows(
    sections: Mapping[str, Panels],
    *,
    x_label: str = "step",
    y_label: str | None = None,
    band: Band = "sd",
    level: float = 0.95,
    log: bool | None = None,
    grid_points: int | None = None,
    stretches: int | None = STRETCHES,
    diverged: Diverged | None = None,
) -> Plot:
    """Envelopes with one row of panels per section (task, data set, preset), which share colours and legend only.

    The line is thin where not all runs are alive, and there is no band where fewer than two are. A dot on the upper
    edge marks where a run's loss stopped being finite.

    Args:
        sections: panels by the title of their row; x and y of each run, by optimizer, by the panel's title.
        y_label: of every panel; None where the panel's title says it.
        band: see `curves.envelope`.
        log: logarithmic loss axis; by default where it serves.
        grid_points: interpolate all runs to this many positions, for axes without common positions (seconds).
        stretches: long curves are drawn as means of so many stretches; None for every step.
        diverged: by the title of the row; by default the runs with a value that is not finite.
    """
    with styled():
        figure, grid = _section_grid(sections)
        styles = style_of(name for panels in sections.values() for panel in panels.values() for name in panel)
        known = diverged or {}
        counts = {title: counted_runs(panels, known.get(title, {})) for title, panels in sections.items()}
        labels = legend_labels(counts)
        rows: list[dict[str, Any]] = []
        for line, (section, panels) in zip(grid, sections.items(), strict=False):
            for axes, (title, panel) in zip(line, panels.items(), strict=False):
                own = known.get(section, {})
                found = _panel(axes, title, panel, styles, labels, own, band, level, log, grid_points, stretches)
                rows += [{"section": section, **row} for row in found]
            _name_axes(line, section, panels, counts[section] if labels is None else {}, x_label, y_label)
        everyone = _fullest(axes for line in grid for axes in line)
        legend_below(figure, everyone, note=_band_words(band, level, rows))
        return Plot(figure, rows)


def run_curves(
    sections: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Curve]]]],
    *,
    x_label: str = "step",
    y_label: str | None = None,
    log: bool | None = None,
    stretches: int | None = STRETCHES,
    diverged: Diverged | None = None,
) -> Plot:
    """Every run's own curve as a thin line, one colour per optimizer.

    Args:
        sections: x and y by run, by optimizer, by the panel's title, by the title of the row of panels.
        y_label: of every panel; None where the panel's title says it.
        stretches: see `envelope_rows`.
        diverged: likewise.
    """
    with styled():
        figure, grid = _section_grid(sections)
        styles = style_of(name for panels in sections.values() for panel in panels.values() for name in panel)
        plain = {s: {t: listed(panel) for t, panel in panels.items()} for s, panels in sections.items()}
        counts = {title: counted_runs(panels, (diverged or {}).get(title, {})) for title, panels in plain.items()}
        alone = all(count == "1" for by_name in counts.values() for count in by_name.values())
        labels = {name: name for name in styles} if alone else legend_labels(counts)
        rows: list[dict[str, Any]] = []
        for line, (section, panels) in zip(grid, sections.items(), strict=False):
            for axes, (title, panel) in zip(line, panels.items(), strict=False):
                found = _own_lines(axes, title, panel, styles, labels, log, stretches)
                rows += [{"section": section, **row} for row in found]
            _name_axes(line, section, panels, counts[section] if labels is None else {}, x_label, y_label)
        most = max((row["averaged"] for row in rows), default=1)
        notes = ["one line per run"]
        notes += ["dots where a run's value stopped being finite"] * any(not math.isfinite(r["y"]) for r in rows)
        notes += [LOST] * any("lost" in count for by_name in counts.values() for count in by_name.values())
        notes += [f"points average up to {most} steps"] * (most > 1)
        legend_below(figure, _fullest(axes for line in grid for axes in line), note="; ".join(notes))
        return Plot(figure, rows)


def _own_lines(
    axes: Axes,
    title: str,
    panel: Mapping[str, Mapping[str, Curve]],
    styles: Mapping[str, Mapping[str, Any]],
    labels: Mapping[str, str] | None,
    log: bool | None,
    stretches: int | None,
) -> list[dict[str, Any]]:
    """Draw the runs of one panel, in turns so that no optimizer hides the others, and return their numbers."""
    rows: list[dict[str, Any]] = []
    stretched, averaged = _in_stretches([curve for runs in panel.values() for curve in runs.values()], stretches)
    drawn = iter(stretched)
    lines = [
        (turn, name, run, np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
        for name, runs in panel.items()
        for turn, (run, (x, y)) in enumerate((run, next(drawn)) for run in runs)
    ]
    for turn, name, run, x, y in sorted(lines, key=lambda line: line[0]):
        label = (labels[name] if labels is not None else name) if turn == 0 else None
        many = len(panel[name]) > 1
        thin_line = {**styles[name], "linewidth": 0.7, "alpha": 0.75} if many else styles[name]
        axes.plot(x, np.where(np.isfinite(y), y, np.nan), label=label, **thin_line)
        rows += [
            {"panel": title, "optimizer": name, "run": run, "averaged": averaged, "x": at, "y": value}
            for at, value in zip(x.tolist(), y.tolist(), strict=True)
        ]
    for name, runs in panel.items():
        lost = [x for x in map(first_lost, runs.values()) if x is not None]
        mark_on_top(axes, lost, styles[name]["color"])
    values = [y for *_, y in lines]
    _limit(axes, values, log_where_it_serves(axes, [np.where(y > 0, y, np.nan) for y in values], log))
    return rows


def _section_grid(sections: Mapping[str, Mapping[str, Any]]) -> tuple[Figure, list[list[Axes]]]:
    """One row of axes per section, as wide as the widest; places without a panel are empty."""
    width = max((len(panels) for panels in sections.values()), default=1) or 1
    count = max(1, len(sections))
    page = PAGE if width > 1 else PANEL + 0.6
    figure, grid = new_figure(count, width, size=(page, (2.5 if count == 1 else 2.0) * count + 0.4))
    for line, panels in zip(grid, sections.values(), strict=False):
        for axes in line[len(panels) :]:
            axes.set_visible(False)
    return figure, grid


def _name_axes(
    line: Sequence[Axes],
    section: str,
    panels: Mapping[str, Any],
    counts: Mapping[str, str],
    x_label: str,
    y_label: str | None,
) -> None:
    """Titles and axis labels of one row; the numbers of runs where they are not the same in every row."""
    for axes, title in zip(line, panels, strict=False):
        axes.set_xlabel(x_label)
        if x_label in ("step", "epoch"):
            whole_ticks(axes)
        # A remark on a second line: beside a low panel one line would be too long.
        axes.set_ylabel(title.replace(" (", "\n(") if y_label is None else y_label)
        if y_label is not None:
            axes.set_title(title)
    if section and line:
        told = [f"{name} {count.replace(', ', ' (')}{')' * (',' in count)}" for name, count in counts.items()]
        line[0].set_title(f"{section}\n" if told else section, loc="left", fontweight="bold")
        if told:
            note = line[0].annotate(f"n: {', '.join(told)}", (0, 1), (0, 5), xycoords="axes fraction",
                                    textcoords="offset points", fontsize=7)  # fmt: skip
            # Out of the layout: a long list must not push the panels apart.
            note.set_in_layout(False)


def listed(panel: Mapping[str, Mapping[str, Curve]]) -> dict[str, Curves]:
    """The curves of one panel without the names of their runs."""
    return {name: list(runs.values()) for name, runs in panel.items()}


def telemetry(
    metrics: Panels,
    *,
    x_label: str = "step",
    band: Band = "quantile",
    level: float = 0.9,
    log: bool | None = None,
    grid_points: int | None = None,
    title: str = "",
    diverged: Mapping[str, int] | None = None,
) -> Plot:
    """Several metrics of the same runs above each other on one x axis.

    Args:
        metrics: x and y of each run, by optimizer, by the axis label ("training loss", "effective learning rate").
        title: what the figure is of.
        diverged: by optimizer; see `envelope_rows`.
    """
    with styled():
        count = max(1, len(metrics))
        figure, grid = new_figure(count, 1, sharex=True, size=(5.2, 1.5 * count + 0.8))
        head(figure, title)
        lost = diverged or {}
        labels = legend_labels({"": counted_runs(metrics, lost)})
        names = list(dict.fromkeys(name for panel in metrics.values() for name in panel))
        rows: list[dict[str, Any]] = []
        for line, (label, panel) in zip(grid, metrics.items(), strict=False):
            # Schedules end at zero: a logarithmic axis would show little else.
            own = False if log is None and "rate" in label else log
            about = (labels, lost, band, level, own, grid_points, STRETCHES)
            rows += _panel(line[0], label, panel, style_of(names), *about)
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
    if any(row["low"] <= 0 < row["centre"] for row in rows):
        words += "; bands may pass zero"
    if any(row["n"] < row["runs"] for row in rows):
        words += "; thin where runs have ended"
    if any(row["lost"] for row in rows):
        words += "; dots where a run's value stopped being finite"
    if any(row["diverged"] for row in rows):
        words += f"; {LOST}"
    most = max((row["averaged"] for row in rows), default=1)
    return words + (f"; points average up to {most} steps" if most > 1 else "")


def _panel(
    axes: Axes,
    title: str,
    panel: Mapping[str, Curves],
    styles: Mapping[str, Mapping[str, Any]],
    labels: Mapping[str, str] | None,
    diverged: Mapping[str, int],
    band: Band,
    level: float,
    log: bool | None,
    grid_points: int | None,
    stretches: int | None,
) -> list[dict[str, Any]]:
    """Draw the envelopes of one panel and return their numbers."""
    rows: list[dict[str, Any]] = []
    drawn: list[Array] = []
    for name, curves in panel.items():
        stretched, averaged = _in_stretches(curves, stretches)
        found = envelope(stretched, band=band, level=level, grid=_grid(stretched, grid_points))
        lost = [x for x in map(first_lost, curves) if x is not None]
        _draw(axes, name if labels is None else labels[name], found, styles[name])
        mark_on_top(axes, lost, styles[name]["color"])
        low, high = (np.where(found.n == found.runs, edge, np.nan) for edge in (found.low, found.high))
        drawn += [found.centre, high, low]
        rows += _rows(title, name, found, averaged, lost_of(curves, diverged.get(name, 0)))
    log = log_where_it_serves(axes, [np.where(values > 0, values, np.nan) for values in drawn], log)
    if log:
        # The edge of a band may come close to zero or pass it, where a logarithmic axis has no room for it.
        centres = np.concatenate([values[np.isfinite(values) & (values > 0)] for values in drawn[::3]])
        floor = float(centres.min(initial=np.inf)) / BELOW
        drawn = [np.where(values < floor, np.nan, values) for values in drawn]
    _limit(axes, drawn, log)
    if log:
        low_end, high_end = axes.get_ylim()
        plain_log_ticks(axes.yaxis, high_end / low_end)
    return rows


def _in_stretches(curves: Curves, stretches: int | None) -> tuple[Curves, int]:
    """Long curves as means of stretches, and how many steps the longest stretch averages."""
    positions = [np.asarray(x, dtype=np.float64) for x, _ in curves]
    longest = max((len(x) for x in positions), default=0)
    if not stretches or longest <= 1.5 * stretches:
        return curves, 1
    low, high = min(float(x[0]) for x in positions if len(x)), max(float(x[-1]) for x in positions if len(x))
    edges = np.linspace(low, high, stretches + 1)
    return [binned(curve, edges) for curve in curves], math.ceil(longest / stretches)


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


def _draw(axes: Axes, label: str, found: Envelope, style: Mapping[str, Any]) -> None:
    whole = found.n == found.runs
    if not whole.any():
        whole = found.n == found.n.max(initial=0)
    # The full line keeps one point beyond where all runs are alive, so that the two lines meet.
    joined = whole | np.append(whole[1:], False) | np.append(False, whole[:-1])
    axes.plot(found.x, np.where(joined, found.centre, np.nan), label=label, **style)
    axes.plot(found.x, np.where(whole, np.nan, found.centre), **{**style, "linewidth": 0.6})
    axes.fill_between(found.x, found.low, found.high, color=style["color"], alpha=0.18, linewidth=0)


def _rows(title: str, name: str, found: Envelope, averaged: int, diverged: int) -> list[dict[str, Any]]:
    columns = (found.x, found.centre, found.low, found.high, found.n, found.lost)
    about = {"panel": title, "optimizer": name, "runs": found.runs, "diverged": diverged, "averaged": averaged}
    return [
        {**about, "x": x, "centre": c, "low": low, "high": high, "n": n, "lost": lost}
        for x, c, low, high, n, lost in zip(*(column.tolist() for column in columns), strict=True)
    ]
