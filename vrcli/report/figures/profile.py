"""On what share of the tasks each optimizer is within a factor of the best."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from vrcli.errors import UsageError
from vrcli.report.figures import base
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.scales import plain_log_ticks
from vrcli.report.figures.style import Plot, Series, legend_below, new_figure, style_of, styled
from vrcli.report.figures.text import SHARES, STEPS, Page, Rows, by, staircase, table
from vrcli.report.wording import counted, quantity
from vrcli.results.lines import Reader, outcomes
from vrcli.results.types import Column, Run
from vrcli.stats.profiles import performance_profile

#: Factors of the best that the text quotes.
FACTORS = (1.0, 1.05, 1.25, 2.0, 5.0)


@dataclass(frozen=True)
class Profile(Figure):
    """The share of tasks on which an optimizer is near the best. Near is within a factor, which is the axis (Dolan
    and More)."""

    metric: base.Outcome = None
    per_seed: Annotated[bool, Option("--per-seed", "each seed of each task is a problem of its own")] = False

    def make(self, reader: Reader, notes: list[str]) -> Drawn | None:
        sections = base.best_settings(reader, notes, every=False, most=10_000)
        if sections is None:
            return None
        costs: dict[Series, dict[str, float]] = defaultdict(dict)
        names = dict.fromkeys(series for lines in sections.values() for series in lines)
        labels, larger, tasks = set(), set(), []
        for section, lines in sections.items():
            everyone = [run for runs in lines.values() for run in runs]
            column = base.directed(reader, self.metric, everyone)
            notes += base.lacking(everyone, column.key)
            labels.add(quantity(column.key))
            larger |= {quantity(column.key)} if column.direction == "max" else set()
            problems = {name: self._problems(section, runs, column) for name, runs in lines.items()}
            shared = set.intersection(*(set(problems.get(name, ())) for name in names))
            if not shared:
                missing = [name.label for name in names if not problems.get(name)]
                why = f"no runs of {', '.join(missing)} with {column.key}" if missing else ""
                notes.append(f"{section} is left out: {why or 'the optimizers share no seed'}")
            tasks += [section] * bool(shared)
            for name in names:
                costs[name] |= {problem: problems[name][problem] for problem in sorted(shared)}
        if not any(costs.values()):
            raise UsageError("no task has runs of all these optimizers; name some with --opt, or run what is missing")
        label = labels.pop() if len(labels) == 1 else "best validation objective"
        if len(next(iter(costs.values()))) == 1:
            notes.append("a profile needs several tasks: over one it says no more than which optimizer was best there "
                         "and by what factor; --per-seed counts each seed")  # fmt: skip
        note = f"over {'seeds of ' * self.per_seed}{'; '.join(tasks)}"
        if larger:
            note += f"; more {', '.join(sorted(larger))} is better: the factor is the best value over one's own"
        plot = draw(costs, cost_label=label, problem="seed" if self.per_seed else "task", note=note)
        return Drawn(plot, lambda page: f"{note}\n{text(plot.rows, page, label)}")

    def _problems(self, section: str, runs: Sequence[Run], column: Column) -> dict[str, float]:
        """The cost of each problem: of each seed, or the mean over seeds, which is a failure once a run diverged.

        Of a result of which more is better, the cost is its inverse: twice as much costs half.

        Runs that did not record the result are left out; without any other there is no problem.
        """
        known = outcomes(runs, column.key)
        if self.per_seed:
            found = {f"{section} seed {run.seed}": known[run.id] for run in runs if run.id in known}
        else:
            found = {section: sum(known.values()) / len(known)} if known else {}
        if any(value <= 0 for value in found.values()):
            raise UsageError(
                "a profile divides by the best value and needs positive ones; --metric names another result"
            )
        return {name: 1 / value for name, value in found.items()} if column.direction == "max" else found


FIGURE = Profile


def draw(
    costs: Mapping[Series, Mapping[str, float]],
    *,
    cost_label: str = "validation loss",
    problem: str = "task",
    note: str = "",
    most: float | None = None,
) -> Plot:
    """Dolan and More's performance profiles: on what share of tasks each optimizer is within a factor of the best.

    Args:
        costs: by line, by task; smaller is better, NaN or infinite for a failure.
        problem: what each cost is of.
        note: which tasks they are.
        most: largest factor drawn; by default a little past the largest that occurs.
    """
    found = performance_profile({series.label: own for series, own in costs.items()})
    with styled():
        figure, grid = new_figure()
        axes = grid[0][0]
        largest = max([1.0, *(float(f[-1]) for f, _ in found.values() if len(f))])
        end = most or 1.1 * largest
        rows: list[dict[str, Any]] = []
        for series, style in style_of(costs).items():
            factors, shares = found[series.label]
            xs = np.concatenate([[1.0], factors, [max(end, largest)]])
            ys = np.concatenate([[0.0], shares, shares[-1:]]) if len(shares) else np.zeros(2)
            axes.plot(xs, ys, drawstyle="steps-post", label=series.label, **style)
            steps = zip(factors.tolist(), shares.tolist(), strict=True) if len(factors) else [(1.0, 0.0)]
            rows += [{"optimizer": series.label, "factor": x, "share": y} for x, y in steps]
        if end > 10:
            axes.set_xscale("log")
            plain_log_ticks(axes.xaxis, end)
        axes.set_xlim(1.0, max(end, math.nextafter(1.0, 2.0)))
        axes.set_ylim(-0.02, 1.04)
        axes.set_xlabel(f"{cost_label} relative to the best optimizer")
        tasks = len({task for by_task in costs.values() for task in by_task})
        axes.set_ylabel(f"share of {counted(tasks, problem)}")
        legend_below(figure, axes, note=note)
        return Plot(figure, rows)


def text(rows: Rows, page: Page, cost: str) -> str:
    """The share of tasks over the factor, and the shares at a few factors."""
    end = max([row["factor"] for row in rows] + [1.0]) * 1.05
    series, facts = {}, []
    for name, own in by(rows, "optimizer"):
        at = np.geomspace(1.0, end, STEPS)
        series[name] = (at, staircase([r["factor"] for r in own], [r["share"] for r in own], at))
        quoted = staircase([r["factor"] for r in own], [r["share"] for r in own], np.array(FACTORS))
        facts.append(
            {
                "": name,
                **{f"within {f:g}x": f"{100 * s:.0f}%" for f, s in zip(FACTORS, quoted.tolist(), strict=True)},
            }
        )
    label = f"{cost} relative to the best"
    return f"share of tasks\n{page.plot(series, label, log=False, limits=SHARES)}\n\n{table(facts)}"
