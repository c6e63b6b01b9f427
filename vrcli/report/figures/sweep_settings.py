"""Two kinds of the figure `sweep`: the outcome over each setting, and parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from vrcli.report.figures.style import (
    COLOURS,
    LOST,
    OUTCOMES,
    PAGE,
    PANEL,
    Plot,
    Series,
    head,
    legend_below,
    log_where_it_serves,
    log_x_where_it_serves,
    mark_on_top,
    named,
    new_figure,
    norm_of,
    outcome_bar,
    styled,
)
from vrcli.report.figures.text import Page, Rows, by, table
from vrcli.report.text_plot import LOG_FROM
from vrcli.report.wording import counted, number, settings
from vrcli.report.wording import setting as shown
from vrcli.results.searches import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

#: Panels beside each other at the width of a page.
ACROSS = 4


def draw_grid(
    trials: Mapping[Series, Sequence[Trial]], *, outcome_label: str = "best validation loss", title: str = ""
) -> Plot:
    """The outcome of each optimizer's trials over each searched setting; crosses on the upper edge diverged."""
    lines: list[list[tuple[Series, str]]] = []
    for series, found in trials.items():
        own = [(series, name) for name in _setting_names(found)]
        if lines and len(lines[-1]) + len(own) <= ACROSS:
            lines[-1] += own
        else:
            lines += [own[start : start + ACROSS] for start in range(0, len(own), ACROSS)]
    with styled():
        columns = max([1, *map(len, lines)])
        size = (max(PANEL, 1.72 * columns), 2.0 * max(1, len(lines)) + 0.2)
        figure, grid = new_figure(max(1, len(lines)), columns, size=size, sharey=True)
        head(figure, title)
        rows: list[dict[str, Any]] = []
        for line, places in zip(grid, lines, strict=False):
            for axes in line[len(places) :]:
                axes.set_visible(False)
            for axes, (series, name) in zip(line, places, strict=False):
                rows += _over_setting(axes, series.label, name, [t for t in trials[series] if name in t.settings])
                axes.set_title(series.label, loc="left", fontweight="bold")
            line[0].set_ylabel(outcome_label)
        log_where_it_serves(grid[0][0], [np.array([t.outcome for found in trials.values() for t in found])])
        return Plot(figure, rows)


def _over_setting(axes: Axes, optimizer: str, name: str, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Draw the outcomes over one setting and return them."""
    numeric = all(_is_number(t.settings[name]) for t in trials)
    labels = sorted({shown(t.settings[name]) for t in trials})
    at = [float(t.settings[name]) if numeric else labels.index(shown(t.settings[name])) for t in trials]
    good = [(x, t.outcome) for x, t in zip(at, trials, strict=True) if not t.diverged]
    axes.plot([x for x, _ in good], [v for _, v in good], "o", markersize=3.5, alpha=0.7, color=COLOURS[0])
    mark_on_top(axes, [x for x, t in zip(at, trials, strict=True) if t.diverged], LOST, "x")
    if numeric:
        log_x_where_it_serves(axes, at, room=3)
    else:
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_xlabel(named(name))
    return [
        {
            "optimizer": optimizer,
            "setting": name,
            "value": shown(t.settings[name]),
            "outcome": t.outcome,
            "diverged": t.diverged,
        }
        for t in trials
    ]


def _setting_names(trials: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys(name for t in trials for name in t.settings))


def draw_parallel(
    trials: Mapping[Series, Sequence[Trial]], *, outcome_label: str = "best validation loss", title: str = ""
) -> Plot:
    """One line per trial through all its settings and its outcome, coloured by outcome: which regions are good.

    Args:
        trials: by line, each with a panel of its own; all share the colours.
    """
    with styled():
        count = max(1, len(trials))
        figure, grid = new_figure(count, 1, size=(PAGE, 2.0 * count + 0.8))
        head(figure, title)
        norm = norm_of([t.outcome for found in trials.values() for t in found])
        rows: list[dict[str, Any]] = []
        for (axes,), (series, found) in zip(grid, trials.items(), strict=False):
            _parallel_lines(axes, found, norm, outcome_label)
            axes.set_title(f"{series.label}\n", loc="left", fontweight="bold")
            rows += [
                {"optimizer": series.label, "trial": t.number, "settings": settings(t.settings), "outcome": t.outcome}
                for t in found
            ]
        if norm is not None:
            outcome_bar(figure, [line[0] for line in grid], norm, outcome_label)
        if any(t.diverged for found in trials.values() for t in found):
            grid[0][0].plot([], [], color=LOST, label="diverged")
            legend_below(figure, grid[0][0])
        return Plot(figure, rows)


def _parallel_lines(axes: Axes, trials: Sequence[Trial], norm: Normalize | None, outcome_label: str) -> None:
    import matplotlib

    colours = matplotlib.colormaps[OUTCOMES]
    names = _setting_names(trials)
    scaled = [_unit([t.settings.get(name) for t in trials]) for name in names]
    scaled.append(_unit([t.outcome if not t.diverged else None for t in trials]))
    order = sorted(range(len(trials)), key=lambda i: -trials[i].outcome if not trials[i].diverged else -math.inf)
    for i in order:
        lost = trials[i].diverged or norm is None
        colour = LOST if lost or norm is None else colours(norm(trials[i].outcome))
        heights = [column[0][i] for column in scaled]
        axes.plot(range(len(scaled)), heights, color=colour, linewidth=1, alpha=0.5 if lost else 0.9)
    for place, (_, low, high) in enumerate(scaled):
        axes.text(place, -0.05, low, ha="center", va="top", fontsize=7)
        axes.text(place, 1.05, high, ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(scaled)), [*map(named, names), outcome_label])
    axes.tick_params(axis="x", pad=12, length=0)
    axes.set_yticks([])
    axes.set_ylim(-0.02, 1.02)
    axes.grid(visible=True, axis="x", color="#888888")
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unit(values: Sequence[Any]) -> tuple[list[float], str, str]:
    """Values scaled to 0..1 (logarithmically where that serves, categories evenly), and the labels of both ends."""
    present = [v for v in values if v is not None]
    if not present or not all(_is_number(v) for v in present):
        labels = sorted({shown(v) for v in present})
        step = max(1, len(labels) - 1)
        heights = [labels.index(shown(v)) / step if v is not None else math.nan for v in values]
        return heights, labels[0] if labels else "", labels[-1] if labels else ""
    low, high = float(min(present)), float(max(present))
    log = low > 0 and high / low >= LOG_FROM
    base, span = (math.log(low), math.log(high / low)) if log else (low, high - low)
    heights = [
        math.nan if v is None else 0.5 if span == 0 else ((math.log(v) if log else float(v)) - base) / span
        for v in values
    ]
    return heights, f"{low:.3g}", f"{high:.3g}"


def grid_text(rows: Rows, page: Page, outcome: str) -> str:
    """The outcomes in the lower, middle and upper third of each setting's values, or at each choice."""
    facts = []
    for name, own in by(rows, "optimizer"):
        for setting, mine in by(own, "setting"):
            for label, part in _thirds(mine):
                good = [row["outcome"] for row in part if not row["diverged"]]
                facts.append(
                    {
                        "optimizer": name,
                        "setting": setting,
                        "values": label,
                        "n": str(len(part)),
                        "diverged": str(len(part) - len(good)),
                        "best": number(min(good)) if good else "NaN",
                        "median": number(float(np.median(good))) if good else "NaN",
                    }
                )
    return f"{outcome} over each setting\n\n{table(facts)}"


def _thirds(rows: Rows) -> list[tuple[str, Rows]]:
    try:
        ordered = sorted(rows, key=lambda row: float(row["value"]))
    except ValueError:
        return [(str(value), part) for value, part in by(sorted(rows, key=lambda row: str(row["value"])), "value")]
    values = dict.fromkeys(row["value"] for row in ordered)
    if len(values) <= 4:
        return [(str(value), part) for value, part in by(ordered, "value")]
    edges = [round(len(ordered) * i / 3) for i in range(4)]
    parts = [ordered[start:end] for start, end in pairwise(edges)]
    return [(" .. ".join(dict.fromkeys((part[0]["value"], part[-1]["value"]))), part) for part in parts]


def parallel_text(rows: Rows, page: Page, outcome: str, most: int = 10) -> str:
    """The best trials of each optimizer with their settings."""
    parts = []
    for name, own in by(rows, "optimizer"):
        ordered = sorted(own, key=lambda row: row["outcome"] if math.isfinite(row["outcome"]) else math.inf)
        facts = [
            {"trial": str(row["trial"]), "outcome": number(row["outcome"]), "settings": row["settings"]}
            for row in ordered[:most]
        ]
        more = f"\n{counted(len(own) - most, 'worse trial', 'are')} not listed" if len(own) > most else ""
        parts.append(f"{name}: {outcome}\n{table(facts)}{more}")
    return "\n\n".join(parts)
