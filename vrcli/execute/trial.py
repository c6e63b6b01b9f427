"""One trial, in a worker: its runs, one per seed, and what they came to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.db.location import Location
from vrcli.execute.executor import CodeChanged, Refused, Work
from vrcli.search.axes import Params
from vrcli.search.definition import Definition

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.spec import RunSpec
    from vrcli.tasks.base import Task


@dataclass(frozen=True)
class TrialJob:
    """What a worker is told.

    Args:
        limits: by epoch, the best validation loss so far with which the first seed's run goes on.
        links: what the runs belong to, as `Store.runs.begin` takes them; runs with the same links and seed that have
            ended are not repeated.
    """

    definition: Definition
    params: Params
    seeds: Sequence[int]
    threads: int
    links: Mapping[str, Any]
    limits: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ProbeJob:
    """Load the data and time a few steps; nothing is stored."""

    definition: Definition
    threads: int


@dataclass(frozen=True)
class Probe:
    """What a probe found.

    Args:
        run_s: estimate of one run's seconds.
    """

    dataset: str
    fingerprint: str
    about: str
    run_s: float


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Args:
        status: completed, diverged, pruned, failed or interrupted.
        value: mean over the seeds of the best validation loss.
        losses: validation loss per epoch of the first seed's run.
    """

    status: str
    value: float | None = None
    error: str | None = None
    losses: tuple[float, ...] = ()
    run_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Workshop:
    """Makes the work of one worker process: everything in it can be pickled."""

    database: Location
    data_dir: Path | None = None
    tune: bool = True

    def __call__(self) -> Work:
        from vrcli.engine.allocator import keep_freed_memory

        tuned = self.tune and keep_freed_memory()  # before torch allocates anything
        return _Bench(self.database, self.data_dir, tuned)


class _Bench:
    """Runs the jobs of one worker; data and imports stay between them."""

    def __init__(self, database: Location, data_dir: Path | None, tuned: bool) -> None:
        from vrcli.engine.prepare import DataCache

        self.database, self.data_dir, self.tuned = database, data_dir, tuned
        self.cache = DataCache()
        self.store: Any = None

    def __call__(self, job: Any, note: Callable[[Any], None], should_stop: Callable[[], bool]) -> Any:
        from vrcli.errors import UsageError
        from vrcli.tasks.base import TaskError
        from vrcli.tasks.registry import UnknownTask, load

        try:
            task = load(job.definition.task)
            return self.probe(job, task) if isinstance(job, ProbeJob) else self.trial(job, task, note, should_stop)
        except (UsageError, TaskError, UnknownTask) as error:
            raise Refused(str(error)) from error

    def close(self) -> None:
        """Fold what this worker wrote into the database's file."""
        if self.store is not None:
            self.store.close()

    def probe(self, job: ProbeJob, task: type[Task[Any]]) -> Probe:
        from vrcli.engine.loop import train
        from vrcli.engine.prepare import prepare

        spec = _spec(job.definition, task, {}, job.definition.seeds[0], job.threads)
        timed: dict[str, float] = {}
        for steps in (2, 8):  # the first steps of a process are slow
            short = spec.model_copy(update={"training": spec.training.model_copy(update={"max_steps": steps})})
            ready = prepare(short, task, data_dir=self.data_dir, cache=self.cache)
            *_, ended = train(ready)
            timed = dict(getattr(ended, "results", {}))
            if timed.get("wall_s", math.inf) > 20:
                break
        batch = ready.spec.training.batch_size
        steps_per_epoch = math.ceil(len(ready.data.train) / batch)
        steps = min(spec.training.epochs * steps_per_epoch, spec.training.max_steps or 2**62)
        epoch_end_s = timed["wall_s"] - timed["train_s"]  # the evaluation of two splits: a bit too much
        run_s = steps * timed.get("step_ms", math.nan) / 1000 + steps / steps_per_epoch * epoch_end_s
        return Probe(ready.data.dataset, ready.spec.dataset_fingerprint, ready.data.about, run_s)

    def trial(
        self, job: TrialJob, task: type[Task[Any]], note: Callable[[Any], None], should_stop: Callable[[], bool]
    ) -> Outcome:
        from vrcli.db.store import Store

        self.store = self.store or Store.open(self.database, mode="write")
        ended: list[RunRecord] = []
        losses: tuple[float, ...] = ()
        pruned = ""
        for seed in job.seeds:
            watcher = _Watcher(task, note, job.limits if seed == job.seeds[0] else {}, should_stop)
            record = self.earlier(job, seed) or self.run(job, task, seed, watcher)
            ended.append(record)
            pruned = watcher.pruned
            if seed == job.seeds[0]:
                losses = watcher.losses or self.curve(record, task)
            if record.status != "completed":
                break
        status = "pruned" if pruned and ended[-1].status == "interrupted" else ended[-1].status
        values = [math.nan if record.best is None else record.best for record in ended]
        value = sum(values) / len(values) if status in ("completed", "pruned") else None
        error = pruned if status == "pruned" else ended[-1].error
        return Outcome(status, value, error, losses, tuple(record.id for record in ended))

    def run(self, job: TrialJob, task: type[Task[Any]], seed: int, watcher: _Watcher) -> RunRecord:
        from vrcli.execute.run import RunFailed, execute

        spec = _spec(job.definition, task, job.params, seed, job.threads)
        try:
            return execute(
                spec, task, self.store, watcher=watcher, data_dir=self.data_dir, cache=self.cache,
                malloc_tuned=self.tuned, should_stop=watcher.should_stop, **job.links,
            )  # fmt: skip
        except RunFailed:
            if watcher.record is None:
                raise
            failed: RunRecord = self.store.runs.get(watcher.record.id)
            return failed

    def earlier(self, job: TrialJob, seed: int) -> RunRecord | None:
        """A run of this trial and seed that ended, though the sweep was killed before it heard of it."""
        group, trial_id = job.links.get("group"), job.links.get("trial_id")
        for run in self.store.runs.select(search=job.links["search_id"], group=group, status=("completed", "diverged")):
            if run.trial_id == trial_id and run.seed == seed:
                found: RunRecord = run
                return found
        return None

    def curve(self, record: RunRecord, task: type[Task[Any]]) -> tuple[float, ...]:
        name = f"val_{task.metrics[0].name}"
        found = self.store.curves.read([record.id], [name])
        return tuple(found[record.id, name].values) if (record.id, name) in found else ()


def _spec(definition: Definition, task: type[Task[Any]], params: Params, seed: int, threads: int) -> RunSpec:
    from vrcli.spec import resolve

    spec = resolve(
        task, definition.optimizer, preset=definition.preset, flags={**definition.explicit, **params}, seed=seed,
        device=definition.device, threads=threads,
    ).spec  # fmt: skip
    check_code(spec, definition.code)
    return spec


def check_code(spec: RunSpec, expected: Mapping[str, str]) -> None:
    """Refuse code that was edited since the command began, which a worker started later would run.

    Args:
        expected: what the command found; empty where a sweep of an earlier version did not record it.

    Raises:
        CodeChanged: what is other code now.
    """
    from vrcli.identity import changes

    if expected and (found := changes(expected, spec.code)):
        raise CodeChanged(f"code was edited meanwhile: {', '.join(found)}; the same command begins anew with it")


class _Watcher:
    """Passes a run's epochs on, and stops it where it misses a limit."""

    def __init__(
        self,
        task: type[Task[Any]],
        note: Callable[[Any], None],
        limits: Mapping[int, float],
        should_stop: Callable[[], bool],
    ) -> None:
        self.metric = f"val_{task.metrics[0].name}"
        self.note, self.limits, self.stopped = note, limits, should_stop
        self.losses: tuple[float, ...] = ()
        self.pruned = ""
        self.record: RunRecord | None = None

    def should_stop(self) -> bool:
        return bool(self.pruned) or self.stopped()

    def begin(self, record: RunRecord, prepared: Any) -> None:
        self.record = record
        self.note({"run": record.id, "seed": record.seed})

    def event(self, event: Any) -> None:
        from vrcli.engine.events import Eval

        if not isinstance(event, Eval):
            return
        self.losses = (*self.losses, event.values[self.metric])
        self.note({"epoch": event.epoch, "loss": event.values[self.metric]})
        best, limit = min(self.losses), self.limits.get(event.epoch, math.inf)
        if best > limit:
            self.pruned = f"stopped after epoch {event.epoch}: {best:.4g} is above {limit:.4g}"

    def end(self, record: RunRecord) -> None:
        pass
