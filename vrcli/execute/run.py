"""One run, from its spec to its finished row: the engine's events go to the store and to whoever watches."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from vrcli.db.records import RunRecord
from vrcli.db.store import Store
from vrcli.engine import provenance
from vrcli.engine.events import Artifact, Ended, Eval, Event, Started, Steps
from vrcli.engine.loop import train
from vrcli.engine.prepare import DataCache, Prepared
from vrcli.errors import VrError
from vrcli.execute.job import Lineage, of_spec
from vrcli.execute.known_data import prepare_known
from vrcli.spec import RunSpec
from vrcli.tasks.base import Task

_MEDIA_TYPES = {".png": "image/png", ".txt": "text/plain; charset=utf-8"}


class RunFailed(VrError):
    """Training raised an error; the run's row says so and keeps what was recorded."""


class Watcher(Protocol):
    """Sees a run as it happens."""

    def begin(self, record: RunRecord, prepared: Prepared) -> None: ...

    def event(self, event: Event) -> None: ...

    def end(self, record: RunRecord) -> None: ...


class Silent:
    """Watches nothing."""

    def begin(self, record: RunRecord, prepared: Prepared) -> None:
        pass

    def event(self, event: Event) -> None:
        pass

    def end(self, record: RunRecord) -> None:
        pass


def execute(
    spec: RunSpec,
    task_class: type[Task[Any]],
    store: Store,
    *,
    lineage: Lineage = Lineage(),  # noqa: B008  # frozen
    watcher: Watcher | None = None,
    data_dir: Path | None = None,
    cache: DataCache | None = None,
    malloc_tuned: bool = False,
    notice: Callable[[str], object] = lambda text: None,
    should_stop: Callable[[], bool] = lambda: False,
    reuse: bool = False,
) -> RunRecord:
    """Run `spec` and store it.

    The row is written once data, model and optimizer exist, so a request that cannot be carried out leaves none. From
    then on every ending, also an error or Ctrl-C, closes the row.

    Args:
        reuse: give back a stored run of the same spec that completed or diverged, instead of running it again: it would
            give the same bits.

    Raises:
        UsageError, TaskError: the request cannot be carried out; nothing was recorded.
        RunFailed: training raised an error.
    """
    watcher = watcher or Silent()
    prepared = prepare_known(spec, task_class, data_dir=data_dir, cache=cache, notice=notice)
    spec = prepared.spec
    if reuse and (earlier := of_spec(store, spec)) is not None:
        return earlier
    origin = provenance.collect(prepared.device, spec.threads, malloc_tuned=malloc_tuned)
    record = store.runs.begin(
        spec.model_dump(mode="json"), spec_id=spec.spec_id, provenance=origin, metrics=task_class.metrics,
        **lineage.plain(),
    )  # fmt: skip
    writer = Writer(store, record.id)
    try:
        watcher.begin(record, prepared)
        for event in train(prepared, should_stop=should_stop):
            ended = writer.write(event)
            if ended is not None:
                record = ended
            watcher.event(event)
    except KeyboardInterrupt:  # outside a step: the engine turns one inside into an orderly end
        if record.status == "running":
            writer.flush()
            record = store.runs.finish(record.id, "interrupted", results=_best_so_far(store, record.id, prepared))
    except SystemExit:  # rich ends the process so when the reader of a pipe goes away
        if record.status == "running":
            writer.flush()
            store.runs.finish(record.id, "interrupted", results=_best_so_far(store, record.id, prepared))
        raise
    except Exception as error:
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        if record.status == "running":
            writer.flush()
            store.runs.finish(record.id, "failed", results=_best_so_far(store, record.id, prepared), error=line)
        raise RunFailed(f"run {record.id} failed: {line}") from error
    watcher.end(record)
    return record


def _best_so_far(store: Store, run_id: int, prepared: Prepared) -> dict[str, float]:
    """The best validation value among the epochs that were stored, for a run that could not say so itself."""
    objective = f"val_{prepared.task.metrics[0].name}"
    curve = store.curves.read([run_id], [objective]).get((run_id, objective))
    finite = (
        [(value, step) for step, value in zip(curve.steps, curve.values, strict=True) if isfinite(value)]
        if curve
        else []
    )
    if not finite:
        return {}
    best, step = min(finite)
    return {f"best_{objective}": best, "best_step": step}


class Writer:
    """Writes a run's events. A block of steps waits for the evaluation that mostly follows it: one commit for both."""

    def __init__(self, store: Store, run_id: int) -> None:
        self.store, self.run_id = store, run_id
        self.waiting: Steps | None = None

    def write(self, event: Event) -> RunRecord | None:
        """Write one event; the run's closed row where it was the last."""
        match event:
            case Steps():
                self.flush()
                self.waiting = event
            case Eval():
                self.flush(event)
            case Artifact():
                self.flush()
                kind = _MEDIA_TYPES.get(Path(event.name).suffix, "application/octet-stream")
                self.store.artifacts.add(self.run_id, event.name, event.data, media_type=kind, step=event.step)
            case Ended():
                self.flush()
                error = event.reason if event.status != "completed" else None
                return self.store.runs.finish(self.run_id, event.status, results=event.results, error=error)
            case Started():
                pass
        return None

    def flush(self, evaluation: Eval | None = None) -> None:
        """Write the block that waits, together with an evaluation."""
        points: dict[str, tuple[Sequence[int], Sequence[float]]] = {}
        if self.waiting is not None:
            points = {name: (self.waiting.steps, values) for name, values in self.waiting.values.items()}
        if evaluation is not None:
            points |= {name: ([evaluation.step], [value]) for name, value in evaluation.values.items()}
        self.waiting = None
        if points:
            self.store.curves.add(self.run_id, points)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """While inside, the first Ctrl-C or SIGTERM asks for an orderly end; a second one interrupts at once.

    Yields:
        Whether a stop was asked for.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
