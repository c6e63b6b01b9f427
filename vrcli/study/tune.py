"""The sweep's loop: keep every worker busy, tell the search what came back, and record each step before it is acted on.

Whatever moment the process dies in, the ledger says where it was: a trial is written before it runs, and closed when it
ended. Trials found open are run again with the same settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from vrcli.errors import VrError
from vrcli.execute.executor import PATIENCE_S, Executor, Interrupted, Message
from vrcli.execute.trial import Outcome, TrialJob
from vrcli.search.axes import Params
from vrcli.search.definition import Definition
from vrcli.search.prune import limits
from vrcli.search.search import Exhausted, Search


@dataclass(frozen=True)
class Trial:
    """One proposed point and what it came to.

    Args:
        number: counted from 0 in the order of proposals.
        status: "running", then completed, diverged, pruned or failed.
        losses: validation loss per epoch, of the first seed.
    """

    number: int
    params: Params
    status: str = "running"
    value: float | None = None
    error: str | None = None
    losses: tuple[float, ...] = ()
    run_ids: tuple[int, ...] = ()


class Ledger(Protocol):
    """Where one sweep's trials are recorded."""

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

    def links(self, number: int) -> Mapping[str, Any]:
        """What the trial's runs belong to, as `Store.runs.begin` takes it."""

    def confirm_links(self, number: int) -> Mapping[str, Any]:
        """The same for runs with a trial's settings on fresh seeds."""


@dataclass
class Sweep:
    """One search on its way to a number of trials."""

    definition: Definition
    ledger: Ledger
    total: int
    trials: dict[int, Trial] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    exhausted: str = ""

    def __post_init__(self) -> None:
        d = self.definition
        self.search = Search(d.axes, d.search, d.search_seed, d.initial)
        for trial in self.ledger.trials():
            self.trials[trial.number] = trial
            if trial.status != "running":
                self.search.tell(trial.params, told(trial))

    def ended(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.status != "running"]

    def best(self) -> Trial | None:
        """The completed trial of the smallest value; the earlier of two equal ones."""
        completed = [trial for trial in self.trials.values() if trial.status == "completed"]
        return min(completed, key=lambda trial: (trial.value, trial.number), default=None)

    @property
    def done(self) -> bool:
        """Nothing is open, and there is nothing to propose."""
        return len(self.ended()) == len(self.trials) and (bool(self.exhausted) or len(self.trials) >= self.total)

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
        self.ledger.add(trial.number, params)
        self.trials[trial.number] = trial
        return trial

    def job(self, trial: Trial, threads: int) -> TrialJob:
        finished = [t.losses for t in self.ended() if t.status in ("completed", "pruned")]
        return TrialJob(
            self.definition, trial.params, self.definition.seeds, threads, self.ledger.links(trial.number),
            limits(self.definition.prune, finished, self.definition.epochs),
        )  # fmt: skip

    def end(self, number: int, outcome: Outcome) -> Trial:
        self.ledger.close(number, outcome)
        trial = replace(
            self.trials.pop(number), status=outcome.status, value=outcome.value, error=outcome.error,
            losses=outcome.losses, run_ids=outcome.run_ids,
        )  # fmt: skip
        self.trials[number] = trial
        self.search.tell(trial.params, told(trial))
        return trial


def told(trial: Trial) -> float | None:
    """What the search hears of a trial; of a pruned one its best so far, about as bad as it would have become."""
    return trial.value if trial.status in ("completed", "pruned") else None


class Watcher(Protocol):
    """Sees a sweep as it happens."""

    def started(self, sweep: Sweep, trial: Trial) -> None: ...

    def noted(self, sweep: Sweep, trial: Trial, note: Mapping[str, Any]) -> None: ...

    def ended(self, sweep: Sweep, trial: Trial) -> None: ...

    def tick(self) -> None: ...


def run(
    sweeps: Sequence[Sweep],
    executor: Executor,
    *,
    threads: int,
    watcher: Watcher,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Bring every sweep to its total. Free workers go to the first sweep that has something to run.

    Args:
        executor: stays open, for what comes after; whoever made it closes it.
        threads: CPU threads of each trial.

    Raises:
        Interrupted: `should_stop` said so; the running trials were left open.
        VrError: the first trial of all was refused (its data are not there, say), so that no other can do better; or
            code was edited meanwhile, and running trials were left open.
    """
    running: dict[tuple[int, int], Trial] = {}
    edited = ""

    def handle(message: Message) -> None:
        nonlocal edited
        at, number = message.key
        sweep, trial = sweeps[at], running[message.key]
        if message.kind == "note":
            watcher.noted(sweep, trial, message.body)
            return
        if message.kind == "edited":  # the trial stays with those that run, which are left open
            edited = message.body
            return
        del running[message.key]
        sweep.running.discard(number)
        if message.kind == "refused" and not any(s.ended() for s in sweeps):
            raise VrError(f"{sweep.definition.optimizer}: {message.body}")
        outcome = message.body if message.kind == "done" else Outcome("failed", error=str(message.body))
        if outcome.status == "interrupted":
            sweep.ledger.release(number)
        else:
            watcher.ended(sweep, sweep.end(number, outcome))

    while True:
        if edited or should_stop():
            for message in executor.close(patience_s=PATIENCE_S):
                handle(message)
            for at, number in running:
                sweeps[at].ledger.release(number)
            raise (
                VrError(edited)
                if edited
                else Interrupted("the sweep was interrupted; the same command goes on with it")
            )
        while executor.free() > 0 and (chosen := _choose(sweeps)) is not None:
            at, trial = chosen
            running[at, trial.number] = trial
            sweeps[at].running.add(trial.number)
            sweeps[at].ledger.start(trial.number)
            executor.submit((at, trial.number), sweeps[at].job(trial, threads))
            watcher.started(sweeps[at], trial)
        if not running:
            return
        for message in executor.receive(0.2):
            handle(message)
        watcher.tick()


def _choose(sweeps: Sequence[Sweep]) -> tuple[int, Trial] | None:
    for at, sweep in enumerate(sweeps):
        trial = sweep.next()
        if trial is not None:
            return at, trial
    return None
