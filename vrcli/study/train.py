"""Runs of one configuration in this process, one seed after the other."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vrcli.engine.events import Probed
from vrcli.errors import UsageError
from vrcli.execute.checkpoints import Unsaved
from vrcli.execute.job import Lineage
from vrcli.execute.lookup import headline_of, task_of
from vrcli.execute.outage import Away
from vrcli.execute.place import Place
from vrcli.execute.replay import check_same, differing, replayed, source_of
from vrcli.execute.run import Began, Done, check, training
from vrcli.settings import FROM_FILE, Resolved, resolve
from vrcli.spec import REPLACED
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
        lr_from: the run whose learning rates take the place of lr and schedule, by number or name.

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
    lr_from: int | str | None = None

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
    beside: list[str] = []
    if place.database.path is not None and not place.database.path.exists():
        if request.lr_from is not None:
            raise UsageError(f"{request.lr_from}: there is no {place.database} here, so no run", "--lr-from")
        place.database.check_file("create")
        first = resolved[0].request  # a refusal leaves no database
        check(first, task, data_dir=place.data_dir, cache=place.cache, probing=place.probing, keep=request.keep_weights)
    with place.store() as store:
        yield from notes_of(store)
        if request.lr_from is not None:
            resolved, beside = _replaying(store, request.lr_from, resolved, task, place)
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
            said = list(beside)
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


def _replaying(
    store: Any, ref: int | str, resolved: Sequence[Resolved], task: Any, place: Place
) -> tuple[list[Resolved], list[str]]:
    """The same, with the learning rates of a stored run in the place of their own; in what else it differs, as a line.

    Raises:
        UsageError: that run has none to replay, or other settings, or something was said of rates beside it.
    """
    given = [name for name in ("lr", "opt_lr", *REPLACED) if resolved[0].origins.get(name) in ("flag", FROM_FILE)]
    if given:
        flag = "--" + given[0].replace("_", "-")
        raise UsageError(f"{ref} and {flag} both say what the learning rate is; leave one of them out", "--lr-from")
    source, rates = source_of(store, ref, task)
    for one in resolved:
        check_same(check(one.request, task, data_dir=place.data_dir, cache=place.cache), source)
    found = [replace(one, request=replayed(one.request, source, rates)) for one in resolved]
    names = ", ".join(differing(found[0].request, source))
    return found, [f"beside its learning rate run {ref} had another {names}"] if names else []


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
