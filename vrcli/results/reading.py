"""Stored runs as they are quoted: those asked for, with what the database knows of their searches and metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from vrcli.results.filter import Filter
from vrcli.results.groups import FINISHED
from vrcli.results.known import known_of
from vrcli.results.selection import Searches, Selection, all_searches, budgets, quotable, stopped_early
from vrcli.results.types import Column, Known

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store

#: How the names of the results begin that the usual table may show, or say something of.
USUAL = ("best_val_", "test_", "val_accuracy", "val_perplexity", "parameters")


@dataclass(frozen=True)
class Reading:
    """Runs that were asked for, and what decides which of them are quoted.

    Args:
        runs: whatever became of them, the newest first.
        searches: those of the whole database.
        stopped: trials that were stopped early, by search.
        known: what the runs' tasks say of their results.
        hidden: by optimizer, how many of its searches are here, and how many there are, where some were not asked for.
    """

    runs: Sequence[RunRecord]
    searches: Searches
    stopped: Mapping[int, set[int]]
    known: Known
    hidden: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, runs: Sequence[RunRecord]) -> Reading:
        """What the database knows of these runs."""
        searched = {run.search_id for run in runs if run.search_id is not None}
        known = known_of(store, (run.task for run in runs))
        return cls(runs, all_searches(store, searched), stopped_early(store, searched), known)

    @cached_property
    def finished(self) -> list[RunRecord]:
        """The runs that ended in order, or diverged."""
        return [run for run in self.runs if run.status in FINISHED]

    @property
    def repeated(self) -> int:
        """Finished runs that do an earlier trial again."""
        return sum(map(self.searches.repeats, self.finished))

    @cached_property
    def pruned(self) -> frozenset[int]:
        """Ids of the finished runs whose search stopped trials early."""
        return frozenset(run.id for run in self.finished if run.search_id in self.stopped)

    @property
    def unfinished(self) -> list[RunRecord]:
        """The runs that have not ended in order, without those that a search stopped."""
        early = {trial for trials in self.stopped.values() for trial in trials}
        return [run for run in self.runs if run.status not in FINISHED and run.trial_id not in early]

    @property
    def sweeps_stopped(self) -> int:
        """Sweeps that stopped trials early."""
        return len({run.sweep_id for run in self.runs if run.search_id in self.stopped})

    def quoted(self, *, every_trial: bool = False) -> Selection:
        """The runs that tables show.

        Args:
            every_trial: also every trial of a search.
        """
        if not every_trial:
            return quotable(self.finished, self.searches)
        runs = [run for run in self.finished if not self.searches.repeats(run)]
        return Selection(runs, budgets(runs, self.searches), 0, 0)


def read(store: Store, asked: Filter, *, results: Iterable[str] | None = None) -> Reading:
    """Read the runs that were asked for.

    Args:
        results: names of those to read, None for all.

    Raises:
        UsageError: as `Filter.select`.
    """
    reading = Reading.of(store, asked.select(store, results=results))
    return replace(reading, hidden=_hidden(store, reading.finished)) if asked.where or asked.since else reading


def _hidden(store: Store, runs: Sequence[RunRecord]) -> dict[str, tuple[int, int]]:
    """Of which optimizers a condition on runs leaves out searches, but not all: (here, in the same sweeps)."""
    here: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        if run.search_id is not None:
            here[run.optimizer].add(run.search_id)
    there: dict[str, set[int]] = defaultdict(set)
    sweeps = {run.sweep_id for run in runs if run.sweep_id is not None}
    for run in store.runs.select(sweep=sweeps, results=()) if sweeps else ():
        if run.search_id is not None and run.status in FINISHED:
            there[run.optimizer].add(run.search_id)
    return {name: (len(own), len(there[name])) for name, own in here.items() if own < there[name]}


def usual_results(store: Store) -> list[str]:
    """Names of the results that the usual table is about; a task's own are among them."""
    names = store.runs.metric_names()
    own = [name for name in names if name.startswith("val_") and Column.of(name).direction is None]
    return [name for name in names if name.startswith(USUAL) or name in own]
