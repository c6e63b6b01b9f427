"""What tuning bought: performance against the number of trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from vrcli.errors import UsageError
from vrcli.report.figures import style
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.difference import NOTHING
from vrcli.report.figures.style import Plot, Series
from vrcli.report.figures.text import Page, Rows, by, table
from vrcli.report.wording import number, quantity, with_half_width
from vrcli.results.lines import Reader
from vrcli.results.replicates import by_budget, compared, metric_of
from vrcli.stats.budget import AfterTrials, after_trials
from vrcli.stats.inference import check_level

MORE = "vr compare ... --trials 8 --by-budget runs what each search had found earlier"


@dataclass(frozen=True)
class Budget(Figure):
    """The best that a search has found, after so many trials. It is measured on fresh seeds, for one task."""

    metric: Annotated[str | None, Option("--metric", "result [default: the test value of the objective]", "NAME")] = (
        None
    )
    level: Annotated[float, Option("--level", "of the intervals over searches")] = 0.95

    def check(self) -> None:
        super().check()
        check_level(self.level)

    def make(self, reader: Reader, notes: list[str]) -> Drawn | None:
        every = compared(reader.store, reader.runs(), notes)
        found = [one for one in every if one.sweep is not None]
        if not found:
            notes.append(f"no searches are compared in these runs; {MORE}" if every else NOTHING)
            return None
        if len(found) > 1:
            raise UsageError(f"these runs are of {len(found)} tasks, data sets or presets; name one task, or --preset")
        (one,) = found
        column = metric_of(reader, one.every, self.metric)
        values = by_budget(reader.store, one, column.key)
        if max(map(len, values.values())) < 2:
            notes.append(f"these searches were measured at their end only; {MORE}")
            return None
        told = {
            Series(name, name): after_trials(own, direction=column.better, level=self.level)
            for name, own in values.items() if own
        }  # fmt: skip
        label = quantity(column.key)
        plot = draw(told, label=label, title=one.section, level=self.level)
        return Drawn(plot, lambda page: f"{one.section}\n{text(plot.rows, page, label)}")


FIGURE = Budget


def draw(
    found: Mapping[Series, AfterTrials], *, label: str = "test loss", title: str = "", level: float = 0.95
) -> Plot:
    """Mean over searches with its interval after each part of the trials; a cross on top where one diverged."""
    with style.styled():
        figure, grid = style.new_figure()
        style.head(figure, title)
        axes = grid[0][0]
        rows: list[dict[str, Any]] = []
        ticks = sorted({trials for one in found.values() for trials in one.trials})
        if ticks and ticks[-1] >= 4 * ticks[0]:
            axes.set_xscale("log", base=2)
        for place, (series, look) in enumerate(style.style_of(found).items()):
            one = found[series]
            # Beside each other: intervals on one spot cannot be told apart.
            x = [trials * (1 + 0.03 * (place - (len(found) - 1) / 2)) for trials in one.trials]
            half = [(high - low) / 2 for low, high in zip(one.low, one.high, strict=True)]
            axes.errorbar(x, one.mean, half, label=series.label, marker="o", markersize=4, capsize=2, **look)
            diverged = [at for at, mean in zip(x, one.mean, strict=True) if not math.isfinite(mean)]
            style.mark_on_top(axes, diverged, look["color"], "x")
            rows += _rows(series.label, one)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("trials of each search")
        axes.set_ylabel(label)
        n = {one.searches for one in found.values()}
        over = f" over {'/'.join(map(str, sorted(n)))} searches" if n else ""
        style.legend_below(figure, axes, note=f"the best so far on fresh seeds; {100 * level:g}% interval{over}")
        return Plot(figure, rows)


def _rows(name: str, one: AfterTrials) -> list[dict[str, Any]]:
    columns = (one.trials, one.mean, one.low, one.high, one.median, one.diverged)
    names = ("trials", "mean", "low", "high", "median", "diverged")
    return [
        {"optimizer": name, **dict(zip(names, values, strict=True)), "searches": one.searches}
        for values in zip(*columns, strict=True)
    ]


def text(rows: Rows, page: Page, label: str) -> str:
    """The means over the trials, and the numbers."""
    series = {name: ([r["trials"] for r in own], [r["mean"] for r in own]) for name, own in by(rows, "optimizer")}
    parts = sorted({row["trials"] for row in rows})
    facts = []
    for name, own in by(rows, "optimizer"):
        cells = {row["trials"]: _cell(row) for row in own}
        facts.append({"": name, **{f"after {part}": cells.get(part, "-") for part in parts}})
    return f"{label}\n{page.plot(series, 'trials of each search')}\n\n{table(facts)}"


def _cell(row: Mapping[str, Any]) -> str:
    if row["diverged"]:
        return f"{number(row['median'])} ({row['diverged']} of {row['searches']} diverged)"
    return with_half_width(row["mean"], (row["high"] - row["low"]) / 2)
