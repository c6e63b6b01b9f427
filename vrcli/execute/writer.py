"""What a run records, from the engine's events to its rows."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias

from vrcli.db.records import RunRecord
from vrcli.db.store import Store, Unavailable
from vrcli.engine.events import Artifact, Checkpoint, Ended, Eval, Event, Probed, Started, Steps
from vrcli.execute.outage import Away, Patience, patiently

#: Points and files that are held in memory before a run waits for its database.
_MOST_POINTS, _MOST_FILES = 2_000_000, 1000
#: What comes within so short a time is written in one commit.
_TOGETHER_S = 0.1

#: Steps and values by metric.
Held: TypeAlias = dict[str, tuple[list[int], list[float]]]


class Writer:
    """Writes a run's events. A block of steps waits for the evaluation that mostly follows it, and evaluations that
    follow each other quickly are written together: a commit takes longer than a small step.

    While the database is away, what is to be written is held, and the run goes on.

    Args:
        should_stop: nobody wants to wait for the database any longer.
    """

    def __init__(self, store: Store, run_id: int, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.store, self.run_id, self.should_stop = store, run_id, should_stop
        self.waiting: Steps | None = None
        self.held: deque[Held | Artifact] = deque()
        self.recorded = 0
        self._points = 0
        self._written = -math.inf
        self.patience = Patience(should_stop)

    def write(self, event: Event) -> Generator[Away, None, RunRecord | None]:
        """Write one event; the run's closed row where it was the last.

        Yields:
            Once, when the database is away.

        Raises:
            Unavailable: it stayed away.
        """
        self.hold(event)
        if isinstance(event, Ended):
            yield from self._sent(wait=True)
            return (yield from self._finish(event))
        most = self._points > _MOST_POINTS or len(self.held) > _MOST_FILES
        if most or time.monotonic() - self._written >= _TOGETHER_S:
            yield from self._sent(wait=most)
        return None

    def hold(self, event: Event) -> None:
        """Keep what an event brings until it is written."""
        match event:
            case Steps():
                self._hold()
                self.waiting = event
            case Eval() | Probed():
                self._hold(event)
            case Artifact():
                self._hold()
                self.held.append(event)
            case Checkpoint() | Ended():
                self._hold()
            case Started():
                pass

    def flush(self) -> None:
        """Write all that there is.

        Raises:
            Unavailable: the database is away.
        """
        self._hold()
        self._send()

    def _send(self) -> None:
        if not self.held:
            return
        while self.held:
            if isinstance(one := self.held[0], Artifact):
                self.store.artifacts.keep(self.run_id, one.name, one.data, step=one.step)
            else:
                self.store.curves.add(self.run_id, one)
                self.recorded = max(self.recorded, *(steps[-1] for steps, _ in one.values()))
            self.held.popleft()
        self._points, self._written = 0, time.monotonic()

    def left(self) -> str:
        """What is recorded of a run whose database is away, and how to go on."""
        kept = f"its curves are recorded up to step {self.recorded}" if self.recorded else "nothing of its curves is"
        again = f"vr runs resume {self.run_id} continues it"
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

    def _hold(self, measured: Eval | Probed | None = None) -> None:
        """Hold the block that waits, together with what was measured after it."""
        points: dict[str, tuple[Sequence[int], Sequence[float]]] = {}
        if self.waiting is not None:
            points = {name: (self.waiting.steps, values) for name, values in self.waiting.values.items()}
        if measured is not None:
            points |= {name: ([measured.step], [value]) for name, value in measured.values.items()}
        self.waiting = None
        if not points:
            return
        together = self.held[-1] if self.held else None
        if not isinstance(together, dict):
            self.held.append(together := {})
        for name, (steps, values) in points.items():
            known = together.setdefault(name, ([], []))
            known[0].extend(steps)
            known[1].extend(values)
            self._points += len(steps)
