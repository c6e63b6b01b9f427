"""One run, from its spec to its finished row: the engine's events go to the store and to whoever watches."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch

from vrcli.db.records import RunRecord
from vrcli.db.store import Store, StoreError, Unavailable
from vrcli.engine import provenance
from vrcli.engine.events import Artifact, Ended, Eval, Event, Started, Steps
from vrcli.engine.loop import train
from vrcli.engine.prepare import DataCache, Prepared
from vrcli.errors import VrError, contained, first_line, stop_signals
from vrcli.execute.job import Lineage, of_spec
from vrcli.execute.known_data import prepare_known
from vrcli.execute.outage import Away, Outage, Patience, patiently
from vrcli.spec import Request
from vrcli.tasks.base import Task

#: Blocks of points and files that are held in memory before a run waits for its database.
_MOST_HELD = 1000
_MEDIA_TYPES = {".png": "image/png", ".txt": "text/plain; charset=utf-8"}


class RunFailed(VrError):
    """Training raised an error; the run's row says so and keeps what was recorded."""


class Watcher(Protocol):
    """Sees a run as it happens."""

    def begin(self, record: RunRecord, prepared: Prepared) -> None: ...

    def event(self, event: Event | Away) -> None: ...

    def end(self, record: RunRecord) -> None: ...


class Silent:
    """Watches nothing."""

    def begin(self, record: RunRecord, prepared: Prepared) -> None:
        pass

    def event(self, event: Event | Away) -> None:
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
    lineage: Lineage = Lineage(),  # noqa: B008  # frozen
    watcher: Watcher | None = None,
    data_dir: Path | None = None,
    cache: DataCache | None = None,
    malloc_tuned: bool = False,
    notice: Callable[[str], object] = lambda text: None,
    should_stop: Callable[[], bool] = lambda: False,
    reuse: bool = False,
) -> RunRecord:
    """Run what is requested and store it, as `training` does, while a watcher looks on.

    Raises:
        UsageError, TaskError: the request cannot be carried out; nothing was recorded.
        RunFailed: training or the watcher raised an error.
        Outage: the database stayed away.
    """
    watcher = watcher or Silent()
    events = training(
        request, task_class, store, lineage=lineage, data_dir=data_dir, cache=cache, malloc_tuned=malloc_tuned,
        notice=notice, should_stop=should_stop, reuse=reuse,
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


def check(request: Request, task_class: type[Task[Any]], *, data_dir: Path | None, cache: DataCache) -> None:
    """Load the data and build what would be trained.

    Raises:
        UsageError, TaskError: the request cannot be carried out.
    """
    with _torch_as_it_was(), contained():
        prepare_known(request, task_class, data_dir=data_dir, cache=cache)


def training(
    request: Request,
    task_class: type[Task[Any]],
    store: Store,
    *,
    lineage: Lineage = Lineage(),  # noqa: B008  # frozen
    data_dir: Path | None = None,
    cache: DataCache | None = None,
    malloc_tuned: bool = False,
    notice: Callable[[str], object] = lambda text: None,
    should_stop: Callable[[], bool] = lambda: False,
    reuse: bool = False,
) -> Generator[Began | Event | Away | Done, None, None]:
    """One run as it happens: `Began`, the engine's events, `Done`; `Away` where the database cannot be written.

    The row is written once data, model and optimizer exist, so a request that cannot be carried out leaves none. From
    then on every ending, also an error, Ctrl-C or that nobody asks for the next event, closes the row.

    Args:
        reuse: give back a stored run of the same spec that completed or diverged, instead of running it again: it would
            give the same bits.

    Raises:
        UsageError, TaskError: the request cannot be carried out; nothing was recorded.
        RunFailed: training raised an error.
        Outage: the database stayed away; the run ended as interrupted, as far as that could be recorded.
    """
    with _torch_as_it_was():
        with contained():
            prepared = prepare_known(request, task_class, data_dir=data_dir, cache=cache, notice=notice)
        spec = prepared.spec
        if reuse and (earlier := of_spec(store, spec)) is not None:
            yield Done(earlier, reused=True)
            return
        origin = provenance.collect(prepared.device, spec.threads, malloc_tuned=malloc_tuned)
        record = yield from patiently(
            lambda: store.runs.begin(
                spec.model_dump(mode="json"), spec_id=spec.spec_id, provenance=origin, metrics=task_class.metrics,
                **lineage.plain(),
            ),
            should_stop=should_stop,
        )  # fmt: skip
        writer = Writer(store, record.id, should_stop)

        def close(status: str, error: str | None = None) -> RunRecord:
            with suppress(Unavailable):
                writer.flush()
            return store.runs.finish(record.id, status, results=_best_so_far(store, record.id, prepared), error=error)

        try:
            yield Began(record, prepared)
            events = train(prepared, should_stop=should_stop)
            while (event := _next(events)) is not None:
                record = (yield from writer.write(event)) or record
                yield event
        except Unavailable as error:  # a run that can be taken up again would write its checkpoint here
            with suppress(StoreError):
                close("interrupted", str(error))
            raise Outage(str(error), writer.left()) from error
        except KeyboardInterrupt:  # outside a step: the engine turns one inside into an orderly end
            record = close("interrupted") if record.status == "running" else record
        except (SystemExit, GeneratorExit):  # rich ends the process so when the reader of a pipe goes away
            if record.status == "running":
                with suppress(Unavailable):
                    close("interrupted")
            raise
        except Exception as error:
            line = first_line(error)
            if record.status == "running":
                with suppress(Unavailable):
                    yield from patiently(lambda: close("failed", line), should_stop=should_stop)
            raise RunFailed(f"run {record.id} failed: {line}") from error
    yield Done(record)


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
    """Writes a run's events. A block of steps waits for the evaluation that mostly follows it: one commit for both.

    While the database is away, what is to be written is held, and the run goes on.

    Args:
        should_stop: nobody wants to wait for the database any longer.
    """

    def __init__(self, store: Store, run_id: int, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.store, self.run_id, self.should_stop = store, run_id, should_stop
        self.waiting: Steps | None = None
        self.held: deque[tuple[int, Callable[[], object]]] = deque()
        self.recorded = 0
        self.patience = Patience(should_stop)

    def write(self, event: Event) -> Generator[Away, None, RunRecord | None]:
        """Write one event; the run's closed row where it was the last.

        Yields:
            Once, when the database is away.

        Raises:
            Unavailable: it stayed away.
        """
        match event:
            case Steps():
                self._hold()
                self.waiting = event
            case Eval():
                self._hold(event)
            case Artifact():
                self._hold()
                self.held.append((event.step, lambda: self._keep(event)))
            case Ended():
                self._hold()
                yield from self._sent(wait=True)
                return (yield from self._finish(event))
            case Started():
                pass
        yield from self._sent(wait=len(self.held) > _MOST_HELD)
        return None

    def flush(self) -> None:
        """Write all that there is.

        Raises:
            Unavailable: the database is away.
        """
        self._hold()
        self._send()

    def _send(self) -> None:
        while self.held:
            step, write = self.held[0]
            write()
            self.recorded = max(self.recorded, step)
            self.held.popleft()

    def left(self) -> str:
        """What is recorded of a run whose database is away, and how to go on."""
        kept = f"its curves are recorded up to step {self.recorded}" if self.recorded else "nothing of its curves is"
        again = f"vr runs retry {self.run_id} trains it again"
        return f"run {self.run_id} was interrupted and {kept}; {again}"

    def _sent(self, *, wait: bool) -> Generator[Away, None, None]:
        """Write what waits, where it is time to; with `wait` until all is written."""
        while self.patience.due or wait:
            self.patience.pause()
            try:
                self._send()
            except Unavailable as error:
                if (away := self.patience.failed(error)) is not None:
                    yield away
            else:
                return self.patience.forget()
            if not wait:
                return None
        return None

    def _finish(self, event: Ended) -> Generator[Away, None, RunRecord]:
        def arrived() -> RunRecord | None:
            found = self.store.runs.get(self.run_id)
            return found if found.status == event.status else None

        error = event.reason if event.status != "completed" else None
        return patiently(
            lambda: self.store.runs.finish(self.run_id, event.status, results=event.results, error=error),
            should_stop=self.should_stop, arrived=arrived,
        )  # fmt: skip

    def _keep(self, file: Artifact) -> None:
        kind = _MEDIA_TYPES.get(Path(file.name).suffix, "application/octet-stream")
        self.store.artifacts.add(self.run_id, file.name, file.data, media_type=kind, step=file.step)

    def _hold(self, evaluation: Eval | None = None) -> None:
        """Hold the block that waits, together with an evaluation."""
        points: dict[str, tuple[Sequence[int], Sequence[float]]] = {}
        if self.waiting is not None:
            points = {name: (self.waiting.steps, values) for name, values in self.waiting.values.items()}
        if evaluation is not None:
            points |= {name: ([evaluation.step], [value]) for name, value in evaluation.values.items()}
        self.waiting = None
        if points:
            last = max(steps[-1] for steps, _ in points.values())
            self.held.append((last, lambda: self.store.curves.add(self.run_id, points)))


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """While inside, the first Ctrl-C, SIGTERM or SIGHUP asks for an orderly end; a second one interrupts at once.

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

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, *stop_signals())}
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
