"""The trials of searches: their curves, and what each setting does to the outcome."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np

from vrcli.direction import Direction, cost
from vrcli.errors import UsageError
from vrcli.report.figures import base, style
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.scales import log_where_it_serves, log_x_where_it_serves, whole_ticks
from vrcli.report.figures.style import Plot, Series
from vrcli.report.figures.text import Page, Rows, by, table
from vrcli.report.text_plot import LOG_FROM
from vrcli.report.wording import counted, number, quantity, settings
from vrcli.report.wording import setting as shown
from vrcli.results.lines import Reader
from vrcli.results.searches import Search, Trial, by_search, sweeps_of
from vrcli.stats.curves import best_so_far, thin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

Trials: TypeAlias = Mapping[Series, Sequence[Trial]]
KINDS = ("trials", "settings", "parallel")
#: Panels beside each other at the width of a page.
ACROSS = 4


@dataclass(frozen=True)
class Sweep(Figure):
    """All trials of a search, by outcome, and the best so far. Or the outcome over each setting."""

    selects = ("opts", "preset", "where")

    words: Annotated[tuple[str, ...], Option(
        "", "sweeps by number or name [default: the newest, and its like of other optimizers]", "SWEEP|TASK",
    )] = ()  # fmt: skip
    kind: Annotated[str, Option(
        "--kind", "trials (curves), settings (scatter) or parallel (coordinates)", choices=KINDS,
    )] = "trials"  # fmt: skip
    x: Annotated[str | None, Option(
        "--x", "of the curves: steps, epochs, gradients or seconds [default: epochs]", "AXIS",
        (*base.PLURALS, *base.AXES),
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
        direction = found.objective.better
        if self.kind == "trials":
            plot, words = draw(trials, outcome_label=label, x=x, title=title, direction=direction), text
        elif self.kind == "settings":
            plot, words = draw_grid(trials, outcome_label=label, title=title), grid_text
        else:
            plot = draw_parallel(trials, outcome_label=label, title=title, direction=direction)
            words = parallel_text
        return Drawn(plot, lambda page: f"{title}\n{words(plot.rows, page, label, direction)}")


FIGURE = Sweep


def series_of(search: Search) -> Series:
    """Each optimizer, with its sweep where it stands in several."""
    sweep = "" if search.sweep is None else f" (sweep {search.sweep})"
    return Series(search.optimizer, search.optimizer + sweep)


def draw(
    trials: Trials,
    *,
    outcome_label: str = "best validation loss",
    x: str = "epoch",
    title: str = "",
    direction: Direction = "min",
) -> Plot:
    """All trials of each optimizer: their curves coloured by outcome, and the best outcome so far.

    The optimizers share the axes and the colours, so that the spread of one can be held against that of the others.

    Args:
        trials: in the order in which they ended, by line.
        x: one of `base.AXES`.
        title: what the figure is of.
    """
    with style.styled():
        count = max(1, len(trials))
        columns = min(3, count + 1)
        lines = math.ceil((count + 1) / columns)
        figure, grid = style.new_figure(lines, columns, size=(style.PAGE, 2.3 * lines + 0.6))
        style.head(figure, title)
        places = [axes for line in grid for axes in line]
        for axes in places[count + 1 :]:
            axes.set_visible(False)
        colours = style.norm_of([t.outcome for found in trials.values() for t in found])
        for axes, (series, found) in zip(places, trials.items(), strict=False):
            _trial_curves(axes, found, colours, direction)
            n_diverged = sum(t.diverged for t in found)
            k = len(by_search(found))
            n = f"{counted(len(found), 'trial')}, " if k == 1 else f"{len(found)} trials in {k} searches\n"
            axes.set_title(f"{series.label}\n{n}{n_diverged} diverged")
            axes.set_xlabel(base.AXES[x].label)
            if base.AXES[x].whole:
                whole_ticks(axes)
        _share_loss_axis(places[:count], [np.asarray(t.y) for found in trials.values() for t in found])
        for place in range(count):
            places[place].tick_params(labelleft=place % columns == 0)
            places[place].set_ylabel(outcome_label.removeprefix("best ") if place % columns == 0 else "")
        rows = _best_so_far(places[count], trials, outcome_label, direction)
        if colours is not None:
            style.outcome_bar(figure, places, colours, outcome_label, direction)
        style.legend_below(figure, places[count], note="curves are coloured by their trial's outcome")
        return Plot(figure, rows)


def _best_so_far(axes: Axes, trials: Trials, outcome_label: str, direction: Direction) -> list[dict[str, Any]]:
    """Draw the best outcome over the trials and return the numbers of all trials."""
    rows: list[dict[str, Any]] = []
    for series, line in style.style_of(trials).items():
        for place, own in enumerate(by_search(trials[series])):
            best = best_so_far([t.outcome for t in own], direction)
            label = "_" if place else series.label  # one entry of the legend for all of its searches
            axes.plot(np.arange(1, len(best) + 1), best, drawstyle="steps-post", label=label, **line)
            style.mark_on_top(axes, [i + 1 for i, t in enumerate(own) if t.diverged], line["color"], "x")
            rows += _rows(series.label, own, best.tolist())
    log_where_it_serves(axes, [np.array([t.outcome for t in found]) for found in trials.values()])
    # No label on the axis: it would push the columns apart.
    axes.set_title(f"{outcome_label}\nso far")
    axes.set_xlabel("trials ended")
    whole_ticks(axes)
    return rows


def _trial_curves(axes: Axes, trials: Sequence[Trial], norm: Normalize | None, direction: Direction) -> None:
    import matplotlib

    colours = matplotlib.colormaps[style.OUTCOMES[direction]]
    # The best are drawn last, on top.
    for trial in sorted(trials, key=lambda t: -cost(t.outcome, direction)):
        x, y = np.asarray(trial.x, dtype=np.float64), np.asarray(trial.y, dtype=np.float64)
        kept = thin(y, 500)
        colour = style.DIVERGED_COLOUR if trial.diverged or norm is None else colours(norm(trial.outcome))
        axes.plot(x[kept], np.where(np.isfinite(y[kept]), y[kept], np.nan), color=colour, linewidth=0.9)
        if trial.diverged and len(x):
            n_diverged = np.flatnonzero(~np.isfinite(y))
            style.mark_on_top(axes, [float(x[n_diverged[0] if len(n_diverged) else -1])], style.DIVERGED_COLOUR, "x")


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
            "search": trial.search,
            "trial": trial.number,
            "ended": place,
            "settings": settings(trial.settings),
            "outcome": trial.outcome,
            "best_so_far": so_far,
        }
        x, y = np.asarray(trial.x, dtype=np.float64).tolist(), np.asarray(trial.y, dtype=np.float64).tolist()
        rows += [{**about, "x": at, "y": value} for at, value in zip(x or [math.nan], y or [math.nan], strict=True)]
    return rows


def text(rows: Rows, page: Page, outcome: str, direction: Direction = "min") -> str:
    """The best so far over the trials, and the best trial of each optimizer."""
    series, facts = {}, []
    searches = [(name, own) for name, points in by(rows, "optimizer") for own in by(points, "search")]
    for optimizer, (search, points) in searches:
        own = [first[0] for _, first in by(points, "ended")]
        name = optimizer if search is None else f"{optimizer} (search seed {search})"
        series[name] = ([row["ended"] for row in own], [row["best_so_far"] for row in own])
        good = [row for row in own if math.isfinite(row["outcome"])]
        best = min(good, key=lambda row: cost(row["outcome"], direction), default=None)
        facts.append(
            {
                "": name, "trials": str(len(own)), "diverged": str(len(own) - len(good)),
                "best": number(best["outcome"]) if best else "NaN",
                "median": number(float(np.median([row["outcome"] for row in good]))) if good else "NaN",
                "in trial": str(best["trial"]) if best else "-",
                "settings of the best": best["settings"] if best else "-",
            }
        )  # fmt: skip
    return f"{outcome}, best so far\n{page.plot(series, 'trials ended')}\n\n{table(facts)}"


def draw_grid(trials: Trials, *, outcome_label: str = "best validation loss", title: str = "") -> Plot:
    """The outcome of each optimizer's trials over each searched setting; crosses on the upper edge diverged."""
    lines: list[list[tuple[Series, str]]] = []
    for series, found in trials.items():
        own = [(series, name) for name in _setting_names(found)]
        if lines and len(lines[-1]) + len(own) <= ACROSS:
            lines[-1] += own
        else:
            lines += [own[start : start + ACROSS] for start in range(0, len(own), ACROSS)]
    with style.styled():
        columns = max([1, *map(len, lines)])
        size = (max(style.PANEL, 1.72 * columns), 2.0 * max(1, len(lines)) + 0.2)
        figure, grid = style.new_figure(max(1, len(lines)), columns, size=size, sharey=True)
        style.head(figure, title)
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
    axes.plot([x for x, _ in good], [v for _, v in good], "o", markersize=3.5, alpha=0.7, color=style.COLOURS[0])
    style.mark_on_top(axes, [x for x, t in zip(at, trials, strict=True) if t.diverged], style.DIVERGED_COLOUR, "x")
    if numeric:
        log_x_where_it_serves(axes, at, room=3)
    else:
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_xlabel(style.named(name))
    about = {"optimizer": optimizer, "setting": name}
    return [{**about, "value": shown(t.settings[name]), "outcome": t.outcome, "diverged": t.diverged} for t in trials]


def _setting_names(trials: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys(name for t in trials for name in t.settings))


def draw_parallel(
    trials: Trials, *, outcome_label: str = "best validation loss", title: str = "", direction: Direction = "min"
) -> Plot:
    """One line per trial through all its settings and its outcome, coloured by outcome: which regions are good.

    Args:
        trials: by line, each with a panel of its own; all share the colours.
    """
    with style.styled():
        count = max(1, len(trials))
        figure, grid = style.new_figure(count, 1, size=(style.PAGE, 2.0 * count + 0.8))
        style.head(figure, title)
        norm = style.norm_of([t.outcome for found in trials.values() for t in found])
        rows: list[dict[str, Any]] = []
        for (axes,), (series, found) in zip(grid, trials.items(), strict=False):
            _parallel_lines(axes, found, norm, outcome_label, direction)
            axes.set_title(f"{series.label}\n", loc="left", fontweight="bold")
            rows += [
                {"optimizer": series.label, "trial": t.number, "settings": settings(t.settings), "outcome": t.outcome}
                for t in found
            ]
        if norm is not None:
            style.outcome_bar(figure, [line[0] for line in grid], norm, outcome_label, direction)
        if any(t.diverged for found in trials.values() for t in found):
            grid[0][0].plot([], [], color=style.DIVERGED_COLOUR, label="diverged")
            style.legend_below(figure, grid[0][0])
        return Plot(figure, rows)


def _parallel_lines(
    axes: Axes, trials: Sequence[Trial], norm: Normalize | None, outcome_label: str, direction: Direction
) -> None:
    import matplotlib

    colours = matplotlib.colormaps[style.OUTCOMES[direction]]
    names = _setting_names(trials)
    scaled = [_unit([t.settings.get(name) for t in trials]) for name in names]
    scaled.append(_unit([t.outcome if not t.diverged else None for t in trials]))
    order = sorted(range(len(trials)), key=lambda i: -cost(trials[i].outcome, direction))
    for i in order:
        n_diverged = trials[i].diverged or norm is None
        colour = style.DIVERGED_COLOUR if n_diverged or norm is None else colours(norm(trials[i].outcome))
        heights = [column[0][i] for column in scaled]
        axes.plot(range(len(scaled)), heights, color=colour, linewidth=1, alpha=0.5 if n_diverged else 0.9)
    for place, (_, low, high) in enumerate(scaled):
        axes.text(place, -0.05, low, ha="center", va="top", fontsize=7)
        axes.text(place, 1.05, high, ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(scaled)), [*map(style.named, names), outcome_label])
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


def grid_text(rows: Rows, page: Page, outcome: str, direction: Direction = "min") -> str:
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
                        "best": number(min(good, key=partial(cost, direction=direction))) if good else "NaN",
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


def parallel_text(rows: Rows, page: Page, outcome: str, direction: Direction = "min", most: int = 10) -> str:
    """The best trials of each optimizer with their settings."""
    parts = []
    for name, own in by(rows, "optimizer"):
        ordered = sorted(own, key=lambda row: cost(row["outcome"], direction))
        facts = [
            {"trial": str(row["trial"]), "outcome": number(row["outcome"]), "settings": row["settings"]}
            for row in ordered[:most]
        ]
        more = f"\n{counted(len(own) - most, 'worse trial', 'are')} not listed" if len(own) > most else ""
        parts.append(f"{name}: {outcome}\n{table(facts)}{more}")
    return "\n\n".join(parts)
