"""Which stored runs a table quotes: not every trial of a search is a result."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from vrcli.results.groups import FINISHED
from vrcli.results.types import Run

if TYPE_CHECKING:
    from vrcli.db.store import Store


class SweptRun(Run, Protocol):
    """A run that may belong to a sweep: to one of its trials, or to its best settings."""

    @property
    def sweep_id(self) -> int | None: ...
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
        flattered: how many rows show the best of a search on the seed of that search, for want of fresh ones.
    """

    runs: Sequence[SweptRun]
    trials: Mapping[int, int]
    searched: int
    flattered: int


@dataclass(frozen=True)
class Searches:
    """What all of a database knows of its searches, whichever runs were asked for.

    Args:
        ended: when the trials of each sweep's optimizer ended, in order.
        confirmed: the sweeps' optimizers whose best settings were run on fresh seeds.
        specs: when the complete spec of each trial was first run: a later run of its own with the same spec is that run
            again, bit for bit, on the seed by which its settings were chosen.
    """

    ended: Mapping[tuple[int, str], Sequence[datetime]] = field(default_factory=dict)
    confirmed: Collection[tuple[int, str]] = ()
    specs: Mapping[str, datetime] = field(default_factory=dict)

    def repeats(self, run: SweptRun) -> bool:
        """Whether a run of its own does an earlier trial again; one that was there before the search is a result."""
        first = self.specs.get(run.spec_id) if run.sweep_id is None else None
        return first is not None and run.created_at > first


def budgets(runs: Iterable[SweptRun], searches: Searches) -> dict[int, int]:
    """By run id, the trials of the search that a run's settings come from.

    A run on a fresh seed was chosen from the trials that had ended before it began: a sweep that goes on later does
    not add to what it cost. A trial is looked at among all trials of its sweep.
    """
    found = {}
    for run in runs:
        times = searches.ended.get((run.sweep_id, run.optimizer)) if run.sweep_id is not None else None
        if times:
            before = len(times) if run.trial_id is not None else bisect_right(times, run.created_at)
            found[run.id] = max(1, before)
    return found


def quotable(runs: Sequence[R], searches: Searches) -> Selection:
    """Runs on their own and runs that confirm a sweep; of a sweep without those, its best trial.

    A run of its own that repeats a trial is that trial again, so it is no result either.

    Args:
        runs: finished runs.
        searches: those of the whole database, so that a filter that leaves out fresh runs puts no trial in their place.
    """
    confirmed = {(run.sweep_id, run.optimizer) for run in runs if run.sweep_id is not None and run.trial_id is None}
    confirmed |= set(searches.confirmed)
    by_trial: dict[tuple[int, str], dict[int, list[R]]] = defaultdict(lambda: defaultdict(list))
    chosen = []
    for run in runs:
        if run.trial_id is None:
            if not searches.repeats(run):
                chosen.append(run)
        elif run.sweep_id is not None and (run.sweep_id, run.optimizer) not in confirmed:
            by_trial[run.sweep_id, run.optimizer][run.trial_id].append(run)
    for trials in by_trial.values():
        chosen += min(trials.values(), key=_loss)
    return Selection(chosen, budgets(chosen, searches), len(runs) - len(chosen), len(by_trial))


def _loss(runs: Iterable[SweptRun]) -> float:
    """Mean best validation loss of a trial; infinite where a run of it diverged."""
    runs = list(runs)
    losses = [next((v for name, v in run.results.items() if name.startswith("best_val_")), math.inf) for run in runs]
    if any(run.status != "completed" for run in runs):
        return math.inf
    return sum(losses) / len(losses)


def stopped_early(store: Store, sweeps: Iterable[int]) -> dict[int, set[int]]:
    """The trials that were pruned, by sweep; of sweeps that have some."""
    found = {sweep: {trial.id for trial in store.trials(sweep, state="pruned")} for sweep in sweeps}
    return {sweep: trials for sweep, trials in found.items() if trials}


def all_searches(store: Store, sweeps: Iterable[int] | None = None) -> Searches:
    """What the database knows of its searches.

    Args:
        sweeps: whose trials are counted, None for all.
    """
    ended: dict[tuple[int, str], list[datetime]] = defaultdict(list)
    for sweep in sweeps if sweeps is not None else [sweep.id for sweep in store.sweeps()]:
        for trial in store.trials(sweep):
            if trial.state not in ("pending", "running", "interrupted") and trial.finished_at is not None:
                ended[sweep, trial.optimizer].append(trial.finished_at)
    confirmed: set[tuple[int, str]] = set()
    specs: dict[str, datetime] = {}
    for id, optimizer, trial_id, status, spec, begun in store.searched():
        if trial_id is not None:
            specs.setdefault(spec, begun)
        elif status in FINISHED:
            confirmed.add((id, optimizer))
    return Searches({key: sorted(times) for key, times in ended.items()}, confirmed, specs)
