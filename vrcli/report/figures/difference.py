"""Pairs of optimizers: by how much they differ, how sure that is, and every replicate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from vrcli.errors import UsageError
from vrcli.report.figures import style
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.scales import plain_log_ticks
from vrcli.report.figures.style import Plot, Series
from vrcli.report.figures.text import Page, Rows, by, table
from vrcli.report.wording import MINUS, counted, number, p_value, quantity, signed
from vrcli.results.lines import Reader
from vrcli.results.replicates import Compared, compared, metric_of
from vrcli.stats.across_tasks import across_tasks
from vrcli.stats.inference import check_level
from vrcli.stats.replicates import Pair, compare_replicates, pairs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

    from vrcli.stats.inference import Direction

NOTHING = "no comparison of two optimizers is stored; start with: vr compare cnn --opt vradam --opt adamw"
#: Width of the drawn part of a line of text.
CELLS = 26
GREY = "#555555"


@dataclass(frozen=True)
class Entry:
    """One line of the figure: a pair on one task, or over the tasks.

    Args:
        task: its title.
        dots: difference (or ratio) of every replicate; of every task for the line over the tasks.
        estimate: their mean; NaN where ranks decide. The same holds for both intervals.
        interval: for this line alone.
        wide: so that the intervals of all pairs hold together; NaN where there is none.
        better: the optimizer that is, or "".
        says: p and in how many replicates the first is better.
        over: it is the line over the tasks.
        ratio: of the first's value to the second's, not a difference.
    """

    task: str
    a: str
    b: str
    dots: Sequence[float]
    estimate: float
    interval: tuple[float, float]
    wide: tuple[float, float]
    better: str
    says: str
    over: bool = False
    ratio: bool = False

    @property
    def pair(self) -> str:
        return f"{self.a} / {self.b}" if self.ratio else f"{self.a} {MINUS} {self.b}"


@dataclass(frozen=True)
class Difference(Figure):
    """The difference of each pair of optimizers, with its interval. Every replicate is a dot; of several tasks the
    ratios are drawn."""

    metric: Annotated[str | None, Option("--metric", "result [default: the test value of the objective]", "NAME")] = (
        None
    )
    against: Annotated[str | None, Option("--against", "only the pairs with this optimizer", "NAME")] = None
    level: Annotated[float, Option("--level", "of the intervals")] = 0.95

    def check(self) -> None:
        super().check()
        check_level(self.level)

    def make(self, reader: Reader, notes: list[str]) -> Drawn | None:
        found = compared(reader.store, reader.runs(), notes)
        if not found:
            notes.append(NOTHING)
            return None
        return self.of(reader, found, notes)

    def of(self, reader: Reader, found: Sequence[Compared], notes: list[str]) -> Drawn | None:
        """Draw these comparisons."""
        known = {name for one in found for name in one.runs}
        if self.against is not None and self.against not in known:
            raise UsageError(f"--against {self.against}: it is not one of the optimizers compared, "
                             f"{', '.join(sorted(known))}")  # fmt: skip
        columns = {one.section: metric_of(reader, one.every, self.metric) for one in found}
        values = {one.section: one.values(columns[one.section].key) for one in found}
        names = {columns[one.section].key for one in found}
        label = quantity(names.pop()) if len(names) == 1 else "result"
        settings = [one.section for one in found if one.of_settings]
        if settings:
            notes.append(f"{', '.join(settings)}: one setting of each optimizer, so a dot is a seed, not a search")
        directions = {section: column.better for section, column in columns.items()}
        if len(found) == 1:
            ((section, own),) = values.items()
            entries = self._differences(section, own, directions[section])
            kind, where, unit = "difference", section, f"difference in {label}"
        else:
            entries = self._ratios(values, directions, notes)
            kind, where, unit = "ratio", f"{counted(len(found), 'task')}", f"ratio of {label}"
        if not entries:
            return None
        plot = draw(entries, unit=unit, title=where, ratio=kind == "ratio", level=self.level)
        return Drawn(plot, lambda page: f"{where} · {unit}\n{text(plot.rows, page)}")

    def _pairs(self, own: Mapping[str, Any], direction: Direction) -> Sequence[Pair]:
        against = self.against if self.against in own else None
        if self.against is not None and against is None:
            return ()
        return compare_replicates(
            own, metric="", direction=direction, level=self.level, against=against, unpaired_ranks=True
        ).pairs

    def _differences(self, section: str, own: Mapping[str, Any], direction: Direction) -> list[Entry]:
        return [
            Entry(section, pair.a, pair.b, pair.d, pair.difference, pair.interval, pair.simultaneous,
                  pair.better or "", _says(pair))
            for pair in self._pairs(own, direction)
        ]  # fmt: skip

    def _ratios(
        self, values: Mapping[str, Mapping[str, Any]], directions: Mapping[str, Direction], notes: list[str]
    ) -> list[Entry]:
        """Task by task for each pair, and over the tasks where all have both."""
        without = [task for task, own in values.items() if any((one <= 0).any() for one in own.values())]
        if without:
            notes.append(f"{', '.join(without)}: a value is not positive, so that ratios mean nothing: not drawn")
        kept = {task: own for task, own in values.items() if task not in without}
        names = sorted({name for own in kept.values() for name in own})
        pairs = pairs_of(names, self.against if self.against in names else None) if len(names) > 1 else []
        told = {(task, one.a, one.b): one for task, own in kept.items() for one in self._pairs(own, directions[task])}
        shared = [name for name in names if all(name in own for own in kept.values())]
        over = {}
        if len(kept) > 1 and len(set(directions.values())) == 1 and len(shared) > 1:
            both = {task: {name: own[name] for name in shared} for task, own in kept.items()}
            found = across_tasks(both, direction=next(iter(directions.values())), level=self.level,
                                 against=self.against if self.against in shared else None)  # fmt: skip
            over = {(one.a, one.b): one for one in found}
        entries = []
        nothing = (math.nan, math.nan)
        for a, b in pairs:
            for task, own in kept.items():
                if a in own and b in own:
                    (one,) = across_tasks({task: {a: own[a], b: own[b]}}, direction=directions[task], level=self.level)
                    (mine,) = one.tasks
                    pair = told[task, a, b]
                    dots = np.exp(mine.ratios).tolist()
                    entries.append(Entry(task, a, b, dots, math.exp(mine.effect), _exp(mine.low, mine.high), nothing,
                                         pair.better or "", _says(pair), ratio=True))  # fmt: skip
            if (whole := over.get((a, b))) is not None:
                first = (whole.effect < 0) == (next(iter(directions.values())) == "min")
                winner = (a if first else b) if whole.p_holm <= 1 - self.level else ""
                dots = [math.exp(task.effect) for task in whole.tasks]
                says = f"{p_value(whole.p_holm)}, on these {len(whole.tasks)} tasks"
                entries.append(Entry(
                    f"mean of {counted(len(whole.tasks), 'task')}", a, b, dots, math.exp(whole.effect),
                    _exp(whole.low, whole.high), nothing, winner, says, True, True,
                ))  # fmt: skip
        return entries


FIGURE = Difference


def picture(reader: Reader, runs: Sequence[Any]) -> str:
    """The figure as SVG, for a page of these runs; empty where they hold no comparison, or none that can be drawn."""
    notes: list[str] = []
    try:
        found = compared(reader.store, runs, notes)
        drawn = Difference().of(reader, found, notes) if found else None
    except UsageError:  # a result whose direction nobody knows, say: the page has all else
        return ""
    return drawn.plot.svg() if drawn else ""


def _exp(low: float, high: float) -> tuple[float, float]:
    return math.exp(low), math.exp(high)


def _says(pair: Pair) -> str:
    by_rank = "by rank, " if math.isnan(pair.difference) else ""
    return f"{by_rank}{p_value(pair.p_holm)}, {pair.wins} of {pair.searches}"


def draw(
    entries: Sequence[Entry], *, unit: str = "difference", title: str = "", ratio: bool = False, level: float = 0.95
) -> Plot:
    """A forest plot.

    Args:
        unit: of the axis.
        title: what the figure is of.
        ratio: the entries are ratios, on a logarithmic axis around 1.
    """
    places = _places(entries)
    with style.styled():
        figure, grid = style.new_figure(size=(style.PAGE, 1.5 - 0.34 * min(places, default=0.0)))
        style.head(figure, title)
        axes: Axes = grid[0][0]
        names = dict.fromkeys(name for one in entries for name in (one.a, one.b))
        colours = {s.optimizer: look["color"] for s, look in style.style_of(Series(n, n) for n in names).items()}
        rows = [row for one in entries for row in _rows(one)]
        axes.axvline(1.0 if ratio else 0.0, color=GREY, linewidth=0.8)
        _scale(axes, *_limits_of(rows), ratio=ratio)
        for y, one in zip(places, entries, strict=True):
            _line(axes, y, one, colours.get(one.better, GREY))
        axes.set_yticks(places, _labels(entries))
        axes.set_ylim(min(places, default=0.0) - 0.6, 0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        _beside(axes, places, entries)
        axes.set_xlabel(unit)
        _legend(figure, axes, entries, colours, level)
        return Plot(figure, rows)


def _places(entries: Sequence[Entry]) -> list[float]:
    """Heights of the lines, from 0 down; of several tasks with room between the pairs."""
    found: list[float] = []
    for place, one in enumerate(entries):
        gap = one.ratio and place and entries[place - 1].pair != one.pair
        found.append(found[-1] - 1.0 - 0.6 * bool(gap) if found else 0.0)
    return found


def _scale(axes: Axes, low: float, high: float, *, ratio: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    if ratio:
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis, high / low)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlim(low, high)


def _beside(axes: Axes, places: Sequence[float], entries: Sequence[Entry]) -> None:
    """The numbers, on the right."""
    right = axes.secondary_yaxis("right")
    right.set_yticks(places, [_numbers(one) for one in entries])
    right.tick_params(length=0, labelsize=7.5)
    right.spines["right"].set_visible(False)
    for label, one in zip(right.get_yticklabels(), entries, strict=True):
        label.set_fontweight("bold" if one.better else "normal")


def _legend(figure: Canvas, axes: Axes, entries: Sequence[Entry], colours: Mapping[str, str], level: float) -> None:
    for name in colours:
        if any(one.better == name for one in entries):
            axes.plot([], [], color=colours[name], linewidth=3, label=f"{name} better")
    if not all(one.better for one in entries):
        axes.plot([], [], color=GREY, linewidth=3, label="undecided")
    parts = [f"dots: replicates; line: {100 * level:g}% interval"]
    parts += ["thin line: all pairs together"] * any(math.isfinite(one.wide[0]) for one in entries)
    parts += ["cross: one of the two diverged"] * any(not math.isfinite(dot) for one in entries for dot in one.dots)
    style.legend_below(figure, axes, note="; ".join(parts))


def _labels(entries: Sequence[Entry]) -> list[str]:
    """The pairs; of several tasks each pair once, before its tasks."""
    found, last = [], ""
    for one in entries:
        found.append(
            f"{one.pair}   {one.task}" if one.ratio and one.pair != last else one.task if one.ratio else one.pair
        )
        last = one.pair
    return found


def _line(axes: Axes, y: float, one: Entry, colour: str) -> None:
    low, high = axes.get_xlim()
    dots = np.clip(np.asarray(one.dots, dtype=np.float64), low, high)  # what diverged lies at the edge
    finite = np.isfinite(np.asarray(one.dots))
    axes.plot(dots[finite], np.full(finite.sum(), y - 0.2), "o", markersize=3, color=colour, alpha=0.55, zorder=2)
    if not finite.all():  # of nothing, what is not clipped takes room
        axes.plot(
            dots[~finite],
            np.full((~finite).sum(), y - 0.2),
            "x",
            markersize=4,
            color=style.DIVERGED_COLOUR,
            clip_on=False,
        )
    if math.isfinite(one.estimate):
        if math.isfinite(one.wide[0]):
            axes.plot(one.wide, [y, y], color=colour, linewidth=0.8, zorder=2)
        if math.isfinite(one.interval[0]):
            axes.plot(one.interval, [y, y], color=colour, linewidth=2.6, solid_capstyle="butt", zorder=3)
        axes.plot([one.estimate], [y], "D" if one.over else "o", color=colour, markersize=6.5, zorder=4)


def _numbers(one: Entry) -> str:
    return f"{_interval(one.estimate, one.interval, ratio=one.ratio)}  {one.says}".strip()


def _interval(estimate: float, interval: Sequence[float], *, ratio: bool) -> str:
    if not math.isfinite(estimate):
        return ""
    write = (lambda v: number(v, 3)) if ratio else signed
    ends = f" [{write(interval[0])}, {write(interval[1])}]" if math.isfinite(interval[0]) else ""
    return f"{write(estimate)}{ends}"


def _rows(one: Entry) -> list[dict[str, Any]]:
    return [
        {
            "task": one.task, "pair": one.pair, "ratio": one.ratio,
            "a": one.a, "b": one.b, "over_tasks": one.over, "replicate": place, "value": dot,
            "estimate": one.estimate, "low": one.interval[0], "high": one.interval[1], "all_low": one.wide[0],
            "all_high": one.wide[1], "better": one.better, "says": one.says,
        }
        for place, dot in enumerate(one.dots, 1)
    ]  # fmt: skip


def text(rows: Rows, page: Page) -> str:
    """The same in characters: intervals, estimates and replicates of each pair over one axis, and the numbers."""
    entries = [own[0] for _, of_pair in by(rows, "pair") for _, own in by(of_pair, "task")]
    low, high = _limits_of(rows)
    facts = [
        {
            "": row["pair"] if row["task"] in ("", None) or not row["ratio"] else f"{row['pair']}  {row['task']}",
            f"{number(low, 3)} .. {number(high, 3)}": _characters(
                [r["value"] for r in rows if (r["pair"], r["task"]) == (row["pair"], row["task"])], row, low, high, page
            ),
            "mean": _interval(row["estimate"], (row["low"], row["high"]), ratio=row["ratio"]) or "-",
            "p, first better in": row["says"],
        }
        for row in entries
    ]  # fmt: skip
    return table(facts, page.width)


def _limits_of(rows: Rows) -> tuple[float, float]:
    """Ends of the axis of the rows."""
    ratio = any(row["ratio"] for row in rows)
    none = 1.0 if ratio else 0.0
    dots = [v for row in rows for v in (row["value"], row["estimate"]) if math.isfinite(v)] + [none]
    ends = [v for row in rows for v in (row["low"], row["high"], row["all_low"], row["all_high"]) if math.isfinite(v)]
    ends = [v for v in ends if v > 0 or not ratio]
    scale, back = (math.log, math.exp) if ratio else (float, float)
    first, last = scale(min(dots)), scale(max(dots))
    span = last - first or 0.1
    # Intervals of two or three replicates can be so wide that nothing else would be seen: they leave the picture.
    low = max([first - 2 * span, min([first, *map(scale, ends)])])
    high = min([last + 2 * span, max([last, *map(scale, ends)])])
    room = 0.04 * (high - low) or 0.1
    return back(low - room), back(high + room)


def _characters(dots: Sequence[float], row: Mapping[str, Any], low: float, high: float, page: Page) -> str:
    """One line of the figure in characters."""
    ratio = row["ratio"]
    line, estimate, dot, none = ("-", "O", ".", "|") if page.ascii else ("─", "●", "·", "│")

    def place(value: float) -> int:
        ends = [math.log(max(v, 1e-300)) if ratio else v for v in (low, high, min(max(value, low), high))]
        return round((ends[2] - ends[0]) / (ends[1] - ends[0]) * (CELLS - 1))

    cells = [" "] * CELLS
    cells[place(1.0 if ratio else 0.0)] = none
    if math.isfinite(row["low"]):
        first, last = place(row["low"]), place(row["high"])
        cells[first : last + 1] = [line] * (last + 1 - first)
    for value in dots:
        cells[place(value)] = dot if math.isfinite(value) else "x"
    if math.isfinite(row["estimate"]):
        cells[place(row["estimate"])] = estimate
    edge = ":" if page.ascii else "┊"  # a table would strip blanks at the ends
    return f"{edge}{''.join(cells)}{edge}"
