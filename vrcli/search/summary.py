"""What a search has shown so far: how the best value fell, how trials ended, which setting mattered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vrcli.direction import Direction, better
from vrcli.search.axes import Axes
from vrcli.search.trials import SearchState, Trial
from vrcli.tasks.space import Integer, Real


@dataclass(frozen=True)
class Summary:
    """The figures of one state.

    Args:
        convergence: best value after each trial that ended, in the order in which they did; None until one completed.
        statuses: how many trials ended how.
        diverged_share: of the trials that ended.
        importance: share of each axis, see `Search.importance`; empty where it cannot be told.
    """

    best: Trial | None
    convergence: tuple[float | None, ...]
    statuses: dict[str, int]
    diverged_share: float
    importance: dict[str, float]


def summarise(state: SearchState) -> Summary:
    """The figures of a search as it is stored."""
    ended = state.ended()
    statuses = dict(sorted(Counter(trial.status for trial in ended).items()))
    share = statuses.get("diverged", 0) / len(ended) if ended else 0.0
    return Summary(
        state.best(), convergence(ended, state.definition.direction), statuses, share, state.search.importance()
    )


#: Share of a real axis at either end that counts as the end.
EDGE = 0.01


def at_edge(state: SearchState) -> list[str]:
    """The settings of the best trial that lie at an end of their axis, as "lr=0.1"."""
    best = state.best()
    if best is None:
        return []
    axes = Axes(state.definition.axes)
    found = []
    for name, axis, share in zip(axes.names, axes.axes, axes.unit(best.params), strict=True):
        value = best.params[name]
        if isinstance(axis, Integer):
            at_end = value in (axis.low, axis.high)
        else:
            at_end = isinstance(axis, Real) and not EDGE < share < 1 - EDGE
        if at_end:
            found.append(f"{name}={value:g}")
    return found


def convergence(ended: Sequence[Trial], direction: Direction) -> tuple[float | None, ...]:
    """The best value of the completed trials so far, after each trial."""
    best: float | None = None
    found = []
    for trial in ended:
        if trial.status == "completed" and better(trial.value, best, direction):
            best = trial.value
        found.append(best)
    return tuple(found)
