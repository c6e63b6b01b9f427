"""Runs of one configuration in this process, one seed after the other."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from vrcli.execute.job import Lineage
from vrcli.execute.lookup import headline_of, task_of
from vrcli.execute.place import Place
from vrcli.execute.run import Began, Done, check, training
from vrcli.settings import Resolved, resolve
from vrcli.study.events import Event, Finished, Note, RunBegan, RunEnded, RunsPlanned, notes_of
from vrcli.study.results import TrainResult


@dataclass(frozen=True)
class TrainRequest:
    """What is asked of runs.

    Args:
        config: settings of the configuration file, by name.
        flags: settings that were given beside it, by name.
        seeds: one run each.
        device: where they run; never "auto".
    """

    task: str
    optimizer: str
    preset: str = "quick"
    config: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    device: str = "cpu"
    tag: str | None = None


def train(request: TrainRequest, place: Place, *, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """One stored run per seed, in order; those after an interrupted one are left out.

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
        check(resolved[0].request, task, data_dir=place.data_dir, cache=place.cache)  # a refusal leaves no database
    with place.store() as store:
        yield from notes_of(store)
        yield RunsPlanned(len(resolved))
        for at, one in enumerate(resolved):
            said: list[str] = []
            events = training(
                one.request, task, store, lineage=Lineage(request.tag, group), data_dir=place.data_dir,
                cache=place.cache, malloc_tuned=tuned, notice=said.append, should_stop=should_stop,
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
                case Done():
                    run = event.record
                    yield RunEnded(at, resolved.request.optimizer, resolved.request.seed, run)
                case _:
                    yield event
    return run
