"""A comparison from its request to its result: tune under equal budgets, run fresh seeds, test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError, VrError, nearest
from vrcli.execute.job import Job, Lineage
from vrcli.execute.lookup import headline_of, task_of
from vrcli.execute.place import Place
from vrcli.results.types import Run, values_of
from vrcli.stats.budget import ToTarget, steps_to_target
from vrcli.stats.comparison import compare_all
from vrcli.study.asked import at_least
from vrcli.study.confirm import fresh_seeds, run_fresh
from vrcli.study.define import SweepRequest, given_settings
from vrcli.study.events import (
    CompareResult,
    Event,
    Finished,
    Note,
    RunEnded,
    RunsPlanned,
    SweepResult,
    Tuned,
    notes_of,
)
from vrcli.study.sweep import sweep

if TYPE_CHECKING:
    from vrcli.execute.lookup import TaskClass, TaskMetric
    from vrcli.search.record import Store

Settings = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class CompareRequest:
    """What is asked of a comparison.

    Args:
        tuning: the optimizers, what they share, and how they are tuned; its `trials` may be 0, which takes the preset's
            settings.
        seeds: how many fresh ones; they count on from those of the search.
        metric: the result that the verdict is about.
        target: a validation loss to reach.
    """

    tuning: SweepRequest
    seeds: int = 5
    metric: str = "best_val_loss"
    level: float = 0.95
    target: float | None = None
    tag: str | None = None


def compare(
    request: CompareRequest, place: Place, *, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Event]:
    """The whole protocol.

    Raises:
        UsageError: the request is no comparison or cannot be carried out, or no trial of an optimizer completed.
        VrError: a run failed or its process died: a comparison with holes in it is none.
        Interrupted: `should_stop` said so.
    """
    _check(request)
    tuning = request.tuning
    task = task_of(tuning.task)
    metric = metric_of(task, request)
    settings, tuned = given_settings(task, tuning), None
    code = code_of(task, tuning, settings)
    if tuning.trials:
        tuned = yield from _tuned(request, place, settings, should_stop)
    jobs = jobs_of(request, place, settings, code, tuned)
    # Opened before the workers, in whom a database that cannot be used would be a failed run; closed after them, it
    # folds their journal.
    with place.store() as store, closing(place.executor()) as executor:
        yield from notes_of(store)
        yield RunsPlanned(len(jobs))
        runs: dict[int, Any] = {}
        events = run_fresh(
            jobs, executor, earlier=lambda job: place.earlier(store, job), should_stop=should_stop, what="comparison"
        )
        for event in events:
            if isinstance(event, RunEnded):
                runs[event.job] = _completed(event)
            yield event
        groups: dict[str, list[Any]] = {name: [] for name in settings}
        for at, job in enumerate(jobs):
            groups[job.optimizer].append(runs[at])
        reached = {} if request.target is None else _reached(store, groups, task, request.target)
    values = {
        name: {int(run.seed or 0): value for run, value in zip(found, values_of(found, request.metric), strict=True)}
        for name, found in groups.items()
    }
    words = request.metric.replace("_", " ")
    found = compare_all(values, metric=words, direction=metric.direction, level=request.level, bootstrap=True)
    yield Finished(
        CompareResult(
            tuning.task, tuning.preset, request.metric, request.level, tuning.trials, request.seeds,
            tuning.search_seed, tuned, groups, values, found, headline_of(task), request.target, reached,
        )
    )  # fmt: skip


def _check(request: CompareRequest) -> None:
    """Refuse what is no comparison.

    Raises:
        UsageError: names the option.
    """
    tuning = request.tuning
    at_least(("--trials", tuning.trials, 0), ("--seeds", request.seeds, 2))
    if not 0.5 <= request.level < 1:
        raise UsageError(f"--level must be in [0.5, 1), got {request.level:g}")
    if len(tuning.optimizers) < 2:
        raise UsageError("--opt must be given at least twice: vr compare cnn --opt vradam --opt adamw")
    if tuning.trials == 0:
        usual = SweepRequest(tuning.task, tuning.optimizers)
        for flag, name in (
            ("--space", "spaces"), ("--search", "search"), ("--initial", "initial"), ("--search-seed", "search_seed")
        ):  # fmt: skip
            if getattr(tuning, name) != getattr(usual, name):
                raise UsageError(f"{flag} is for a search, and --trials 0 makes none; give --trials 20, say")


def metric_of(task: TaskClass, request: CompareRequest) -> TaskMetric:
    """The metric behind a result's name.

    Raises:
        UsageError: no run of the task has that result.
    """
    found = {f"best_val_{task.metrics[0].name}": task.metrics[0]}
    for metric in task.metrics:
        found[f"test_{metric.name}"] = found[f"val_{metric.name}"] = metric
    if request.metric not in found:
        name = request.tuning.task
        hint = nearest(request.metric, found) or f"; {name} has {', '.join(found)}"
        raise UsageError(f"--metric {request.metric} is no result of {name}{hint}")
    return found[request.metric]


def code_of(task: TaskClass, tuning: SweepRequest, settings: Settings) -> dict[str, dict[str, str]]:
    """The identity of the code of each optimizer's runs; its settings are checked before anything is recorded.

    Raises:
        UsageError: a setting is not accepted.
    """
    from vrcli.settings import resolve

    return {
        name: resolve(task, name, preset=tuning.preset, flags=flags).tried().request.code
        for name, flags in settings.items()
    }  # fmt: skip


def _tuned(
    request: CompareRequest, place: Place, settings: Settings, should_stop: Callable[[], bool]
) -> Generator[Event, None, SweepResult]:
    """Search each optimizer's settings, and put the best into `settings`."""
    found = SweepResult(())
    for event in sweep(replace(request.tuning, confirm_seeds=0), place, should_stop=should_stop):
        if isinstance(event, Finished):
            assert isinstance(event.result, SweepResult)
            found = event.result
        else:
            yield event
    yield Tuned(found)
    for one in found.searches:
        if one.best is None:
            name = one.definition.optimizer
            raise UsageError(f"no trial of {name} completed: there are no settings to compare it with")
        settings[one.definition.optimizer] |= one.best.params
    if len({len(one.trials) for one in found.searches}) > 1:
        yield Note("unequal budgets", {"result": found})
    return found


def jobs_of(
    request: CompareRequest,
    place: Place,
    settings: Settings,
    code: Mapping[str, Mapping[str, str]],
    tuned: SweepResult | None,
) -> list[Job]:
    """One job per seed and optimizer, seed by seed, so that a stop leaves whole pairs."""
    tuning = request.tuning
    facts = [tuning.task, tuning.preset, settings, code]
    definition = json.dumps(facts, sort_keys=True, default=str)
    group = f"compare-{hashlib.blake2b(definition.encode(), digest_size=3).hexdigest()}"
    searches = {one.definition.optimizer: one.search_id for one in tuned.searches} if tuned else {}
    return [
        Job(tuning.task, optimizer, tuning.preset, flags, seed, tuning.device, place.threads_each, code[optimizer],
            Lineage(request.tag, group, searches.get(optimizer)), reuse="spec")
        for seed in fresh_seeds(tuning.seeds, request.seeds) for optimizer, flags in settings.items()
    ]  # fmt: skip


def _completed(event: RunEnded) -> Run:
    """The run of an event.

    Raises:
        UsageError: it cannot be carried out as it was asked for.
        VrError: it failed, or its process died.
    """
    if event.problem == "refused":
        raise UsageError(event.reason)
    reason = event.reason
    if event.run is not None:
        if event.run.status != "failed":
            run: Run = event.run
            return run
        reason = f"RunFailed: run {event.run.id} failed: {event.run.error}"
    raise VrError(f"{event.optimizer}, seed {event.seed}: {reason}")


def _reached(
    store: Store, groups: Mapping[str, Sequence[Any]], task: TaskClass, target: float
) -> dict[str, dict[str, ToTarget]]:
    """Steps, epochs and seconds to the target; a run that never gets there is censored, not averaged."""
    name = f"val_{task.metrics[0].name}"
    found: dict[str, dict[str, ToTarget]] = {}
    for optimizer, runs in groups.items():
        curves = store.curves.read([run.id for run in runs], [name, "wall_s", "epoch"])
        diverged = [run.status == "diverged" for run in runs]
        for x, unit in ((None, "steps"), ("epoch", "epochs"), ("wall_s", "s")):
            pairs: list[tuple[Sequence[float], Sequence[float]]] = []
            for run in runs:
                loss = curves.get((run.id, name))
                if loss is None:  # it diverged before its first evaluation
                    pairs.append(((), ()))
                else:
                    pairs.append((loss.steps if x is None else curves[run.id, x].values, loss.values))
            found.setdefault(optimizer, {})[unit] = steps_to_target(pairs, target, diverged=diverged)
    return found
