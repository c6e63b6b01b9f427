"""Figures of searches: every trial, the best so far, and what each setting does to the outcome."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from vrcli.report.curves import best_so_far, thin
from vrcli.report.figure_style import (
    COLOURS,
    OUTCOMES,
    PAGE,
    PANEL,
    Plot,
    legend_below,
    log_where_it_serves,
    mark_on_top,
    new_figure,
    plain_log_ticks,
    style_of,
    styled,
)
from vrcli.report.profiles import Sensitivity, sensitivity_of
from vrcli.report.text_plot import LOG_FROM
from vrcli.report.wording import setting as shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

#: Colour of trials that diverged: none of the outcome scale's.
LOST = "#CC0066"


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Args:
        settings: what was searched, by name.
        outcome: the objective, smaller is better; NaN or infinite when the trial diverged.
        x: positions of its curve, empty when no curve is drawn.
        y: values of its curve.
    """

    settings: Mapping[str, Any]
    outcome: float
    x: ArrayLike = ()
    y: ArrayLike = ()

    @property
    def diverged(self) -> bool:
        return not math.isfinite(self.outcome)


def sweep(
    trials: Mapping[str, Sequence[Trial]], *, outcome_label: str = "best validation loss", x_label: str = "epoch"
) -> Plot:
    """All trials of each optimizer: their curves coloured by outcome, and the best outcome so far.

    Both optimizers share the axes and the colours, so that the spread of one can be held against that of the other.

    Args:
        trials: in the order in which they were run, by optimizer.
    """
    with styled():
        count = max(1, len(trials))
        figure, grid = new_figure(1, count + 1, size=(max(PAGE, 2.3 * (count + 1)), 2.9))
        left = grid[0]
        norm = _norm([t.outcome for found in trials.values() for t in found])
        rows: list[dict[str, Any]] = []
        for axes, (name, found) in zip(left, trials.items(), strict=False):
            _trial_curves(axes, found, norm)
            lost = sum(t.diverged for t in found)
            axes.set_title(f"{name}\n{len(found)} trials, {lost} diverged")
            axes.set_xlabel(x_label)
        left[0].set_ylabel("validation loss")
        _share_loss_axis(left[:count], [np.asarray(t.y) for found in trials.values() for t in found])
        last = left[-1]
        for name, style in style_of(trials).items():
            best = best_so_far([t.outcome for t in trials[name]])
            last.plot(np.arange(1, len(best) + 1), best, drawstyle="steps-post", label=name, **style)
            mark_on_top(last, [i + 1 for i, t in enumerate(trials[name]) if t.diverged], style["color"], "x")
            rows += _sweep_rows(name, trials[name], best.tolist())
        log_where_it_serves(last, [np.array([t.outcome for t in found]) for found in trials.values()])
        last.set_title("best so far")
        last.set_xlabel("trial")
        last.set_ylabel(outcome_label)
        if norm is not None:
            _outcome_bar(figure, left[:count], norm, outcome_label)
        legend_below(figure, last)
        return Plot(figure, rows)


def _norm(outcomes: Sequence[float]) -> Normalize | None:
    """Colours by rank of magnitude where outcomes span one, so that one bad trial does not swallow the scale."""
    from matplotlib.colors import LogNorm, Normalize

    finite = [v for v in outcomes if math.isfinite(v)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    if low > 0 and high / low >= LOG_FROM:
        return LogNorm(low, high)
    return Normalize(low, high if high > low else low + 1e-12)


def _trial_curves(axes: Axes, trials: Sequence[Trial], norm: Normalize | None) -> None:
    import matplotlib

    colours = matplotlib.colormaps[OUTCOMES]
    # The best are drawn last, on top.
    for trial in sorted(trials, key=lambda t: -t.outcome if not t.diverged else -math.inf):
        x, y = np.asarray(trial.x, dtype=np.float64), np.asarray(trial.y, dtype=np.float64)
        kept = thin(y, 500)
        colour = LOST if trial.diverged or norm is None else colours(norm(trial.outcome))
        axes.plot(x[kept], np.where(np.isfinite(y[kept]), y[kept], np.nan), color=colour, linewidth=0.9)
        if trial.diverged and len(x):
            lost = np.flatnonzero(~np.isfinite(y))
            mark_on_top(axes, [float(x[lost[0] if len(lost) else -1])], LOST, "x")


def _share_loss_axis(axes: Sequence[Axes], values: Sequence[Any]) -> None:
    for one in axes:
        log_where_it_serves(one, values)
    limits = [one.get_ylim() for one in axes if one.has_data()]
    for index, one in enumerate(axes):
        if limits:
            one.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        one.tick_params(labelleft=index == 0)


def _sweep_rows(name: str, trials: Sequence[Trial], best: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"optimizer": name, "trial": i + 1, "settings": _words(t.settings), "outcome": t.outcome, "best_so_far": b}
        for i, (t, b) in enumerate(zip(trials, best, strict=True))
    ]


def _words(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={shown(value)}" for name, value in settings.items())


def sensitivity(
    trials: Mapping[str, Sequence[Trial]],
    setting: str = "lr",
    *,
    outcome_label: str = "best validation loss",
    tolerance: float = 0.1,
) -> Plot:
    """The outcome over one setting, with the range in which it stays close to the best and the share that diverged.

    Args:
        trials: by optimizer; those without the setting are left out.
        tolerance: of the stable range, as a share of the best outcome.
    """
    with styled():
        figure, grid = new_figure(2, 1, sharex=True, size=(4.2, 3.9), height_ratios=(3, 1))
        top, bottom = grid[0][0], grid[1][0]
        rows: list[dict[str, Any]] = []
        drawn = []
        for name, style in style_of(trials).items():
            points = [(float(t.settings[setting]), t.outcome) for t in trials[name] if setting in t.settings]
            found = sensitivity_of(points, tolerance=tolerance)
            _sensitivity_lines(top, bottom, name, found, points, style)
            drawn += [found.middle, np.array([outcome for _, outcome in points])]
            rows += _sensitivity_rows(name, setting, found)
        log_where_it_serves(top, drawn)
        _log_x_where_it_serves(bottom, [row[setting] for row in rows])
        top.set_ylabel(outcome_label)
        bottom.set_ylabel("diverged")
        bottom.set_ylim(-0.05, 1.05)
        bottom.set_xlabel(named(setting))
        legend_below(figure, top, note=f"medians; thick within {100 * tolerance:g}% of the best; crosses diverged")
        return Plot(figure, rows)


def _sensitivity_lines(
    top: Axes,
    bottom: Axes,
    name: str,
    found: Sensitivity,
    points: Sequence[tuple[float, float]],
    style: Mapping[str, Any],
) -> None:
    label = f"{name}: {_stable_words(found)}"
    middle = np.where(np.isfinite(found.middle), found.middle, np.nan)
    top.plot(found.at, middle, label=label, marker="o", markersize=3, **style)
    finite = [(s, v) for s, v in points if math.isfinite(v)]
    top.plot([s for s, _ in finite], [v for _, v in finite], "o", markersize=2, alpha=0.4, color=style["color"])
    if found.stable:
        inside = (found.at >= found.stable[0]) & (found.at <= found.stable[1])
        top.plot(found.at[inside], middle[inside], color=style["color"], linewidth=5, alpha=0.3)
    mark_on_top(top, [s for s, v in points if not math.isfinite(v)], style["color"], "x")
    bottom.plot(found.at, np.array(found.diverged) / np.maximum(found.n, 1), marker="o", markersize=3, **style)


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
        }
        for at, middle, n, lost in zip(found.at.tolist(), found.middle.tolist(), found.n, found.diverged, strict=True)
    ]


def _log_x_where_it_serves(axes: Axes, values: Sequence[float]) -> None:
    if values and min(values) > 0 and max(values) / min(values) >= LOG_FROM:
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis, math.inf)


def settings_grid(trials: Mapping[str, Sequence[Trial]], *, outcome_label: str = "best validation loss") -> Plot:
    """The outcome of each optimizer's trials over each searched setting; diverged ones are crosses on the upper edge.

    Args:
        trials: by optimizer, each of which begins a row of panels.
    """
    names = {optimizer: _setting_names(found) for optimizer, found in trials.items()}
    columns = min(4, max([1, *map(len, names.values())]))
    lines = [
        (optimizer, own[start : start + columns])
        for optimizer, own in names.items()
        for start in range(0, len(own), columns)
    ]
    with styled():
        size = (max(PANEL, 1.75 * columns), 2.0 * max(1, len(lines)) + 0.2)
        figure, grid = new_figure(max(1, len(lines)), columns, size=size, sharey=True)
        rows: list[dict[str, Any]] = []
        for line, (optimizer, own) in zip(grid, lines, strict=False):
            for axes in line[len(own) :]:
                axes.set_visible(False)
            for axes, name in zip(line, own, strict=False):
                rows += _over_setting(axes, optimizer, name, [t for t in trials[optimizer] if name in t.settings])
            line[0].set_ylabel(outcome_label)
            line[0].set_title(optimizer, loc="left", fontweight="bold")
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
        _log_x_where_it_serves(axes, at)
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


def parallel(trials: Mapping[str, Sequence[Trial]], *, outcome_label: str = "best validation loss") -> Plot:
    """One line per trial through all its settings and its outcome, coloured by outcome: which regions are good.

    Args:
        trials: by optimizer, each with a panel of its own; all share the colours.
    """
    with styled():
        count = max(1, len(trials))
        figure, grid = new_figure(count, 1, size=(PAGE, 2.0 * count + 0.8))
        norm = _norm([t.outcome for found in trials.values() for t in found])
        rows: list[dict[str, Any]] = []
        for (axes,), (name, found) in zip(grid, trials.items(), strict=False):
            _parallel_lines(axes, found, norm, outcome_label)
            axes.set_title(f"{name}\n", loc="left", fontweight="bold")
            rows += [
                {"optimizer": name, "trial": i + 1, "settings": _words(t.settings), "outcome": t.outcome}
                for i, t in enumerate(found)
            ]
        if norm is not None:
            _outcome_bar(figure, [line[0] for line in grid], norm, outcome_label)
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


def _outcome_bar(figure: Figure, axes: Sequence[Axes], norm: Normalize, label: str) -> None:
    """The scale of the outcomes' colours, beside the panels that use it."""
    import matplotlib
    from matplotlib.colors import LogNorm

    bar = figure.colorbar(matplotlib.cm.ScalarMappable(norm, OUTCOMES), ax=axes, label=label, pad=0.02, aspect=30)
    if isinstance(norm, LogNorm):
        plain_log_ticks(bar.ax.yaxis, float(norm.vmax or 1.0) / float(norm.vmin or 1.0))


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
