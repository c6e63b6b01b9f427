"""The loss on a random plane through the weights of a run, its directions filter-normalised."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from vrcli.direction import Direction
from vrcli.errors import UsageError
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.path import SPLITS, by_metric, rising
from vrcli.report.figures.style import OUTCOMES, PAGE, Plot, head, new_figure, norm_of, outcome_bar, styled
from vrcli.report.figures.text import Rows, by, table
from vrcli.report.wording import counted, number, quantity
from vrcli.results.lines import Reader
from vrcli.results.slices import KINDS, Plane, stored_plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

#: Steps of colour from the least to the greatest value.
LEVELS = 16


@dataclass(frozen=True)
class PlaneFigure(Figure):
    """The metrics on a random plane through a run. vr runs plane measures them."""

    selects = ()

    words: Annotated[tuple[str, ...], Option("", "number or name of a run", "RUN")] = ()
    weights: Annotated[
        str | None, Option("--weights", "best or last [default: those measured]", "best|last", KINDS)
    ] = None

    def make(self, reader: Reader, notes: list[str]) -> Drawn:
        if len(self.words) != 1:
            raise UsageError(f"a plane goes through one run: name one, got {len(self.words)}")
        run = reader.store.runs.get(self.words[0])
        found = stored_plane(reader.store, run, self.weights)
        if found is None:
            which = f" --weights {self.weights}" if self.weights else ""
            raise UsageError(f"nothing is measured around run {run.id}; vr runs plane {run.id}{which} does")
        more = rising(reader, run, found.values)
        title = f"{run.task} · run {run.id} ({run.optimizer}, seed {run.seed}) · {found.which} weights"
        plot = draw(found, title, more)
        if gaps := sum(not np.isfinite(row["value"]) for row in plot.rows):
            notes.append(f"{counted(gaps, 'value')} not finite: blank")
        return Drawn(plot, lambda page: text(plot.rows, more))


FIGURE = PlaneFigure


def draw(found: Plane, title: str, more: Collection[str] = ()) -> Plot:
    """A row of panels for each metric, a panel for each split, with the same colours in a row.

    Args:
        more: metrics of which more is better.
    """
    metrics = by_metric(found.values)
    splits = [split for split in SPLITS if f"{split}_{metrics[0]}" in found.values]
    with styled():
        size = (PAGE, (PAGE - 0.9) / 3 * len(metrics) + 0.9)
        figure, grid = new_figure(len(metrics), len(splits), size=size, sharex=True, sharey=True)
        head(figure, title)
        rows: list[dict[str, Any]] = []
        for metric, line in zip(metrics, grid, strict=True):
            grids = {split: np.asarray(found.values[f"{split}_{metric}"], dtype=np.float64) for split in splits}
            direction: Direction = "max" if metric in more else "min"
            values = [float(value) for own in grids.values() for value in own.flat]
            norm = norm_of(values, log=direction == "min")  # else its colours would go to the worst
            for split, axes in zip(splits, line, strict=True):
                rows += _rows(metric, SPLITS[split].label, found.at, grids[split])
                if norm is not None:
                    _contours(axes, found.at, grids[split], norm, direction)
                axes.plot(0, 0, "+", color="white", markersize=7)
                axes.set(aspect="equal", xlim=(found.at[0], found.at[-1]), ylim=(found.at[0], found.at[-1]))
                axes.grid(False)
            if norm is not None:
                outcome_bar(figure, line, norm, quantity(metric), direction)
        for split, axes in zip(splits, grid[0], strict=True):
            axes.set_title(SPLITS[split].label)
        figure.supxlabel(f"shares of two directions as long as the weights, filter by filter (seed {found.seed})",
                         fontsize=8)  # fmt: skip
        return Plot(figure, rows)


def _contours(axes: Axes, at: Sequence[float], values: Any, norm: Normalize, direction: Direction) -> None:
    """Filled, with thin lines between them; values that are not finite stay blank."""
    from matplotlib.colors import LogNorm

    low, high = float(norm.vmin or 0), float(norm.vmax or 0)
    inner = (np.geomspace if isinstance(norm, LogNorm) else np.linspace)(low, high, LEVELS + 1)[1:-1]
    levels = [low, *inner, high]  # both ends to the last bit
    shown = np.ma.masked_invalid(values)
    axes.contourf(at, at, shown, levels=levels, norm=norm, cmap=OUTCOMES[direction])
    axes.contour(at, at, shown, levels=levels, colors="black", linewidths=0.3, alpha=0.6)


def _rows(metric: str, split: str, at: Sequence[float], values: Any) -> list[dict[str, Any]]:
    return [{"metric": metric, "split": split, "x": x, "y": y, "value": float(values[j][i])}
            for j, y in enumerate(at) for i, x in enumerate(at)]  # fmt: skip


def text(rows: Rows, more: Collection[str] = ()) -> str:
    """The middle, the best and the worst of each metric and split, and where the best is.

    Args:
        more: metrics of which more is better.
    """
    facts = []
    for metric, own in by(rows, "metric"):
        for split, points in by(own, "split"):
            middle = points[len(points) // 2]
            known = sorted((p for p in points if np.isfinite(p["value"])), key=lambda p: p["value"])
            best, worst = (known[0], known[-1]) if known else (middle, middle)
            if metric in more:
                best, worst = worst, best
            facts.append({
                "metric": metric, "split": split, "middle": number(middle["value"]), "best": number(best["value"]),
                "at x": number(best["x"]), "at y": number(best["y"]), "worst": number(worst["value"]),
            })  # fmt: skip
    return table(facts)
