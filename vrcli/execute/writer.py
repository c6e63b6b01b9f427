"""What a run's events leave in its database, also where that is away for a while."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence

from vrcli.db.records import RunRecord
from vrcli.db.store import Store, Unavailable
from vrcli.engine.events import Artifact, Checkpoint, Ended, Eval, Event, Started, Steps
from vrcli.execute.outage import Away, Patience, patiently
from vrcli.execute.resume import Points

#: Blocks of points and files that are held in memory before a run waits for its database.
_MOST_HELD = 1000


class Writer:
    """Writes a run's events. A block of steps waits for the evaluation that mostly follows it: one commit for both.

    While the database is away, what is to be written is held, and the run goes on.

    Args:
        should_stop: nobody wants to wait for the database any longer.
    """

    def __init__(self, store: Store, run_id: int, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.store, self.run_id, self.should_stop = store, run_id, should_stop
        self.waiting: Steps | None = None
        self.held: deque[Points | Artifact] = deque()
        self.recorded = 0
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
        yield from self._sent(wait=len(self.held) > _MOST_HELD)
        return None

    def hold(self, event: Event) -> None:
        """Keep what an event brings until it is written."""
        match event:
            case Steps():
                self._hold()
                self.waiting = event
            case Eval():
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
        while self.held:
            if isinstance(one := self.held[0], Artifact):
                self.store.artifacts.keep(self.run_id, one.name, one.data, step=one.step)
            else:
                self.store.curves.add(self.run_id, one)
                self.recorded = max(self.recorded, *(steps[-1] for steps, _ in one.values()))
            self.held.popleft()

    def left(self) -> str:
        """What is recorded of a run whose database is away, and how to go on."""
        kept = f"its curves are recorded up to step {self.recorded}" if self.recorded else "nothing of its curves is"
        again = f"vr runs resume {self.run_id} goes on with it"
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

    def _hold(self, evaluation: Eval | None = None) -> None:
        """Hold the block that waits, together with an evaluation."""
        points: dict[str, tuple[Sequence[int], Sequence[float]]] = {}
        if self.waiting is not None:
            points = {name: (self.waiting.steps, values) for name, values in self.waiting.values.items()}
        if evaluation is not None:
            points |= {name: ([evaluation.step], [value]) for name, value in evaluation.values.items()}
        self.waiting = None
        if points:
            self.held.append(points)
