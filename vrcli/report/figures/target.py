"""How long runs take to reach a target."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from vrcli.direction import Direction, sign_of
from vrcli.errors import UsageError
from vrcli.report.figures import base
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.counts import Curve, Curves
from vrcli.report.figures.panels import listed
from vrcli.report.figures.style import Plot, Series, head, legend_below, new_figure, style_of, styled
from vrcli.report.figures.text import SHARES, STEPS, Page, Rows, by, staircase, table
from vrcli.report.wording import number, quantity
from vrcli.results.lines import Reader
from vrcli.stats.budget import ToTarget, steps_to_target


@dataclass(frozen=True)
class Target(Figure):
    """How many runs reached a target loss, and how soon. The axis is steps, epochs or seconds, for one task."""

    every: base.Every = False
    target: Annotated[
        float | None, Option("--target", "[default: what half the runs of each optimizer reach]", "LOSS")
    ] = None
    metric: Annotated[str | None, Option("--metric", "[default: the validation objective]", "NAME")] = None
    x: base.X = "step"

    def check(self) -> None:
        super().check()
        if self.target is not None and not math.isfinite(self.target):
            raise UsageError(f"--target must be a finite number, got {self.target}")

    def make(self, reader: Reader, notes: list[str]) -> Drawn | None:
        sections = base.best_settings(reader, notes, every=self.every, most=1)
        if sections is None:
            return None
        ((title, lines),) = sections.items()
        runs = base.runs_of(sections)
        default = reader.objective(runs).key.removeprefix("best_")
        metrics = reader.metrics(runs, [self.metric] if self.metric else [], [default])
        if not metrics:
            notes.append(base.no_curves())
            return None
        metric = metrics[0]
        direction = reader.of_result(metric, runs).better
        panels = reader.panels(sections, [metric], self.x)
        if not panels:
            notes.append(base.no_curves(self.x))
            return None
        panel = panels[title][metric]
        value = self.target
        if value is None:
            value = within_reach(listed(panel).values(), direction)
            if not math.isfinite(value):
                notes.append(f"no run has a finite {quantity(metric)}, so there is no target to reach")
                return None
            notes.append(f"target {value:.4g}, which half the runs of each optimizer reach; --target names another")
        reached = {
            series: steps_to_target(
                list(own.values()), value, direction=direction,
                diverged=[run.status == "diverged" for id in own for run in lines[series] if str(run.id) == id],
            )
            for series, own in panel.items()
        }  # fmt: skip
        goal = f"{quantity(metric)} {'≤' if direction == 'min' else '≥'} {value:.4g}"
        if not any(found.reached for found in reached.values()):
            everything = [curve for own in panel.values() for curve in own.values()]
            notes.append(f"no run reached {goal}; the best value is {best_of(everything, direction):.4g}")
        notes += base.machines(runs, self.x)
        words = base.AXES[self.x].plural
        plot = draw(reached, x_label=words, target_label=goal, title=title)
        return Drawn(plot, lambda page: f"{title}\n{text(plot.rows, page, words, goal)}")


FIGURE = Target


def best_of(curves: Curves, direction: Direction) -> float:
    """The best finite value of some curves; NaN where there is none."""
    values = np.concatenate([np.asarray(y, dtype=np.float64) for _, y in curves])
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan
    return float(sign_of(direction) * (sign_of(direction) * values).min())


def within_reach(lines: Iterable[Sequence[Curve]], direction: Direction) -> float:
    """The value that at least half the runs of each line reach, where all have some; NaN where none has."""
    sign = sign_of(direction)
    medians = []
    for own in lines:
        best = [sign * best_of([curve], direction) for curve in own]
        medians.append(float(np.median(np.where(np.isfinite(best), best, np.inf))))
    # Rounded to three digits towards what is easier, so that it is still reached.
    worst = max((value for value in medians if math.isfinite(value)), default=math.nan)
    if not math.isfinite(worst):
        return worst
    unit = 10.0 ** (math.floor(math.log10(abs(worst))) - 2) if worst else 1.0
    return float(f"{sign * math.ceil(worst / unit) * unit:.6g}")


def draw(
    reached: Mapping[Series, ToTarget], *, x_label: str = "steps", target_label: str = "the target", title: str = ""
) -> Plot:
    """The share of runs that reached a target, over what it took them; runs that ended before are ticks on their line.

    Args:
        reached: by line, see `budget.steps_to_target`.
        title: what the figure is of.
    """
    with styled():
        figure, grid = new_figure()
        head(figure, title)
        axes = grid[0][0]
        end = max([0.0, *(x for found in reached.values() for x in found.last)])
        rows: list[dict[str, Any]] = []
        for series, style in style_of(reached).items():
            found = reached[series]
            at, share = found.distribution()
            xs, ys = (
                np.concatenate([[0.0], at, [end]]),
                np.concatenate([[0.0], share, share[-1:] if len(share) else [0.0]]),
            )
            axes.plot(xs, ys, drawstyle="steps-post", label=f"{series.label} ({found.reached} of {found.n})", **style)
            outs = zip(found.when, found.last, found.diverged, strict=True)
            ended = [x for when, x, n_diverged in outs if when is None and not n_diverged]
            heights = [float(ys[np.searchsorted(xs, x, side="right") - 1]) for x in ended]
            axes.plot(ended, heights, linestyle="none", marker="|", markersize=8, color=style["color"])
            about = {"optimizer": series.label, "n": found.n, "reached": found.reached}
            rows += [{**about, "x": x, "share": y} for x, y in zip(xs.tolist(), ys.tolist(), strict=True)]
        axes.set_ylim(-0.02, 1.04)
        axes.set_xlim(0.0, 1.04 * end or 1.0)
        axes.set_xlabel(f"{x_label} to {target_label}")
        axes.set_ylabel("share of runs")
        legend_below(figure, axes)
        return Plot(figure, rows)


def text(rows: Rows, page: Page, x_label: str, target_label: str) -> str:
    """The share of runs that got there over what it took, and how many did."""
    end = max([row["x"] for row in rows] + [1e-9])
    series, facts = {}, []
    for name, own in by(rows, "optimizer"):
        at = np.linspace(0.0, end, STEPS)
        xs, shares = [row["x"] for row in own], [row["share"] for row in own]
        series[name] = (at, staircase(xs, shares, at))
        half = [x for x, share in zip(xs, shares, strict=True) if share >= 0.5 - 1e-12]
        facts.append(
            {
                "": name,
                "reached": f"{own[0]['reached']} of {own[0]['n']}",
                f"median {x_label}": number(half[0]) if half else "not reached by half",
            }
        )
    drawn = page.plot(series, x_label, log=False, limits=SHARES)
    return f"share of runs that reached {target_label}\n{drawn}\n\n{table(facts)}"
