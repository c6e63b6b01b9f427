"""One run, from its spec to its finished row: the engine's events go to the store and to whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from vrcli.db.errors import LeaseLost
from vrcli.db.records import RunRecord
from vrcli.db.store import Store, StoreError, Unavailable
from vrcli.direction import cost
from vrcli.engine import provenance
from vrcli.engine.driven import train_any
from vrcli.engine.events import Artifact, Checkpoint, Ended, Event
from vrcli.engine.prepare import DataCache, Prepared
from vrcli.engine.probes.asked import NONE, Probing
from vrcli.engine.probes.measuring import built
from vrcli.engine.weights import Kept, check_kept
from vrcli.errors import UsageError, VrError, contained, first_line
from vrcli.execute import checkpoints as files
from vrcli.execute import replay
from vrcli.execute.checkpoints import Checkpoints, Unsaved
from vrcli.execute.job import Lineage, of_spec
from vrcli.execute.known_data import prepare_known
from vrcli.execute.lease import Lease
from vrcli.execute.outage import Away, Outage, patiently
from vrcli.execute.resume import Taken, interrupted, take_up, taken_meanwhile, unwritten
from vrcli.execute.writer import Writer
from vrcli.spec import Request, RunSpec
from vrcli.tasks.base import Task

#: Under which a run's provenance says which weights to keep.
_KEPT = "keep_weights"


class RunFailed(VrError):
    """Training raised an error; the run's row says so and keeps what was recorded."""


class Watcher(Protocol):
    """Sees a run as it happens."""

    def begin(self, record: RunRecord, prepared: Prepared) -> None: ...

    def event(self, event: Event | Away | Unsaved) -> None: ...

    def end(self, record: RunRecord) -> None: ...


class Silent:
    """Watches nothing."""

    def begin(self, record: RunRecord, prepared: Prepared) -> None:
        pass

    def event(self, event: Event | Away | Unsaved) -> None:
        pass

    def end(self, record: RunRecord) -> None:
        pass


@dataclass(frozen=True)
class Began:
    """The row of a run is written, and training begins."""

    record: RunRecord
    prepared: Prepared


@dataclass(frozen=True)
class Done:
    """The last of `training`: the run's closed row.

    Args:
        reused: it was there already.
    """

    record: RunRecord
    reused: bool = False


def execute(
    request: Request,
    task_class: type[Task[Any]],
    store: Store,
    *,
    lineage: Lineage = Lineage(),
    watcher: Watcher | None = None,
    data_dir: Path | None = None,
    cache: DataCache | None = None,
    malloc_tuned: bool = False,
    notice: Callable[[str], object] = lambda text: None,
    should_stop: Callable[[], bool] = lambda: False,
    reuse: bool = False,
    **more: Any,
) -> RunRecord:
    """Run what is requested and store it, as `training` does, while a watcher looks on.

    Args:
        more: what else `training` takes.

    Raises:
        UsageError, TaskError: the request cannot be carried out; nothing was recorded.
        RunFailed: training or the watcher raised an error.
        Outage: the database stayed away.
    """
    watcher = watcher or Silent()
    events = training(
        request, task_class, store, lineage=lineage, data_dir=data_dir, cache=cache, malloc_tuned=malloc_tuned,
        notice=notice, should_stop=should_stop, reuse=reuse, **more,
    )  # fmt: skip
    event = next(events)
    while not isinstance(event, Done):
        try:
            if isinstance(event, Began):
                watcher.begin(event.record, event.prepared)
            else:
                watcher.event(event)
        except BaseException as error:
            event = events.throw(error)
        else:
            event = next(events)
    if not event.reused:
        watcher.end(event.record)
    return event.record


def check(
    request: Request, task_class: type[Task[Any]], *, data_dir: Path | None, cache: DataCache, probing: Probing = NONE,
    keep: Kept | None = None,
) -> RunSpec:  # fmt: skip
    """Load the data and build what would be trained.

    Returns:
        What is asked for, on the data as they are.

    Raises:
        UsageError, TaskError: the request cannot be carried out.
    """
    with _torch_as_it_was(), contained():
        prepared = prepare_known(request, task_class, data_dir=data_dir, cache=cache)
        built(probing, prepared)
        check_kept(keep, prepared)
        return prepared.spec


def training(
    request: Request,
    task_class: type[Task[Any]],
    store: Store,
    *,
    lineage: Lineage = Lineage(),
    data_dir: Path | None = None,
    cache: DataCache | None = None,
    malloc_tuned: bool = False,
    notice: Callable[[str], object] = lambda text: None,
    should_stop: Callable[[], bool] = lambda: False,
    reuse: bool = False,
    checkpoints: Checkpoints = files.OFF,
    resume: RunRecord | Literal["same"] | None = None,
    keep: Kept | None = None,
    probing: Probing = NONE,
) -> Generator[Began | Event | Away | Unsaved | Done, None, None]:
    """One run as it happens: `Began`, the engine's events, `Done`; `Away` where the database cannot be written.

    The row is written once data, model and optimizer exist, so a request that cannot be carried out leaves none. From
    then on every ending, also an error, Ctrl-C or that nobody asks for the next event, closes the row.

    Args:
        reuse: give back a stored run of the same spec that completed or diverged, instead of running it again: it would
            give the same bits.
        checkpoints: how often the run is written down, and where.
        resume: go on with this run, or with an interrupted one of the same spec and lineage where there is one.
        keep: which weights of the run to keep as files.
        probing: what to measure beside the loss; a run that goes on measures what it measured.

    Raises:
        UsageError, TaskError: the request cannot be carried out; nothing was recorded.
        StoreError: the run to resume goes on elsewhere, or has ended; or another process took this one over.
        RunFailed: training raised an error.
        Outage: the database stayed away; the run ended as interrupted, as far as that could be recorded.
    """
    with _torch_as_it_was():
        with contained():
            prepared = prepare_known(request, task_class, data_dir=data_dir, cache=cache, notice=notice)
            built(probing, prepared)
        check_kept(keep, prepared)
        spec = prepared.spec
        if reuse and (earlier := of_spec(store, spec, probing)) is not None:
            yield Done(earlier, reused=True)
            return
        taken = yield from patiently(
            lambda: _resumed(store, prepared, lineage, checkpoints, resume, notice, probing), should_stop=should_stop
        )
        if taken is None:
            origin = provenance.collect(prepared.device, spec.threads, malloc_tuned=malloc_tuned) | checkpoints.origin
            origin |= {"declared_data": prepared.data.identity} if prepared.data.streamed else {}
            origin |= {"task": f"{task_class.__module__}:{task_class.__qualname__}"}
            origin |= ({_KEPT: keep} if keep else {}) | probing.provenance
            origin |= {replay.ORIGIN: spec.rates.run} if spec.rates else {}
            record = yield from patiently(
                lambda: store.runs.begin(
                    spec.model_dump(mode="json"), spec_id=spec.spec_id, provenance=origin, metrics=task_class.metrics,
                    **lineage.plain(),
                ),
                should_stop=should_stop,
            )  # fmt: skip
            taken = Taken(record)
        with Lease(store, taken.record.id) as lease:
            record = yield from _Run(store, prepared, taken, checkpoints, lease, should_stop, keep).events()
    yield Done(record)


def _resumed(
    store: Store, prepared: Prepared, lineage: Lineage, checkpoints: Checkpoints,
    resume: RunRecord | Literal["same"] | None, notice: Callable[[str], object], probing: Probing,
) -> Taken | None:  # fmt: skip
    """The run to go on with, taken up; None where one is to begin."""
    spec = prepared.spec
    run = interrupted(store, spec, lineage, probing) if resume == "same" else resume
    if run is None:
        return None
    if run.spec_id != spec.spec_id:
        raise UsageError(
            f"run {run.id} began on other data, {run.dataset_fingerprint} and not {spec.dataset_fingerprint}; "
            f"vr runs retry {run.id} begins it again"
        )
    try:
        return take_up(store, run, checkpoints.known(store.location, run), prepared, notice)
    except StoreError as error:
        if resume == "same" and taken_meanwhile(error, store, run):
            return None
        raise


class _Run:
    """A run whose row is written, on its way to the closed row."""

    def __init__(
        self, store: Store, prepared: Prepared, taken: Taken, checkpoints: Checkpoints, lease: Lease,
        should_stop: Callable[[], bool], keep: Kept | None,
    ) -> None:  # fmt: skip
        self.store, self.prepared, self.taken, self.record = store, prepared, taken, taken.record
        self.writer = Writer(store, self.record.id, should_stop)
        self.writer.recorded = store.curves.last_step(self.record.id) if taken.state else 0
        self.checkpoints, self.shelf = checkpoints, checkpoints.known(store.location, self.record)
        self.lease, self.asked, self.gave_up = lease, should_stop, False
        self.keep = keep or self.record.provenance.get(_KEPT)

    def should_stop(self) -> bool:
        return self.gave_up or self.lease.lost or self.asked()

    def events(self) -> Generator[Began | Event | Away | Unsaved, None, RunRecord]:
        """What happens until the row is closed; returns it."""
        number = self.record.id
        events = train_any(
            self.prepared, should_stop=self.should_stop, checkpoints=self.checkpoints.every,
            resume_from=self.taken.state, keep=self.keep, probing=Probing.stored(self.record.provenance),
        )  # fmt: skip
        try:
            yield Began(self.record, self.prepared)
            if (rates := self.prepared.spec.rates) is not None:  # the run that had them may be removed
                yield from self.writer.write(Artifact(replay.FILE, rates.encoded(), step=0))
            while (event := _next(events)) is not None:
                self.record = (yield from self.writer.write(event)) or self.record
                if isinstance(event, Checkpoint):
                    yield from self.save(event)
                else:
                    yield event
            if self.record.status in ("completed", "diverged"):
                self.shelf.remove()
                files.remove(self.store.location, self.record)
                files.tidy(self.store)
        except LeaseLost:  # nothing more may be written here
            raise
        except Unavailable as error:
            self.write_down(events)
            with suppress(StoreError):
                self.close("interrupted", str(error))
            raise Outage(str(error), self.writer.left()) from error
        except KeyboardInterrupt:  # outside a step: the engine turns one inside into an orderly end
            self.record = self.close("interrupted") if self.record.status == "running" else self.record
        except (SystemExit, GeneratorExit):  # rich ends the process so when the reader of a pipe goes away
            if self.record.status == "running":
                with suppress(Unavailable):
                    self.close("interrupted")
            raise
        except Exception as error:
            line = first_line(error)
            if self.record.status == "running":
                with suppress(Unavailable):
                    yield from patiently(lambda: self.close("failed", line), should_stop=self.asked)
            raise RunFailed(f"run {number} failed: {line}") from error
        return self.record

    def close(self, status: str, error: str | None = None) -> RunRecord:
        number = self.record.id
        with suppress(StoreError):  # what the store refuses must not keep the row open
            self.writer.flush()
        return self.store.runs.finish(
            number, status, results=_best_so_far(self.store, number, self.prepared), error=error
        )

    def save(self, event: Checkpoint) -> Iterator[Unsaved]:
        """Write a checkpoint, with what the database has not taken; where that fails the run goes on."""
        try:
            state = {**event.state, **unwritten(self.writer.held)}
            self.shelf.save(event.step, state, recorded=self.writer.recorded)
        except OSError as error:
            yield Unsaved(error.strerror or str(error))

    def write_down(self, events: Iterator[Event]) -> None:
        """End in order, without the database: what it has not taken goes to a last checkpoint."""
        self.gave_up = True
        while (event := _next(events)) is not None and not isinstance(event, Ended):
            self.writer.hold(event)
            if isinstance(event, Checkpoint):
                list(self.save(event))


def _next(events: Iterator[Event]) -> Event | None:
    with contained():
        return next(events, None)


@contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """Give the process back its number of threads and its random numbers: a run sets its own."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)


def _best_so_far(store: Store, run_id: int, prepared: Prepared) -> dict[str, float]:
    """The best validation value among the epochs that were stored, for a run that could not say so itself."""
    metric = prepared.task.metrics[0]
    objective = f"val_{metric.name}"
    curve = store.curves.read([run_id], [objective]).get((run_id, objective))
    finite = (
        [(value, step) for step, value in zip(curve.steps, curve.values, strict=True) if isfinite(value)]
        if curve
        else []
    )
    if not finite:
        return {}
    best, step = min(finite, key=lambda one: (cost(one[0], metric.direction), one[1]))
    return {f"best_{objective}": best, "best_step": step}
