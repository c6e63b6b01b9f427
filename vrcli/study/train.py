"""Runs of one configuration in this process, one seed after the other."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

from vrcli.engine.events import Probed
from vrcli.errors import UsageError
from vrcli.execute.checkpoints import Unsaved
from vrcli.execute.job import Lineage
from vrcli.execute.lookup import headline_of, task_of
from vrcli.execute.outage import Away
from vrcli.execute.place import Place
from vrcli.execute.run import Began, Done, check, training
from vrcli.settings import Resolved, resolve
from vrcli.study.events import Event, Finished, Note, RunBegan, RunEnded, RunsPlanned, notes_of
from vrcli.study.results import TrainResult
from vrcli.study.unfinished import Unfinished, unfinished


@dataclass(frozen=True)
class TrainRequest:
    """What is asked of runs.

    Args:
        config: settings of the configuration file, by name.
        flags: settings that were given beside it, by name.
        seeds: one run each.
        device: where they run; never "auto".
        new: begin new runs also where some were interrupted.
        keep_weights: which weights to keep as files of the runs.

    Raises:
        UsageError: no such weights.
    """

    task: str
    optimizer: str
    preset: str = "quick"
    config: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    device: str = "cpu"
    tag: str | None = None
    new: bool = False
    keep_weights: Literal["best", "last", "both", "update"] | None = None

    def __post_init__(self) -> None:
        if self.keep_weights not in (None, "best", "last", "both", "update"):
            raise UsageError(f"--keep-weights takes best, last, both or update, got {self.keep_weights}")


def train(request: TrainRequest, place: Place, *, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """One stored run per seed, in order; those after an interrupted one are left out.

    A run that was interrupted earlier goes on, and the command that it belonged to with it: what of that has ended is
    not repeated.

    Beside the events of studies come those of the engine, between `RunBegan` and `RunEnded`.

    Raises:
        UsageError, TaskError: the request cannot be carried out; nothing was recorded.
        RunFailed: training raised an error.
    """
    tuned = place.keep_memory()
    task = task_of(request.task)
    resolved = [
        resolve(task, request.optimizer, preset=request.preset, config=request.config, flags=request.flags, seed=seed,
                device=request.device, threads=place.threads_each)
        for seed in request.seeds
    ]  # fmt: skip
    several = len(resolved) > 1
    group = f"{request.task}-{request.optimizer}-{secrets.token_hex(3)}" if several else None
    runs = []
    if place.database.path is not None and not place.database.path.exists():
        place.database.check_file("create")
        first = resolved[0].request  # a refusal leaves no database
        check(first, task, data_dir=place.data_dir, cache=place.cache, probing=place.probing, keep=request.keep_weights)
    with place.store() as store:
        yield from notes_of(store)
        yield RunsPlanned(len(resolved))
        left = Unfinished() if request.new or not several else unfinished(store, resolved, request.tag, task, place)
        if left.ended:
            listed = ", ".join(str(run.id) for _, run in sorted(left.ended.items()))
            yield Note("data", {"text": f"this command was interrupted: {listed} ended before and are kept"})
        for at, one in enumerate(resolved):
            if (ended := left.ended.get(one.request.seed)) is not None:
                yield RunEnded(at, one.request.optimizer, one.request.seed, ended, reused=True)
                runs.append(ended)
                continue
            said: list[str] = []
            events = training(
                one.request, task, store, lineage=Lineage(request.tag, left.group or group), data_dir=place.data_dir,
                cache=place.cache, malloc_tuned=tuned, notice=said.append, should_stop=should_stop,
                checkpoints=place.checkpoints, resume=None if request.new else "same",
                keep=request.keep_weights, probing=place.probing,
            )  # fmt: skip
            run = yield from _told(events, at, one, said)
            runs.append(run)
            if run.status == "interrupted":
                break
    yield Finished(TrainResult(request.seeds, runs, headline_of(task)))


def _told(
    events: Generator[Any, None, None], at: int, resolved: Resolved, said: Sequence[str]
) -> Generator[Any, None, Any]:
    """A run's events as those of a study; its closed row."""
    run = None
    with closing(events):
        for event in events:
            match event:
                case Began(record, prepared):
                    for text in said:
                        yield Note("data", {"text": text})
                    yield RunBegan(record, prepared, resolved.origins)
                case Away() | Unsaved():
                    yield Note("database", {"text": str(event)})
                case Probed(notes=notes):
                    for text in notes:
                        yield Note("data", {"text": text})
                    yield event
                case Done():
                    run = event.record
                    yield RunEnded(at, resolved.request.optimizer, resolved.request.seed, run)
                case _:
                    yield event
    return run
