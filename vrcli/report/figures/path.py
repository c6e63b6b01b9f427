"""The loss along the straight line between the weights of two runs, or along the last update of one."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from vrcli.errors import UsageError
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.style import PANEL, Plot, Series, head, legend_below, new_figure, style_of, styled
from vrcli.report.figures.text import Rows, by, table
from vrcli.report.wording import number, quantity
from vrcli.results.lines import Reader
from vrcli.results.slices import KINDS, Path, stored, stored_update, two_runs
from vrcli.results.types import Run

#: Lines of a panel, with the colour each has.
SPLITS = {"train": Series("adamw", "training"), "val": Series("vradam", "validation"), "test": Series("sgd", "test")}


@dataclass(frozen=True)
class PathFigure(Figure):
    """The metrics between two runs or along a last step. vr runs path measures them."""

    selects = ()

    words: Annotated[tuple[str, ...], Option("", "numbers or names of two runs, or of one", "RUN [RUN]")] = ()
    weights: Annotated[
        str | None, Option("--weights", "best or last [default: those measured]", "best|last", KINDS)
    ] = None

    def make(self, reader: Reader, notes: list[str]) -> Drawn:
        if len(self.words) == 1:
            run, found = self._update(reader)
            ends, weights = ["before the last step", "after it"], f"last update of run {run.id} ({run.optimizer})"
        else:
            run, found, ends = self._between(reader)
            weights = f"{found.which} weights"
        plot = draw(found.at, found.values, ends, f"{run.task} · {weights}")
        more = rising(reader, run, found.values)
        return Drawn(plot, lambda page: f"{text(plot.rows, more)}\n\n0 is {ends[0]}, 1 is {ends[1]}")

    def _update(self, reader: Reader) -> tuple[Run, Path]:
        if self.weights:
            raise UsageError("--weights goes with two runs; the line of one run is that of its last update")
        run = reader.store.runs.get(*self.words)
        if (found := stored_update(reader.store, run)) is None:
            raise UsageError(f"nothing is measured along the last update of run {run.id}; vr runs path {run.id} does")
        return run, found

    def _between(self, reader: Reader) -> tuple[Run, Path, list[str]]:
        if len(self.words) != 2:
            many = len(self.words)
            raise UsageError(
                f"a path leads from one run to another, or along one's last update: name two or one, got {many}"
            )
        a, b = two_runs(reader.store, *self.words)
        found = stored(reader.store, a, b, self.weights)
        if found is None:
            which = f" --weights {self.weights}" if self.weights else ""
            raise UsageError(
                f"nothing is measured between run {a.id} and run {b.id}; vr runs path {a.id} {b.id}{which} does"
            )
        return a, found, [f"run {run.id} ({run.optimizer}, seed {run.seed})" for run in (a, b)]


FIGURE = PathFigure


def barrier(at: Sequence[float], values: Sequence[float]) -> float:
    """How far values rise above the straight line between their ends, at most; 0 where they nowhere do (Frankle et al.,
    arXiv 1912.05671). NaN where one of them is not a number."""
    along, heights = np.asarray(at), np.asarray(values, dtype=np.float64)
    return float((heights - (1 - along) * heights[0] - along * heights[-1]).max())


def by_metric(values: Mapping[str, Any]) -> list[str]:
    """The metrics, each once, of names with a split before them."""
    return list(dict.fromkeys(name.partition("_")[2] for name in values))


def rising(reader: Reader, run: Run, values: Mapping[str, Any]) -> list[str]:
    """Those of the metrics of which more is better."""
    return [name for name in by_metric(values) if reader.of_result(f"val_{name}", [run]).direction == "max"]


def draw(at: Sequence[float], values: Mapping[str, Sequence[float]], ends: Sequence[str], title: str) -> Plot:
    """A panel for each metric, a line for each split; of a line that goes on beyond its end, the change from its start,
    since the splits differ by more than a step changes.

    Args:
        values: by metric with its split before it.
        ends: what stands where the line begins and where it ends.
    """
    with styled():
        metrics, beyond = by_metric(values), at[-1] > 1
        columns = min(2, len(metrics))
        count = -(-len(metrics) // columns)
        size = (columns * PANEL + 0.6, 2.4 * count + 0.8)
        figure, grid = new_figure(count, columns, size=size)
        head(figure, title)
        styles = style_of(SPLITS.values())
        every = [axes for row in grid for axes in row]
        rows: list[dict[str, Any]] = []
        for axes in every[len(metrics) :]:
            axes.set_visible(False)
        for axes, metric in zip(every, metrics, strict=False):
            for split, series in SPLITS.items():
                if (name := f"{split}_{metric}") in values:
                    start = values[name][0] if beyond else 0.0
                    axes.plot(at, [value - start for value in values[name]], label=series.label, **styles[series])
                    rows += [{"metric": metric, "split": series.label, "t": t, "value": float(value)}
                             for t, value in zip(at, values[name], strict=True)]  # fmt: skip
            axes.set(xlabel="share of the way", ylabel=f"{'change of ' * beyond}{quantity(metric)}",
                     xlim=(at[0], at[-1]))  # fmt: skip
            if beyond:
                axes.axvline(1, color="#888888", linewidth=0.8)
        legend_below(figure, every[0], note=f"0 is {ends[0]}, 1 is {ends[1]}; batch norm's statistics lie on the line")
        return Plot(figure, rows)


def text(rows: Rows, more: Collection[str] = ()) -> str:
    """Ends, extremes and the barrier of each metric and split; where a line goes on beyond its end, the best place in
    the barrier's.

    Args:
        more: metrics of which more is better, so that their barrier is a fall.
    """
    facts = []
    for metric, own in by(rows, "metric"):
        for split, line in by(own, "split"):
            at, values = [row["t"] for row in line], [row["value"] for row in line]
            worse = [-value for value in values] if metric in more else values
            known = [value for value in values if math.isfinite(value)] or [math.nan]
            costs = [cost if math.isfinite(cost) else math.inf for cost in worse]
            best = "-" if min(costs) == max(costs) else number(at[costs.index(min(costs))])
            last = {"best at": best} if at[-1] > 1 else {"barrier": number(barrier(at, worse))}
            facts.append({
                "metric": metric, "split": split, "at 0": number(values[0]), "at 1": number(values[at.index(1)]),
                "lowest": number(min(known)), "highest": number(max(known)), **last,
            })  # fmt: skip
    return table(facts)
