"""The trials of searches: their curves, and what each setting does to the outcome."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from vrcli.errors import UsageError
from vrcli.report.figures import base, sweep_settings
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.style import (
    LOST,
    OUTCOMES,
    PAGE,
    Plot,
    Series,
    head,
    legend_below,
    log_where_it_serves,
    mark_on_top,
    new_figure,
    norm_of,
    outcome_bar,
    style_of,
    styled,
    whole_ticks,
)
from vrcli.report.figures.text import Page, Rows, by, table
from vrcli.report.wording import counted, number, quantity, settings
from vrcli.results.lines import Reader
from vrcli.results.searches import Search, Trial, sweeps_of
from vrcli.stats.curves import best_so_far, thin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

KINDS = ("trials", "settings", "parallel")


@dataclass(frozen=True)
class Sweep(Figure):
    """All trials of a search coloured by their outcome, and the best so far; or the outcome over each setting."""

    selects = ("opts", "preset", "where")

    words: Annotated[tuple[str, ...], Option(
        "", "sweeps by number or name [default: the newest, and its like of other optimizers]", "SWEEP|TASK",
    )] = ()  # fmt: skip
    kind: Annotated[str, Option(
        "--kind", "trials (curves), settings (scatter) or parallel (coordinates)", choices=KINDS,
    )] = "trials"  # fmt: skip
    x: Annotated[str | None, Option(
        "--x", "of the curves: step, epoch or seconds [default: epoch]", "AXIS", tuple(base.AXES),
    )] = None  # fmt: skip

    def check(self) -> None:
        super().check()
        if self.x is not None and self.kind != "trials":
            raise UsageError(
                f"--x is the axis of curves, which --kind {self.kind} does not draw; leave one of them out"
            )

    def make(self, reader: Reader, notes: list[str]) -> Drawn | None:
        x = self.x or "epoch"
        found = sweeps_of(reader, self.words, x)
        if found is None:
            notes.append("no sweeps yet; start with: vr sweep cnn --opt vradam --trials 20")
            return None
        if found.left_out:
            notes.append(f"{counted(found.left_out, 'trial')} failed, unfinished or not matching: not drawn")
        trials = {series_of(search): search.trials for search in found.each}
        if not any(trials.values()):
            notes.append("no trial has ended yet")
            return None
        title, label = found.section, quantity(found.objective.key)
        if self.kind == "trials":
            plot, words = draw(trials, outcome_label=label, x=x, title=title), text
        elif self.kind == "settings":
            plot, words = sweep_settings.draw_grid(trials, outcome_label=label, title=title), sweep_settings.grid_text
        else:
            plot = sweep_settings.draw_parallel(trials, outcome_label=label, title=title)
            words = sweep_settings.parallel_text
        return Drawn(plot, lambda page: f"{title}\n{words(plot.rows, page, label)}")


FIGURE = Sweep


def series_of(search: Search) -> Series:
    """Each sweep by its optimizer, with its number where an optimizer has several."""
    number = "" if search.sweep is None else f" (sweep {search.sweep})"
    return Series(search.optimizer, f"{search.optimizer}{number}")


def draw(
    trials: Mapping[Series, Sequence[Trial]],
    *,
    outcome_label: str = "best validation loss",
    x: str = "epoch",
    title: str = "",
) -> Plot:
    """All trials of each optimizer: their curves coloured by outcome, and the best outcome so far.

    The optimizers share the axes and the colours, so that the spread of one can be held against that of the others.

    Args:
        trials: in the order in which they ended, by line.
        x: one of `base.AXES`.
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
        for axes, (series, found) in zip(places, trials.items(), strict=False):
            _trial_curves(axes, found, colours)
            lost = sum(t.diverged for t in found)
            axes.set_title(f"{series.label}\n{counted(len(found), 'trial')}, {lost} diverged")
            axes.set_xlabel(base.AXES[x].label)
            if base.AXES[x].whole:
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


def _best_so_far(axes: Axes, trials: Mapping[Series, Sequence[Trial]], outcome_label: str) -> list[dict[str, Any]]:
    """Draw the best outcome over the trials and return the numbers of all trials."""
    rows: list[dict[str, Any]] = []
    for series, style in style_of(trials).items():
        best = best_so_far([t.outcome for t in trials[series]])
        axes.plot(np.arange(1, len(best) + 1), best, drawstyle="steps-post", label=series.label, **style)
        mark_on_top(axes, [i + 1 for i, t in enumerate(trials[series]) if t.diverged], style["color"], "x")
        rows += _rows(series.label, trials[series], best.tolist())
    log_where_it_serves(axes, [np.array([t.outcome for t in found]) for found in trials.values()])
    # No label on the axis: it would push the columns apart.
    axes.set_title(f"{outcome_label}\nso far")
    axes.set_xlabel("trials ended")
    whole_ticks(axes)
    return rows


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


def _rows(name: str, trials: Sequence[Trial], best: Sequence[float]) -> list[dict[str, Any]]:
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


def text(rows: Rows, page: Page, outcome: str) -> str:
    """The best so far over the trials, and the best trial of each optimizer."""
    series, facts = {}, []
    for name, points in by(rows, "optimizer"):
        own = [first[0] for _, first in by(points, "ended")]
        series[name] = ([row["ended"] for row in own], [row["best_so_far"] for row in own])
        good = [row for row in own if math.isfinite(row["outcome"])]
        best = min(good, key=lambda row: float(row["outcome"]), default=None)
        facts.append(
            {
                "": name,
                "trials": str(len(own)),
                "diverged": str(len(own) - len(good)),
                "best": number(best["outcome"]) if best else "NaN",
                "median": number(float(np.median([row["outcome"] for row in good]))) if good else "NaN",
                "in trial": str(best["trial"]) if best else "-",
                "settings of the best": best["settings"] if best else "-",
            }
        )
    return f"{outcome}, best so far\n{page.plot(series, 'trials ended')}\n\n{table(facts)}"
