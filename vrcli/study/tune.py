"""The loop of a sweep: keep every worker busy, tell the searches what came back, and record each step before acting.

A trial is one run for each of its seeds, one after the other; what they came to together is the trial's outcome.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from vrcli.errors import UsageError, VrError
from vrcli.execute.executor import PATIENCE_S, Executor, Interrupted, Message
from vrcli.execute.job import Job, Lineage, RunOutcome
from vrcli.execute.outage import Away, Outage, Unavailable, patiently
from vrcli.search.definition import code_changes
from vrcli.search.trials import Outcome, SearchState, Trial
from vrcli.study.events import Event, Note, SearchEnded, Tick, TrialEnded, TrialEpoch, TrialStarted
from vrcli.study.jobs import JobOf

Key = tuple[int, int]
T = TypeVar("T")


def outcome_of(runs: Sequence[RunOutcome]) -> Outcome:
    """What a trial came to: the mean of its runs, or the end of the first that did not complete."""
    last = runs[-1]
    status = "pruned" if last.pruned and last.run.status == "interrupted" else last.run.status
    values = [math.nan if one.run.best is None else one.run.best for one in runs]
    value = sum(values) / len(values) if status in ("completed", "pruned") else None
    error = last.pruned if status == "pruned" else last.run.error
    return Outcome(status, value, error, runs[0].losses, tuple(one.run.id for one in runs))


def edited(expected: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The reason where a worker, started later, would run other code than the command began with."""
    return f"code was edited meanwhile: {', '.join(code_changes(expected, now))}; the same command begins anew with it"


def stayed_away(reason: object) -> Outage:
    """The end of a study whose database stayed away."""
    return Outage(str(reason), "what is recorded stays, and the same command continues it")


def written(
    write: Callable[[], T], should_stop: Callable[[], bool], tell: Callable[[Away], Iterator[Event]]
) -> Generator[Event, None, T]:
    """Read or write what a study records, also where the database is away for a while.

    Raises:
        Outage: it stayed away.
    """
    waiting = patiently(write, should_stop=should_stop)
    try:
        while True:
            yield from tell(next(waiting))
    except StopIteration as done:
        found: T = done.value
        return found
    except Unavailable as error:
        raise stayed_away(error) from error


class Teller:
    """Says what runs have to say, once, whoever is the first: that the database is away, what was changed for them."""

    def __init__(self) -> None:
        self._said: set[object] = set()

    def __call__(self, body: Away | str) -> Iterator[Event]:
        kind = Away if isinstance(body, Away) else body
        if kind not in self._said:
            self._said.add(kind)
            yield Note("database" if isinstance(body, Away) else "data", {"text": str(body)})


@dataclass
class _Open:
    """A trial that runs, what its runs came to so far, and the job that goes on."""

    trial: Trial
    limits: Mapping[int, float]
    runs: list[RunOutcome] = field(default_factory=list)
    job: Job | None = None


class Tuning:
    """Brings every search to its total. Free workers go to the first search that has something to run.

    Args:
        executor: stays open, for what comes after; whoever made it closes it.
        job_of: see `vrcli.study.jobs.job_of`, without its threads.
        earlier: the stored run that does instead of a job.
        what: is going on, for the message of an interruption.
    """

    def __init__(
        self,
        searches: Sequence[SearchState],
        executor: Executor,
        *,
        job_of: JobOf,
        earlier: Callable[[Job], RunOutcome | None] = lambda job: None,
        what: str = "sweep",
    ) -> None:
        self.searches, self.executor, self.job_of, self.earlier = searches, executor, job_of, earlier
        self.what = what
        self.open: dict[Key, _Open] = {}
        self.partly: dict[Key, list[RunOutcome]] = {}
        self.over: set[int] = set()
        self.stopping = False
        self.halted: VrError | None = None
        self.should_stop: Callable[[], bool] = lambda: False
        self._tell = Teller()

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """The sweep as it happens.

        Raises:
            Interrupted: `should_stop` said so; the running trials were left open.
            VrError: the first trial of all was refused (its data are not there, say), so that no other can do better;
                or code was edited meanwhile, and running trials were left open.
            Outage: the database stayed away, and running trials were left open.
        """
        self.should_stop = should_stop
        while True:
            if self.halted or should_stop():
                yield from self._stop()
            yield from self._start()
            for at, state in enumerate(self.searches):
                if state.done and at not in self.over:
                    self.over.add(at)
                    yield SearchEnded(at, state.exhausted)
            if not self.open:
                return
            for message in self.executor.receive(0.2):
                yield from self._handle(message)
            yield Tick()

    def _start(self) -> Iterator[Event]:
        while self.executor.free() > 0 and (chosen := (yield from self._written(self._choose))) is not None:
            at, trial = chosen
            state, key = self.searches[at], (at, trial.number)
            yield from self._written(partial(state.record.start, trial.number))
            self.open[key] = _Open(trial, state.limits(), self.partly.pop(key, []))
            state.running.add(trial.number)
            yield TrialStarted(at, trial)
            yield from self._advance(key)

    def _choose(self) -> tuple[int, Trial] | None:
        for at, state in enumerate(self.searches):
            trial = state.next()
            if trial is not None:
                return at, trial
        return None

    def _advance(self, key: Key) -> Iterator[Event]:
        """Submit the next run of a trial; end the trial where there is none left to do."""
        one, seeds = self.open[key], self.searches[key[0]].definition.seeds
        while not one.runs or (one.runs[-1].run.status == "completed" and len(one.runs) < len(seeds)):
            if self.stopping:
                return
            try:
                job = one.job = self._job(key, one, seeds[len(one.runs)])
            except UsageError as error:  # settings that are each accepted, and not together
                yield from self._handle(Message(key, "refused", error))
                return
            found = self.earlier(job) if one.trial.run_ids else None  # only a trial that was begun before has any
            if found is None:
                self.executor.submit(key, job)
                return
            one.runs.append(found)
        yield from self._end(key, outcome_of(one.runs))

    def _job(self, key: Key, one: _Open, seed: int) -> Job:
        state: Any = self.searches[key[0]]
        lineage = Lineage(search_id=state.record.id, trial_id=state.record.trial_id(key[1]))
        limits = {} if one.runs else one.limits  # the first seed's run alone is stopped early
        return self.job_of(state.definition, one.trial.params, seed, lineage=lineage, limits=limits)

    def _handle(self, message: Message) -> Iterator[Event]:
        at, number = key = message.key
        one, state = self.open[key], self.searches[at]
        match message.kind:
            case "note" if isinstance(message.body, Away | str):
                yield from self._tell(message.body)
            case "note":
                yield TrialEpoch(at, number, *message.body)
            case "edited":  # the trial stays with those that run, which are left open
                assert one.job is not None
                self.halted = VrError(edited(one.job.request.code, message.body))
            case "outage":
                self.halted = stayed_away(message.body)
            case "done":
                one.runs.append(message.body)
                yield from self._advance(key)
            case "refused" if not any(state.ended() for state in self.searches):
                raise VrError(f"{state.definition.optimizer}: {message.body}")
            case _:
                yield from self._end(key, Outcome("failed", error=str(message.body)))

    def _end(self, key: Key, outcome: Outcome) -> Iterator[Event]:
        at, number = key
        one, state = self.open.pop(key), self.searches[at]
        state.running.discard(number)
        if outcome.status == "interrupted":
            self.partly[key] = one.runs[:-1]
            state.record.release(number)
        else:
            yield TrialEnded(at, (yield from self._written(lambda: state.end(number, outcome))))

    def _written(self, write: Callable[[], T]) -> Generator[Event, None, T]:
        """Write to the record of trials; where the database stays away, the sweep ends."""
        return (yield from written(write, self.should_stop, self._tell))

    def _stop(self) -> Iterator[Event]:
        self.stopping = True
        for message in self.executor.close(patience_s=PATIENCE_S):
            yield from self._handle(message)
        for at, number in self.open:
            with suppress(Unavailable):  # whoever goes on finds the process gone
                self.searches[at].record.release(number)
        if self.halted:
            raise self.halted
        raise Interrupted(f"the {self.what} was interrupted; the same command continues it")
