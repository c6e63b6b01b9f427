"""The searches that stored runs belong to, with all of their trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vrcli.direction import Direction, cost
from vrcli.results.types import Section

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord, SearchRecord
    from vrcli.db.store import Store

OPEN = ("pending", "running", "interrupted")


@dataclass(frozen=True)
class Trial:
    """One point of a search.

    Args:
        number: counted from 1.
        value: the objective; None until there is one.
        epochs: trained, where that is known.
        run_id: its latest run.
    """

    number: int
    params: Mapping[str, Any]
    state: str
    value: float | None
    epochs: int | None
    run_id: int | None

    @property
    def counts(self) -> bool:
        """Whether its value is a result: of a trial that ended in order, or was stopped early."""
        return self.state in ("completed", "pruned") and self.value is not None and math.isfinite(self.value)


@dataclass(frozen=True)
class Search:
    """The trials of one optimizer in one sweep, in the order of their proposal.

    Args:
        budget: trials it was given.
        status: of the sweep.
        direction: which value of the objective is better.
        objective: the metric it is of, without its split.
        command: trains with the best settings on a fresh seed: on the search's own it would be the same run again.
    """

    sweep_id: int
    name: str
    section: Section
    optimizer: str
    budget: int
    status: str
    trials: Sequence[Trial]
    command: str = ""
    direction: Direction = "min"
    objective: str = "loss"

    @property
    def ended(self) -> list[Trial]:
        return [t for t in self.trials if t.state not in OPEN]

    @property
    def best(self) -> Trial | None:
        return best_of(self.trials, self.direction)


def best_of(trials: Iterable[Trial], direction: Direction) -> Trial | None:
    """The trial with the best value of those that ended in order."""
    done = [t for t in trials if t.state == "completed" and t.counts]
    return min(done, key=lambda t: (cost(t.value, direction), t.number), default=None)


def searches_of(
    store: Store, runs: Iterable[RunRecord], command: Callable[[SearchRecord, Mapping[str, Any]], str]
) -> list[Search]:
    """The searches that the runs belong to, by number.

    Args:
        command: what trains with a search's best settings.
    """
    found = []
    tasks = {run.search_id: run.task for run in runs if run.search_id is not None}
    for id in sorted(tasks):
        one = store.searches.get(id)
        section = (tasks[id], one.dataset or "", one.dataset_fingerprint or "", one.preset or "")
        trials = [
            Trial(t.number + 1, t.params, t.state, t.value, t.epochs, t.run_id) for t in store.searches.trials(id)
        ]
        best = best_of(trials, one.direction)
        words = command(one, best.params) if best else ""
        found.append(
            Search(one.sweep_id, one.name, section, one.optimizer, one.trials, one.status, trials, words, one.direction,
                   one.objective)
        )  # fmt: skip
    return found
