"""Figures of what each setting does to the outcome: sensitivity, scatter and parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vrcli.report.figures.style import (
    COLOURS,
    OUTCOMES,
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
)
from vrcli.report.figures.sweeps import LOST, Trial, norm_of, outcome_bar
from vrcli.report.text_plot import LOG_FROM
from vrcli.report.wording import setting as shown
from vrcli.report.wording import settings
from vrcli.stats.profiles import Sensitivity, sensitivity_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

#: Panels beside each other at the width of a page.
ACROSS = 4


def sensitivity(
    trials: Mapping[str, Sequence[Trial]],
    setting: str = "lr",
    *,
    outcome_label: str = "best validation loss",
    tolerance: float = 0.1,
    title: str = "",
    pooled: Sequence[str] = (),
) -> Plot:
    """The outcome over one setting, with the range in which it stays close to the best and the share that diverged.

    Args:
        trials: by optimizer; those without the setting are left out.
        tolerance: of the stable range, as a share of the best outcome.
        title: what the figure is of.
        pooled: other settings in which runs of one optimizer differ.
    """
    found = {
        name: [(float(t.settings[setting]), t.outcome) for t in own if setting in t.settings]
        for name, own in trials.items()
    }
    summaries = {name: sensitivity_of(points, tolerance=tolerance) for name, points in found.items()}
    lost = any(any(one.diverged) for one in summaries.values())
    with styled():
        options: dict[str, Any] = {"height_ratios": (3, 1)} if lost else {}
        figure, grid = new_figure(2 if lost else 1, 1, sharex=True, size=(4.2, 3.9 if lost else 3.2), **options)
        head(figure, title)
        top, bottom = grid[0][0], grid[-1][0]
        rows: list[dict[str, Any]] = []
        for name, style in style_of(trials).items():
            _sensitivity_lines(top, name, summaries[name], found[name], style)
            if lost:
                share = np.array(summaries[name].diverged) / np.maximum(summaries[name].n, 1)
                bottom.plot(summaries[name].at, share, marker="o", markersize=3, **style)
            rows += _sensitivity_rows(name, setting, summaries[name])
        log_where_it_serves(top, [np.array([outcome for _, outcome in points]) for points in found.values()])
        _log_x_where_it_serves(bottom, [row[setting] for row in rows], room=5)
        top.set_ylabel(outcome_label)
        if lost:
            bottom.set_ylabel("share\ndiverged")
            bottom.set_ylim(-0.05, 1.05)
        bottom.set_xlabel(named(setting))
        legend_below(figure, top, note=_sensitivity_note(summaries, tolerance, pooled, lost=lost))
        return Plot(figure, rows)


def _sensitivity_note(found: Mapping[str, Sensitivity], tolerance: float, pooled: Sequence[str], *, lost: bool) -> str:
    binned = any(one.binned for one in found.values())
    parts = [f"lines are medians{' of thirds of a decade' if binned else ''}, dots are runs"]
    parts.append(f"thick where the median is within {100 * tolerance:g}% of the best")
    parts.append("crosses diverged" if lost else "no run diverged")
    parts += [pooled_words(pooled)] * bool(pooled)
    return "; ".join(parts)


def pooled_words(names: Sequence[str], most: int = 8) -> str:
    """What must be said where runs that differ in more than the setting on the axis stand on one line."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"runs of one optimizer differ in {', '.join(names[:most])}{more} as well"


def _sensitivity_lines(
    top: Axes,
    name: str,
    found: Sensitivity,
    points: Sequence[tuple[float, float]],
    style: Mapping[str, Any],
) -> None:
    label = f"{name}: {_stable_words(found)}"
    middle = np.where(np.isfinite(found.middle), found.middle, np.nan)
    top.plot(found.at, middle, label=label, marker="" if found.binned else "o", markersize=3, **style)
    finite = [(s, v) for s, v in points if math.isfinite(v)]
    top.plot([s for s, _ in finite], [v for _, v in finite], "o", markersize=2.5, alpha=0.45, color=style["color"])
    if found.stable:
        inside = (found.at >= found.stable[0]) & (found.at <= found.stable[1])
        top.plot(found.at[inside], middle[inside], color=style["color"], linewidth=5, alpha=0.3)
    mark_on_top(top, [s for s, v in points if not math.isfinite(v)], style["color"], "x")


def _stable_words(found: Sensitivity) -> str:
    if found.stable is None:
        return "diverged everywhere"
    if math.isfinite(found.decades):
        return f"stable over {found.decades:.1f} decades"
    return f"stable from {found.stable[0]:g} to {found.stable[1]:g}"


def _sensitivity_rows(name: str, setting: str, found: Sensitivity) -> list[dict[str, Any]]:
    return [
        {
            "optimizer": name,
            setting: at,
            "median": middle,
            "n": n,
            "diverged": lost,
            "stable": found.stable is not None and found.stable[0] <= at <= found.stable[1],
            "stable_from": found.stable[0] if found.stable else math.nan,
            "stable_to": found.stable[1] if found.stable else math.nan,
        }
        for at, middle, n, lost in zip(found.at.tolist(), found.middle.tolist(), found.n, found.diverged, strict=True)
    ]


def _log_x_where_it_serves(axes: Axes, values: Sequence[float], room: int) -> None:
    if values and min(values) > 0 and max(values) / min(values) >= LOG_FROM:
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis, max(values) / min(values), room)


def settings_grid(
    trials: Mapping[str, Sequence[Trial]], *, outcome_label: str = "best validation loss", title: str = ""
) -> Plot:
    """The outcome of each optimizer's trials over each searched setting; crosses on the upper edge diverged."""
    lines: list[list[tuple[str, str]]] = []
    for optimizer, found in trials.items():
        own = [(optimizer, name) for name in _setting_names(found)]
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
            for axes, (optimizer, name) in zip(line, places, strict=False):
                rows += _over_setting(axes, optimizer, name, [t for t in trials[optimizer] if name in t.settings])
                axes.set_title(optimizer, loc="left", fontweight="bold")
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
        _log_x_where_it_serves(axes, at, room=3)
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


def named(setting: str) -> str:
    """A setting as an axis is called."""
    return "learning rate" if setting == "lr" else setting


def _setting_names(trials: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys(name for t in trials for name in t.settings))


def parallel(
    trials: Mapping[str, Sequence[Trial]], *, outcome_label: str = "best validation loss", title: str = ""
) -> Plot:
    """One line per trial through all its settings and its outcome, coloured by outcome: which regions are good.

    Args:
        trials: by optimizer, each with a panel of its own; all share the colours.
    """
    with styled():
        count = max(1, len(trials))
        figure, grid = new_figure(count, 1, size=(PAGE, 2.0 * count + 0.8))
        head(figure, title)
        norm = norm_of([t.outcome for found in trials.values() for t in found])
        rows: list[dict[str, Any]] = []
        for (axes,), (name, found) in zip(grid, trials.items(), strict=False):
            _parallel_lines(axes, found, norm, outcome_label)
            axes.set_title(f"{name}\n", loc="left", fontweight="bold")
            rows += [
                {"optimizer": name, "trial": t.number, "settings": settings(t.settings), "outcome": t.outcome}
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
