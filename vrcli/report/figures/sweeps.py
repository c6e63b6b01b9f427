"""The figure of a search: every trial, and the best so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from vrcli.report.figures.style import (
    OUTCOMES,
    PAGE,
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
from vrcli.report.text_plot import LOG_FROM
from vrcli.report.wording import counted, settings
from vrcli.stats.curves import best_so_far, thin

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
        number: of the trial in its search, counted from 1; None where it is none of a search.
    """

    settings: Mapping[str, Any]
    outcome: float
    x: ArrayLike = ()
    y: ArrayLike = ()
    number: int | None = None

    @property
    def diverged(self) -> bool:
        return not math.isfinite(self.outcome)


def sweep(
    trials: Mapping[str, Sequence[Trial]],
    *,
    outcome_label: str = "best validation loss",
    x_label: str = "epoch",
    title: str = "",
) -> Plot:
    """All trials of each optimizer: their curves coloured by outcome, and the best outcome so far.

    The optimizers share the axes and the colours, so that the spread of one can be held against that of the others.

    Args:
        trials: in the order in which they ended, by optimizer.
        title: what the figure is of.
    """
    with styled():
        count = max(1, len(trials))
        columns = min(3, count + 1)
        lines = math.ceil((count + 1) / columns)
        figure, grid = new_figure(lines, columns, size=(PAGE, 2.3 * lines + 0.6))
        head(figure, title)
        places = [axes for line in grid for axes in line]
        for axes in places[count + 1 :]:
            axes.set_visible(False)
        colours = norm_of([t.outcome for found in trials.values() for t in found])
        for axes, (name, found) in zip(places, trials.items(), strict=False):
            _trial_curves(axes, found, colours)
            lost = sum(t.diverged for t in found)
            axes.set_title(f"{name}\n{counted(len(found), 'trial')}, {lost} diverged")
            axes.set_xlabel(x_label)
            if x_label in ("step", "epoch"):
                whole_ticks(axes)
        _share_loss_axis(places[:count], [np.asarray(t.y) for found in trials.values() for t in found])
        for place in range(count):
            places[place].tick_params(labelleft=place % columns == 0)
            places[place].set_ylabel(outcome_label.removeprefix("best ") if place % columns == 0 else "")
        rows = _best_so_far(places[count], trials, outcome_label)
        if colours is not None:
            outcome_bar(figure, places, colours, outcome_label)
        legend_below(figure, places[count], note="curves are coloured by their trial's outcome")
        return Plot(figure, rows)


def _best_so_far(axes: Axes, trials: Mapping[str, Sequence[Trial]], outcome_label: str) -> list[dict[str, Any]]:
    """Draw the best outcome over the trials and return the numbers of all trials."""
    rows: list[dict[str, Any]] = []
    for name, style in style_of(trials).items():
        best = best_so_far([t.outcome for t in trials[name]])
        axes.plot(np.arange(1, len(best) + 1), best, drawstyle="steps-post", label=name, **style)
        mark_on_top(axes, [i + 1 for i, t in enumerate(trials[name]) if t.diverged], style["color"], "x")
        rows += _sweep_rows(name, trials[name], best.tolist())
    log_where_it_serves(axes, [np.array([t.outcome for t in found]) for found in trials.values()])
    # No label on the axis: it would push the columns apart.
    axes.set_title(f"{outcome_label}\nso far")
    axes.set_xlabel("trials ended")
    whole_ticks(axes)
    return rows


def norm_of(outcomes: Sequence[float]) -> Normalize | None:
    """Colours of outcomes: on a logarithmic scale where one bad trial would swallow a linear one."""
    from matplotlib.colors import LogNorm, Normalize

    finite = [v for v in outcomes if math.isfinite(v)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    if low > 0 and high / low >= LOG_FROM:
        return LogNorm(low, high)
    return Normalize(low, high) if high > low else Normalize(low - abs(low) / 10, low + abs(low) / 10 + 1e-300)


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
    for one in axes if limits else ():
        one.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def _sweep_rows(name: str, trials: Sequence[Trial], best: Sequence[float]) -> list[dict[str, Any]]:
    """One row per point of each trial's curve; one for a trial without a curve."""
    rows: list[dict[str, Any]] = []
    for place, (trial, so_far) in enumerate(zip(trials, best, strict=True), 1):
        about = {
            "optimizer": name,
            "trial": trial.number,
            "ended": place,
            "settings": settings(trial.settings),
            "outcome": trial.outcome,
            "best_so_far": so_far,
        }
        x, y = np.asarray(trial.x, dtype=np.float64).tolist(), np.asarray(trial.y, dtype=np.float64).tolist()
        rows += [{**about, "x": at, "y": value} for at, value in zip(x or [math.nan], y or [math.nan], strict=True)]
    return rows


def outcome_bar(figure: Figure, axes: Sequence[Axes], norm: Normalize, label: str) -> None:
    """The scale of the outcomes' colours, beside the panels that use it."""
    import matplotlib
    from matplotlib.colors import LogNorm

    bar = figure.colorbar(matplotlib.cm.ScalarMappable(norm, OUTCOMES), ax=axes, label=label, pad=0.02, aspect=30)
    if isinstance(norm, LogNorm):
        plain_log_ticks(bar.ax.yaxis, float(norm.vmax or 1.0) / float(norm.vmin or 1.0))
