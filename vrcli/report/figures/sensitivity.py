"""The outcome over one setting."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from vrcli.direction import Direction, cost
from vrcli.errors import UsageError
from vrcli.report import text_plot
from vrcli.report.figures import base
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.scales import log_where_it_serves, log_x_where_it_serves
from vrcli.report.figures.style import (
    Plot,
    Series,
    head,
    legend_below,
    mark_on_top,
    named,
    new_figure,
    style_of,
    styled,
)
from vrcli.report.figures.text import Page, Rows, by, table
from vrcli.report.wording import number, quantity
from vrcli.results.lines import Reader, by_section, differing_besides, finished, of_setting, outcomes
from vrcli.results.searches import Trial
from vrcli.results.types import Run
from vrcli.stats.profiles import Sensitivity as Found
from vrcli.stats.profiles import sensitivity_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Sensitivity(Figure):
    """The outcome over the learning rate, of one task. It shows how wide the stable range is and where runs
    diverge."""

    setting: Annotated[str, Option("--setting", "the setting on the x axis", "NAME")] = "lr"
    tolerance: Annotated[float, Option("--tolerance", "the stable range stays within this share of the best")] = 0.1
    metric: base.Outcome = None

    def check(self) -> None:
        super().check()
        if not 0 < self.tolerance < 100:
            raise UsageError(f"--tolerance must be > 0 (0.1 is 10%), got {self.tolerance:g}")

    def make(self, reader: Reader, notes: list[str]) -> Drawn | None:
        runs = reader.runs()
        if not runs:
            notes.append(base.NO_RUNS)
            return None
        done = finished(runs)
        notes += base.unfinished(len(runs) - len(done))
        if not done:
            notes.append(base.NONE_FINISHED)
            return None
        (title,) = by_section(done, 1)
        column = base.directed(reader, self.metric, done)
        at = of_setting(done, self.setting)
        known = outcomes(done, column.key)
        notes += base.lacking(done, column.key)
        lines: dict[Series, list[Run]] = defaultdict(list)
        for run in sorted(done, key=lambda run: (run.optimizer, run.id)):
            if run.id in at and run.id in known:
                lines[Series(run.optimizer, run.optimizer)].append(run)
        trials = {
            series: [Trial({self.setting: at[run.id]}, known[run.id]) for run in own] for series, own in lines.items()
        }
        if len(set(at.values())) < 2:
            notes.append(f"all of these runs have the same {self.setting}: a sweep, or runs with several, "
                         "would show more")  # fmt: skip
        label, direction = quantity(column.key), column.better
        pooled = differing_besides(lines.values(), self.setting)
        plot = draw(trials, self.setting, outcome_label=label, tolerance=self.tolerance, title=title, pooled=pooled,
                    direction=direction)  # fmt: skip
        note = f"\n\n{pooled_words(pooled)}" if pooled else ""
        return Drawn(plot, lambda page: f"{title}\n{text(plot.rows, page, self.setting, label, direction)}{note}")


FIGURE = Sensitivity


def draw(
    trials: Mapping[Series, Sequence[Trial]],
    setting: str = "lr",
    *,
    outcome_label: str = "best validation loss",
    tolerance: float = 0.1,
    title: str = "",
    pooled: Sequence[str] = (),
    direction: Direction = "min",
) -> Plot:
    """The outcome over one setting, with the range in which it stays close to the best and the share that diverged.

    Args:
        trials: by line; those without the setting are left out.
        tolerance: of the stable range, as a share of the best outcome.
        title: what the figure is of.
        pooled: other settings in which runs of one optimizer differ.
    """
    found = {
        series: [(float(t.settings[setting]), t.outcome) for t in own if setting in t.settings]
        for series, own in trials.items()
    }
    summaries = {
        series: sensitivity_of(points, tolerance=tolerance, direction=direction) for series, points in found.items()
    }
    crosses = any(any(one.diverged) for one in summaries.values())
    with styled():
        options: dict[str, Any] = {"height_ratios": (3, 1)} if crosses else {}
        figure, grid = new_figure(2 if crosses else 1, 1, sharex=True, size=(4.2, 3.9 if crosses else 3.2), **options)
        head(figure, title)
        top, bottom = grid[0][0], grid[-1][0]
        rows: list[dict[str, Any]] = []
        for series, style in style_of(trials).items():
            _lines(top, series.label, summaries[series], found[series], style)
            if crosses:
                share = np.array(summaries[series].diverged) / np.maximum(summaries[series].n, 1)
                bottom.plot(summaries[series].at, share, marker="o", markersize=3, **style)
            rows += _rows(series.label, setting, summaries[series])
        log_where_it_serves(top, [np.array([outcome for _, outcome in points]) for points in found.values()])
        log_x_where_it_serves(bottom, [row[setting] for row in rows], room=5)
        top.set_ylabel(outcome_label)
        if crosses:
            bottom.set_ylabel("share\ndiverged")
            bottom.set_ylim(-0.05, 1.05)
        bottom.set_xlabel(named(setting))
        legend_below(figure, top, note=_note(summaries, tolerance, pooled, crosses=crosses))
        return Plot(figure, rows)


def _note(found: Mapping[Series, Found], tolerance: float, pooled: Sequence[str], *, crosses: bool) -> str:
    binned = any(one.binned for one in found.values())
    parts = [f"lines are medians{' of thirds of a decade' if binned else ''}, dots are runs"]
    parts.append(f"thick where the median is within {100 * tolerance:g}% of the best")
    parts.append("crosses diverged" if crosses else "no run diverged")
    parts += [pooled_words(pooled)] * bool(pooled)
    return "; ".join(parts)


def pooled_words(names: Sequence[str], most: int = 8) -> str:
    """What must be said where runs that differ in more than the setting on the axis stand on one line."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"runs of one optimizer differ in {', '.join(names[:most])}{more} as well"


def _lines(
    top: Axes,
    name: str,
    found: Found,
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


def _stable_words(found: Found) -> str:
    if found.stable is None:
        return "diverged everywhere"
    if math.isfinite(found.decades):
        return f"stable over {found.decades:.1f} decades"
    return f"stable from {found.stable[0]:g} to {found.stable[1]:g}"


def _rows(name: str, setting: str, found: Found) -> list[dict[str, Any]]:
    return [
        {
            "optimizer": name,
            setting: at,
            "median": middle,
            "n": n,
            "diverged": crosses,
            "stable": found.stable is not None and found.stable[0] <= at <= found.stable[1],
            "stable_from": found.stable[0] if found.stable else math.nan,
            "stable_to": found.stable[1] if found.stable else math.nan,
        }
        for at, middle, n, crosses in zip(
            found.at.tolist(), found.middle.tolist(), found.n, found.diverged, strict=True
        )
    ]


def text(rows: Rows, page: Page, setting: str, outcome: str, direction: Direction = "min") -> str:
    """The medians over the setting, and how wide the range is in which an optimizer stays close to its best."""
    values = [row[setting] for row in rows]
    log = bool(values) and min(values) > 0 and max(values) / min(values) >= text_plot.LOG_FROM
    series, facts = {}, []
    for name, own in by(rows, "optimizer"):
        at = [math.log10(row[setting]) if log else row[setting] for row in own]
        series[name] = (at, [row["median"] if math.isfinite(row["median"]) else math.nan for row in own])
        low, high = own[0]["stable_from"], own[0]["stable_to"]
        best = min(own, key=lambda row: cost(row["median"], direction))
        facts.append(
            {
                "": name,
                "runs": str(sum(row["n"] for row in own)),
                "diverged": str(sum(row["diverged"] for row in own)),
                "best median": number(best["median"]) if math.isfinite(low) else "NaN",
                f"at {setting}": f"{best[setting]:.3g}" if math.isfinite(low) else "-",
                "stable from": f"{low:.3g}" if math.isfinite(low) else "-",
                "to": f"{high:.3g}" if math.isfinite(low) else "-",
                "decades": f"{math.log10(high / low):.1f}" if low > 0 else "-",
            }
        )
    return f"{outcome}\n{page.plot(series, f'log10 {setting}' if log else setting)}\n\n{table(facts)}"
