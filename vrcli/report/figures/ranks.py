"""Optimizers ranked over tasks: a critical-difference diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from vrcli.errors import UsageError
from vrcli.report.figures import style
from vrcli.report.figures.base import Drawn, Figure, Option
from vrcli.report.figures.difference import NOTHING
from vrcli.report.figures.style import Plot, Series
from vrcli.report.figures.text import Page, Rows, table
from vrcli.report.wording import counted, p_value
from vrcli.results.lines import Reader
from vrcli.results.replicates import compared, metric_of
from vrcli.stats.across_tasks import ENOUGH_TASKS, Ranks, average_ranks, costs_of, ranks_over_tasks
from vrcli.stats.inference import check_level

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Distance between the lines of names, and of the first bar from the axis, in lines of text.
STEP = 0.5


@dataclass(frozen=True)
class OverTasks(Figure):
    """The mean rank of each optimizer over tasks. A bar joins those that are not told apart."""

    metric: Annotated[str | None, Option("--metric", "result [default: the test value of the objective]", "NAME")] = (
        None
    )
    level: Annotated[float, Option("--level", "1 - level is the error rate of all pairs together")] = 0.95

    def check(self) -> None:
        super().check()
        check_level(self.level)

    def make(self, reader: Reader, notes: list[str]) -> Drawn | None:
        found = compared(reader.store, reader.runs(), notes)
        if not found:
            notes.append(NOTHING)
            return None
        every = sorted({name for one in found for name in one.runs})
        names = [name for name in every if all(name in one.runs for one in found)]
        if len(names) < 2:
            raise UsageError(
                f"ranks need two optimizers or more that ran on every task; of {', '.join(every)} {len(names)} did on "
                f"all {len(found)}; name tasks or --opt"
            )
        if left := [name for name in every if name not in names]:
            notes.append(f"{', '.join(left)}: not on every task, so not ranked")
        costs: dict[str, dict[str, float]] = {name: {} for name in names}
        for one in found:
            column = metric_of(reader, one.every, self.metric)
            values = {name: own for name, own in one.values(column.key).items() if name in names}
            for name, by_task in costs_of({one.section: values}, column.better).items():
                costs[name] |= by_task
        ranks = ranks_over_tasks(costs, self.level)
        if ranks is None:
            tasks = counted(len(found), "task", "are")
            notes.append(f"{tasks} too few to claim anything of ranks: that takes {ENOUGH_TASKS} or more")
        where = counted(len(found), "task")
        plot = draw(average_ranks(costs), ranks, tasks=len(found), level=self.level)
        return Drawn(plot, lambda page: f"mean rank over {where}\n{text(plot.rows, page, ranks)}")


FIGURE = OverTasks


def joined(average: Mapping[str, float], pairs: Mapping[tuple[str, str], float], alpha: float) -> list[list[str]]:
    """The largest groups of neighbours of which no two are told apart, the best first.

    Args:
        pairs: adjusted p by pair.
    """
    order = sorted(average, key=lambda name: average[name])

    def alike(group: Sequence[str]) -> bool:
        return all(p > alpha for pair, p in pairs.items() if set(pair) <= set(group))

    groups: list[list[str]] = []
    for start in range(len(order)):
        end = max(stop for stop in range(start + 1, len(order) + 1) if alike(order[start:stop]))
        if end - start > 1 and not any(set(order[start:end]) <= set(group) for group in groups):
            groups.append(order[start:end])
    return groups


def draw(average: Mapping[str, float], ranks: Ranks | None, *, tasks: int, level: float = 0.95) -> Plot:
    """A critical-difference diagram (Demšar 2006); the pairs are tested by permutation, and adjusted by Holm.

    Args:
        average: mean rank by optimizer.
        ranks: what is claimed of them; None where the tasks are too few.
    """
    order = sorted(average, key=lambda name: average[name])
    groups = joined(average, ranks.pairs, 1 - level) if ranks else []
    half = (len(order) + 1) // 2
    depth = STEP * len(groups) + half + 0.6
    with style.styled():
        figure, grid = style.new_figure(size=(style.PAGE, 0.24 * depth + 0.75))
        style.head(figure, f"mean rank over {counted(tasks, 'task')}")
        axes: Axes = grid[0][0]
        _axis(axes, len(order), depth)
        looks = {s.optimizer: look["color"] for s, look in style.style_of(Series(n, n) for n in order).items()}
        for place, group in enumerate(groups, 1):
            ends = [average[group[0]] - 0.04, average[group[-1]] + 0.04]
            axes.plot(ends, [-STEP * place] * 2, color="#000000", linewidth=3, solid_capstyle="butt")
        for place, name in enumerate(order):
            left = place < half
            y = -STEP * len(groups) - 0.7 - (place if left else len(order) - 1 - place)
            edge = 0.75 if left else len(order) + 0.25
            axes.plot([average[name]] * 2 + [edge], [0, y, y], color=looks[name], linewidth=1.2)
            axes.annotate(
                f"{name}  {average[name]:.2f}", (edge, y), xytext=(-4 if left else 4, 0), textcoords="offset points",
                ha="right" if left else "left", va="center", fontsize=8, annotation_clip=False,
            )  # fmt: skip
        if ranks is None:
            note = f"fewer than {ENOUGH_TASKS} tasks: nothing is claimed"
        else:
            note = (
                f"a bar joins optimizers that cannot be told apart ({100 * level:g}%); "
                f"are all equal? {p_value(ranks.p)} (Friedman)"
            )
        axes.set_xlabel(note, fontsize=7.5)
        rows = [
            {
                "optimizer": name, "rank": average[name], "tasks": tasks,
                "not told from": " ".join(dict.fromkeys(o for g in groups if name in g for o in g if o != name)),
            }
            for name in order
        ]  # fmt: skip
        return Plot(figure, rows)


def _axis(axes: Axes, count: int, depth: float) -> None:
    """Ranks on top, the best on the left, and nothing else."""
    axes.set_xlim(0.75, count + 0.25)
    axes.set_ylim(-depth, 0)
    axes.set_xticks(range(1, count + 1))
    axes.xaxis.tick_top()
    axes.spines["top"].set_visible(True)
    for side in ("bottom", "left"):
        axes.spines[side].set_visible(False)
    axes.set_yticks([])
    axes.grid(visible=False)


def text(rows: Rows, page: Page, ranks: Ranks | None) -> str:
    """The mean ranks, and who is not told apart."""
    facts = [{"": row["optimizer"], "mean rank": f"{row['rank']:.2f}"} for row in rows]
    if ranks is None:
        return table(facts)
    for fact, row in zip(facts, rows, strict=True):
        fact["cannot be told apart from"] = row["not told from"] or "-"
    return f"{table(facts)}\n\nare all equal? {p_value(ranks.p)} (Friedman, by permutation); pairs adjusted by Holm"
