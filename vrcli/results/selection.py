"""Which stored runs a table quotes: not every trial of a search is a result."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from vrcli.direction import Direction, cost
from vrcli.results.groups import FINISHED
from vrcli.results.types import Run, values_of

if TYPE_CHECKING:
    from vrcli.db.store import Store


class SweptRun(Run, Protocol):
    """A run that may belong to a sweep: to one of its trials, or to its best settings."""

    @property
    def sweep_id(self) -> int | None: ...
    @property
    def search_id(self) -> int | None: ...
    @property
    def trial_id(self) -> int | None: ...
    @property
    def spec_id(self) -> str: ...


R = TypeVar("R", bound=SweptRun)


@dataclass(frozen=True)
class Selection:
    """What is quoted, what it cost, and what was left out.

    Args:
        runs: for the table.
        trials: by run id, the trials of the search its settings come from.
        searched: how many runs of trials were left out.
        on_search_seed: how many rows show the best of a search on the seed of that search, for want of fresh ones.
        reranked: see `Searches`.
    """

    runs: Sequence[SweptRun]
    trials: Mapping[int, int]
    searched: int
    on_search_seed: int
    reranked: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Searches:
    """What all of a database knows of its searches, whichever runs were asked for.

    Args:
        ended: when the trials of each search ended, in order.
        confirmed: the searches whose best settings were run on fresh seeds.
        specs: when the complete spec of each trial was first run: a later run of its own with the same spec is that run
            again, bit for bit, on the seed by which its settings were chosen.
        larger: the searches of whose objective larger values are better.
        reranked: how many runs on other seeds ranked the best trials of a search again.
    """

    ended: Mapping[int, Sequence[datetime]] = field(default_factory=dict)
    confirmed: Collection[int] = ()
    specs: Mapping[str, datetime] = field(default_factory=dict)
    larger: Collection[int] = ()
    reranked: Mapping[int, int] = field(default_factory=dict)

    def repeats(self, run: SweptRun) -> bool:
        """Whether a run of its own does an earlier trial again; one that was there before the search is a result."""
        first = self.specs.get(run.spec_id) if run.search_id is None else None
        return first is not None and run.created_at > first


def budgets(runs: Iterable[SweptRun], searches: Searches) -> dict[int, int]:
    """By run id, the trials of the search that a run's settings come from.

    A run on a fresh seed was chosen from the trials that had ended before it began: a sweep that goes on later does
    not add to what it cost. A trial is looked at among all trials of its sweep.
    """
    found = {}
    for run in runs:
        times = searches.ended.get(run.search_id) if run.search_id is not None else None
        if times:
            before = len(times) if run.trial_id is not None else bisect_right(times, run.created_at)
            found[run.id] = max(1, before)
    return found


def quotable(runs: Sequence[R], searches: Searches) -> Selection:
    """Runs on their own and runs that confirm a sweep; of a sweep without those, its best trial.

    A run of its own that repeats a trial is that trial again, so it is not a result either.

    Args:
        runs: finished runs.
        searches: those of the whole database, so that a filter that leaves out fresh runs puts no trial in their place.
    """
    confirmed = {run.search_id for run in runs if run.search_id is not None and run.trial_id is None}
    confirmed |= set(searches.confirmed)
    by_trial: dict[int, dict[int, list[R]]] = defaultdict(lambda: defaultdict(list))
    chosen = []
    for run in runs:
        if run.trial_id is None:
            if not searches.repeats(run):
                chosen.append(run)
        elif run.search_id is not None and run.search_id not in confirmed:
            by_trial[run.search_id][run.trial_id].append(run)
    for search, trials in by_trial.items():
        chosen += min(trials.values(), key=partial(_cost, direction="max" if search in searches.larger else "min"))
    left_out = len(runs) - len(chosen)
    return Selection(chosen, budgets(chosen, searches), left_out, len(by_trial), searches.reranked)


def _cost(runs: Sequence[SweptRun], direction: Direction) -> float:
    """Mean of a trial's best values, as a cost; infinite where a run of it diverged."""
    values = values_of(runs, runs[0].objective)
    return cost(sum(values) / len(values), direction)


def stopped_early(store: Store, searches: Iterable[int]) -> dict[int, set[int]]:
    """The trials that were pruned, by search; of searches that have some."""
    found = {search: {trial.id for trial in store.searches.trials(search, state="pruned")} for search in searches}
    return {search: trials for search, trials in found.items() if trials}


def all_searches(store: Store, searches: Iterable[int] | None = None) -> Searches:
    """What the database knows of its searches.

    Args:
        searches: whose trials are counted, None for all.
    """
    ended: dict[int, list[datetime]] = defaultdict(list)
    found = store.searches.select() if searches is None else [store.searches.get(search) for search in searches]
    for search in found:
        for trial in store.searches.trials(search.id):
            if trial.state not in ("pending", "running", "interrupted") and trial.finished_at is not None:
                ended[search.id].append(trial.finished_at)
    confirmed: set[int] = set()
    specs: dict[str, datetime] = {}
    reranked: Counter[int] = Counter()
    rows = list(store.runs.searched())
    seeds = {search.id: set(own) for search in found if (own := search.settings.get("seeds"))}
    for id, trial_id, seed, *_ in rows:
        if trial_id is None and id in seeds:  # on a fresh seed a trial is measured, not ranked
            seeds[id].add(seed)
    for id, trial_id, seed, status, spec, begun in rows:
        if trial_id is not None:
            specs.setdefault(spec, begun)
            reranked[id] += status in FINISHED and id in seeds and seed not in seeds[id]
        elif status in FINISHED:
            confirmed.add(id)
    larger = {search.id for search in found if search.direction == "max"}
    return Searches({key: sorted(times) for key, times in ended.items()}, confirmed, specs, larger, reranked)
