"""A worker: carries out the jobs that its process is sent, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.db.location import Location
from vrcli.direction import cost
from vrcli.engine.probes.asked import NONE, Probing
from vrcli.execute.checkpoints import Checkpoints
from vrcli.execute.executor import CodeChanged, Refused
from vrcli.execute.job import Job, Rehearsal, RunOutcome

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.spec import Request
    from vrcli.tasks.base import Task


class Worker:
    """Runs jobs; data and imports stay between them.

    Args:
        tune: keep freed memory.
        checkpoints: how often runs are written down, and where.
        probing: what they measure beside the loss.
    """

    def __init__(
        self,
        database: Location,
        data_dir: Path | None = None,
        tune: bool = True,
        checkpoints: Checkpoints = Checkpoints(),
        probing: Probing = NONE,
    ) -> None:
        from vrcli.engine.allocator import keep_freed_memory
        from vrcli.engine.spin import spin_briefly

        spin_briefly()
        self.tuned = tune and keep_freed_memory()  # before torch allocates anything

        from vrcli.engine.prepare import DataCache

        self.database, self.data_dir, self.checkpoints, self.probing = database, data_dir, checkpoints, probing
        self.cache = DataCache()
        self.store: Any = None

    def __call__(
        self, job: Job, note: Callable[[Any], None], should_stop: Callable[[], bool]
    ) -> RunOutcome | Rehearsal:
        from vrcli.errors import UsageError
        from vrcli.identity import code_of
        from vrcli.tasks.base import TaskError
        from vrcli.tasks.registry import UnknownTask, load

        try:
            task = load(job.task)
            code = code_of(task, job.request.optimizer)
            if code != job.request.code:  # edited since the command began, and this process began later
                raise CodeChanged(code)
            return self.rehearse(job.request, task) if job.rehearse else self.run(job, task, note, should_stop)
        except (UsageError, TaskError, UnknownTask) as error:
            raise Refused(str(error)) from error

    def close(self) -> None:
        """Fold what this worker wrote into the database's file."""
        if self.store is not None:
            self.store.close()

    def rehearse(self, request: Request, task: type[Task[Any]]) -> Rehearsal:
        """Load the data and time a few steps."""
        from vrcli.engine.loop import train
        from vrcli.engine.prepare import planned_steps
        from vrcli.execute.known_data import prepare_known
        from vrcli.tasks.loop import LoopTask

        if issubclass(task, LoopTask):  # nobody can tell it to train for a few steps only
            return Rehearsal(*task(task.Config(**request.task_settings)).dataset(), "", math.nan)
        timed: dict[str, float] = {}
        for steps in (2, 8):  # the first steps of a process are slow
            short = request.with_training(until=f"steps:{steps}", eval_every=None)
            ready = prepare_known(short, task, data_dir=self.data_dir, cache=self.cache)
            *_, ended = train(ready, probing=replace(self.probing, every=str(steps)))  # measures once, at the end
            timed = dict(getattr(ended, "results", {}))
            if timed.get("wall_s", math.inf) > 20:
                break
        training = request.training.model_copy(update={"batch_size": ready.spec.training.batch_size})
        per_epoch, total = planned_steps(training, ready.samples, ready.capabilities)
        step_s = timed.get("step_ms", math.nan) / 1000
        if total is None:  # as many as the budget buys at this cost of a step
            each = step_s if training.end.unit == "seconds" else timed["gradient_evaluations"] / timed["steps"]
            total = math.ceil(training.end.amount / each) if each > 0 else 0
        epoch_end_s = timed["wall_s"] - timed["train_s"]  # the evaluation of two splits: a bit too much
        run_s = total * step_s + total / (training.eval_every or per_epoch) * epoch_end_s
        run_s += timed.get("probe_s", 0.0) * (total // self.probing.steps(per_epoch))
        memory = timed.get("peak_memory_bytes", math.nan)
        data, spec = ready.data, ready.spec
        return Rehearsal(data.dataset, spec.dataset_fingerprint, data.about, run_s, memory, spec.training.batch_size)

    def run(
        self, job: Job, task: type[Task[Any]], note: Callable[[Any], None], should_stop: Callable[[], bool]
    ) -> RunOutcome:
        """Run and store; a run that raised is an outcome too."""
        from vrcli.db.store import Store
        from vrcli.execute.outage import patiently, told
        from vrcli.execute.run import RunFailed, execute

        opened = patiently(lambda: Store.open(self.database, mode="write"), should_stop=should_stop)
        self.store = self.store or told(opened, note)
        watcher = _Watcher(task, note, job.limits, should_stop, self.store)
        try:
            record = execute(
                job.request, task, self.store, lineage=job.named_lineage, watcher=watcher, data_dir=self.data_dir,
                cache=self.cache, malloc_tuned=self.tuned, notice=note, should_stop=watcher.should_stop,
                reuse=job.reuse == "spec", checkpoints=self.checkpoints, resume="same",
                probing=self.probing,
            )  # fmt: skip
        except RunFailed:
            if watcher.record is None:
                raise
            record = self.store.runs.get(watcher.record.id)
        if watcher.pruned:
            self.checkpoints.of(self.database, record).remove()
        return RunOutcome(record, watcher.losses, watcher.pruned, reused=watcher.record is None)


class _Watcher:
    """Passes a run's evaluations on, and stops it where it misses a limit."""

    def __init__(
        self,
        task: type[Task[Any]],
        note: Callable[[Any], None],
        limits: Mapping[int, float],
        should_stop: Callable[[], bool],
        store: Store,
    ) -> None:
        self.store = store
        self.metric = f"val_{task.metrics[0].name}"
        self.cost = partial(cost, direction=task.metrics[0].direction)
        self.note, self.limits, self.stopped = note, limits, should_stop
        self.losses: tuple[float, ...] = ()
        self.pruned = ""
        self.record: RunRecord | None = None

    def should_stop(self) -> bool:
        return bool(self.pruned) or self.stopped()

    def begin(self, record: RunRecord, prepared: Any) -> None:
        self.record = record
        curve = self.store.curves.read([record.id], [self.metric]).get((record.id, self.metric))
        self.losses = tuple(curve.values) if curve else ()  # of a run that goes on

    def event(self, event: Any) -> None:
        from vrcli.engine.events import Eval, Probed
        from vrcli.execute.outage import Away

        if isinstance(event, Away):
            self.note(event)
        for text in event.notes if isinstance(event, Probed) else ():
            self.note(text)
        if not isinstance(event, Eval):
            return
        self.losses = (*self.losses[: event.number - 1], event.values[self.metric])
        self.note((event.number, event.values[self.metric]))
        best, limit = min(self.losses, key=self.cost), self.limits.get(event.number)
        if limit is not None and self.cost(best) > self.cost(limit):
            at = f"epoch {event.epoch}" if event.epoch == event.number else f"step {event.step}"
            side = "above" if best > limit else "below"
            self.pruned = f"stopped after {at}: {best:.4g} is {side} {limit:.4g}"

    def end(self, record: RunRecord) -> None:
        pass
