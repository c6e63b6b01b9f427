"""Which stored runs a table quotes: not every trial of a search is a result."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias, TypeVar

from vrcli.report.types import Run


class SweptRun(Run, Protocol):
    """A run that may belong to a sweep: to one of its trials, or to its best settings."""

    @property
    def sweep_id(self) -> int | None: ...
    @property
    def trial_id(self) -> int | None: ...


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


#: When the trials of each sweep's optimizer ended, in order.
Ended: TypeAlias = Mapping[tuple[int, str], Sequence[datetime]]


def budgets(runs: Iterable[SweptRun], ended: Ended) -> dict[int, int]:
    """By run id, the trials of the search that a run's settings come from.

    A run on a fresh seed was chosen from the trials that had ended before it began: a sweep that goes on later does
    not add to what it cost. A trial is looked at among all trials of its sweep.
    """
    found = {}
    for run in runs:
        times = ended.get((run.sweep_id, run.optimizer)) if run.sweep_id is not None else None
        if times:
            before = len(times) if run.trial_id is not None else bisect_right(times, run.created_at)
            found[run.id] = max(1, before)
    return found


def quotable(runs: Sequence[R], ended: Ended) -> Selection:
    """Runs on their own and runs that confirm a sweep; of a sweep without those, its best trial.

    Args:
        runs: finished runs.
        ended: for the budgets.
    """
    confirmed = {(run.sweep_id, run.optimizer) for run in runs if run.sweep_id is not None and run.trial_id is None}
    by_trial: dict[tuple[int, str], dict[int, list[R]]] = defaultdict(lambda: defaultdict(list))
    chosen = []
    for run in runs:
        if run.trial_id is None:
            chosen.append(run)
        elif run.sweep_id is not None and (run.sweep_id, run.optimizer) not in confirmed:
            by_trial[run.sweep_id, run.optimizer][run.trial_id].append(run)
    for trials in by_trial.values():
        chosen += min(trials.values(), key=_loss)
    return Selection(chosen, budgets(chosen, ended), len(runs) - len(chosen), len(by_trial))


def _loss(runs: Iterable[SweptRun]) -> float:
    """Mean best validation loss of a trial; infinite where a run of it diverged."""
    runs = list(runs)
    losses = [next((v for name, v in run.results.items() if name.startswith("best_val_")), math.inf) for run in runs]
    if any(run.status != "completed" for run in runs):
        return math.inf
    return sum(losses) / len(losses)
