"""What a comparison costs whose runs are all stored: finding them again, the statistics, and the text.

The database is generated: the searches and runs of a comparison by the protocol itself, with made-up results.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vrcli.bench.store import Found
from vrcli.db.location import Location
from vrcli.db.store import Store
from vrcli.errors import VrError
from vrcli.execute.executor import Message
from vrcli.execute.job import Job, Rehearsal, RunOutcome
from vrcli.execute.known_data import KnownData, known_data, prepare_known
from vrcli.execute.place import Place
from vrcli.report.study.blocks import lines
from vrcli.report.study.compare import compare_blocks
from vrcli.study.compare import compare
from vrcli.study.comparison import CompareRequest
from vrcli.study.define import SweepRequest
from vrcli.study.events import Finished, RunEnded, Tuned
from vrcli.study.results import CompareResult
from vrcli.tasks.registry import load

TASK = "cnn"
OPTIMIZERS = ("vradam", "adamw", "sgd", "rmsprop")
SEARCHES, SEEDS, TRIALS = 5, 3, 8


def bench_stats(folder: Path, *, rounds: int, device: str = "cpu") -> list[Found]:
    """Time `compare` of stored results, in this process, so without imports.

    Args:
        folder: takes the database.

    Raises:
        VrError: a run that should be stored was not found.
    """
    database = Location(str(folder / "bench.db"))
    tuning = SweepRequest(
        TASK, OPTIMIZERS, "smoke", trials=TRIALS, searches=SEARCHES, initial=TRIALS, device=device
    )  # fmt: skip
    request = CompareRequest(tuning, SEEDS)
    filling = Filling(database)
    for _ in compare(request, filling):
        pass
    timed = [_once(request, Place(database)) for _ in range(rounds + 1)][1:]  # the first one imports
    size = f"{len(OPTIMIZERS)} optimizers x {SEARCHES} searches x {SEEDS} seeds"
    parts = ("searches found again", "runs found again, and compared", "text", f"vr compare of {size}, all stored",
             "processor time of that")  # fmt: skip
    return [
        Found(what, statistics.median(own), "s", rounds, max(own))
        for what, own in zip(parts, zip(*timed, strict=True), strict=True)
    ]


def _once(request: CompareRequest, place: Place) -> tuple[float, ...]:
    """Seconds until the searches are there, from there until the result is, of the text, and of all; then the
    processor's of all."""
    busy = time.process_time()
    begun = tuned = time.perf_counter()
    result: Any = None
    for event in compare(request, place):
        if isinstance(event, RunEnded) and not event.reused:
            raise VrError(f"{event.optimizer}, seed {event.seed}: the run should have been stored")
        if isinstance(event, Tuned):
            tuned = time.perf_counter()
        if isinstance(event, Finished):
            result = event.result
    done = time.perf_counter()
    assert isinstance(result, CompareResult)
    lines(compare_blocks(result))
    end = time.perf_counter()
    return tuned - begun, done - tuned, end - done, end - begun, time.process_time() - busy


@dataclass(frozen=True)
class Filling(Place):
    """A place whose runs train nothing."""

    def executor(self) -> Any:
        return _MadeUp(Store.open(self.database, mode="create"))


class _MadeUp:
    """An executor that stores a job's run with a made-up result by the time it is submitted."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.messages: list[Message] = []

    def free(self) -> int:
        return 1

    def submit(self, key: Any, job: Job) -> None:
        self.messages.append(Message(key, "done", self._rehearsed(job) if job.rehearse else self._run(job)))

    def receive(self, timeout_s: float) -> Sequence[Message]:
        found, self.messages = self.messages, []
        return found

    def close(self, *, patience_s: float = 0.0) -> Sequence[Message]:
        self.store.close()
        return []

    def _rehearsed(self, job: Job) -> Rehearsal:
        data = _data(job)
        return Rehearsal(data.dataset, data.fingerprint, data.about, 0.0)

    def _run(self, job: Job) -> RunOutcome:
        task, data = load(job.task), _data(job)
        request = job.request.with_training(batch_size=min(job.request.training.batch_size, data.samples))
        spec = request.on(data.dataset, data.fingerprint)
        run = self.store.runs.begin(
            spec.model_dump(mode="json"), spec_id=spec.spec_id, provenance={}, metrics=task.metrics,
            **job.named_lineage.plain(),
        )  # fmt: skip
        rng = random.Random(spec.spec_id)
        loss = 0.3 + 0.02 * math.log(float(request.optimizer_settings["lr"])) ** 2 + rng.gauss(0, 0.01)
        results = {"best_val_loss": loss, "val_loss": loss, "test_loss": loss + rng.gauss(0, 0.01)}
        results |= {"test_accuracy": 0.9, "wall_s": 1.0, "step_ms": 2.0, "peak_memory_bytes": 1e8}
        return RunOutcome(self.store.runs.finish(run.id, "completed", results=results), (loss,))


def _data(job: Job) -> KnownData:
    """The data of a job; they are loaded once, so that all later calls know them."""
    task = load(job.task)
    if known_data(job.request, task) is None:
        prepare_known(job.request, task)
    found = known_data(job.request, task)
    assert found is not None
    return found
