"""A search's trials, and the search on its way through them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from vrcli.direction import Direction, cost
from vrcli.search.axes import Axes, Params
from vrcli.search.definition import Definition
from vrcli.search.prune import limits
from vrcli.search.search import Exhausted, Search, initial_points


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Args:
        status: completed, diverged, pruned, failed or interrupted.
        value: mean over the seeds of the objective's best value.
        losses: the objective on validation, per epoch of the first seed's run.
    """

    status: str
    value: float | None = None
    error: str | None = None
    losses: tuple[float, ...] = ()
    run_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Trial:
    """One proposed point and what it came to.

    Args:
        number: counted from 0 in the order of proposals.
        status: "running", then completed, diverged, pruned or failed.
        losses: the objective on validation, per epoch of the first seed.
    """

    number: int
    params: Params
    status: str = "running"
    value: float | None = None
    error: str | None = None
    losses: tuple[float, ...] = ()
    run_ids: tuple[int, ...] = ()


def best_of(trials: Iterable[Trial], direction: Direction) -> Trial | None:
    """The completed trial of the best value; the earlier of two equal ones."""
    return next(iter(in_order(trials, direction)), None)


def in_order(trials: Iterable[Trial], direction: Direction) -> list[Trial]:
    """The completed trials, the best first; the earlier of two equal ones."""
    completed = [trial for trial in trials if trial.status == "completed"]
    return sorted(completed, key=lambda trial: (cost(trial.value, direction), trial.number))


class Record(Protocol):
    """Where one search's trials are recorded, each step before it is acted on.

    Whatever moment the process dies in, the record says where it was: a trial is written before it runs, and closed
    when it ended. Trials found open are run again with the same settings.
    """

    def trials(self) -> Sequence[Trial]:
        """All trials: those that ended in the order in which they did, then the open ones by number."""

    def add(self, number: int, params: Params) -> None:
        """Record a proposal, before it runs."""

    def start(self, number: int) -> None:
        """Record that a trial begins to run."""

    def release(self, number: int) -> None:
        """Record that a trial was interrupted, and is to be run again."""

    def close(self, number: int, outcome: Outcome) -> None:
        """Record how a trial ended."""


@dataclass
class SearchState:
    """One search on its way to a number of trials."""

    definition: Definition
    record: Record
    total: int
    trials: dict[int, Trial] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    exhausted: str = ""

    def __post_init__(self) -> None:
        d = self.definition
        self.search = Search(d.axes, d.search, d.search_seed, d.initial or initial_points(self.total))
        for trial in self.record.trials():
            self.trials[trial.number] = trial
            if trial.status != "running":
                self._tell(trial)

    def ended(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.status != "running"]

    def best(self) -> Trial | None:
        return best_of(self.trials.values(), self.definition.direction)

    @property
    def done(self) -> bool:
        """Nothing is open, and there is nothing to propose."""
        used_up = bool(self.exhausted) or len(self.trials) >= min(self.total, Axes(self.definition.axes).size())
        return len(self.ended()) == len(self.trials) and used_up

    def next(self) -> Trial | None:
        """The trial to run next: one that was left open, else a new proposal; None when there is none."""
        for trial in self.trials.values():
            if trial.status == "running" and trial.number not in self.running:
                return trial
        if len(self.trials) >= self.total or self.exhausted:
            return None
        try:
            params = self.search.ask([trial.params for trial in self.trials.values() if trial.status == "running"])
        except Exhausted as error:
            self.exhausted = str(error)
            return None
        trial = Trial(max(self.trials, default=-1) + 1, params)
        self.record.add(trial.number, params)
        self.trials[trial.number] = trial
        return trial

    def limits(self) -> Mapping[int, float]:
        """With which best loss so far, by evaluation, a trial that begins now goes on."""
        finished = [t.losses for t in self.ended() if t.status in ("completed", "pruned")]
        # Under budgets that do not say how often a run is evaluated, those that came to their end do.
        whole = [len(t.losses) for t in self.ended() if t.status == "completed"]
        d = self.definition
        return limits(d.prune, finished, d.epochs or max(whole, default=0), d.direction)

    def end(self, number: int, outcome: Outcome) -> Trial:
        self.record.close(number, outcome)
        trial = replace(
            self.trials.pop(number), status=outcome.status, value=outcome.value, error=outcome.error,
            losses=outcome.losses, run_ids=outcome.run_ids,
        )  # fmt: skip
        self.trials[number] = trial
        self._tell(trial)
        return trial

    def _tell(self, trial: Trial) -> None:
        if trial.status == "failed":
            self.search.tell_failed(trial.params)
        else:  # of a pruned one its best so far, about as bad as it would have become
            value = trial.value if trial.status in ("completed", "pruned") else None
            self.search.tell(trial.params, cost(value, self.definition.direction))
