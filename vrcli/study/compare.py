"""A comparison from its request to its result: tune under equal budgets, run fresh seeds, test."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from vrcli.errors import UsageError, VrError, nearest
from vrcli.execute.job import Job, Lineage
from vrcli.execute.lookup import headline_of, task_of
from vrcli.execute.place import Place
from vrcli.results.types import Run, values_of
from vrcli.stats.budget import ToTarget, steps_to_target
from vrcli.stats.comparison import compare_all
from vrcli.stats.replicates import Verdict, compare_replicates
from vrcli.stats.sequential import Boundary, Looks, planned
from vrcli.study.asked import at_least
from vrcli.study.confirm import fresh_seeds, run_fresh
from vrcli.study.define import SweepRequest, given_settings
from vrcli.study.events import (
    Arm,
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
from vrcli.study.replicates import RERANK_SEEDS, candidates, replicates, rerank_jobs, reranked
from vrcli.study.sweep import sweep
from vrcli.variants import base_of

if TYPE_CHECKING:
    from vrcli.execute.executor import Executor
    from vrcli.execute.lookup import TaskClass, TaskMetric
    from vrcli.search.record import Store

Settings = dict[str, dict[str, Any]]
#: Runs by optimizer and replicate.
Blocks: TypeAlias = dict[str, list[list[Any]]]


@dataclass(frozen=True)
class CompareRequest:
    """What is asked of a comparison.

    Args:
        tuning: the optimizers, what they share, and how they are tuned. Its `trials` may be 0, which takes the preset's
            settings; its `searches` are the replicates.
        seeds: how many fresh ones, for each search where there is one; they count on from those of the search.
        metric: the result that the verdict is about; "" for the test value of the objective.
        against: the optimizer that all others are compared with; None for all pairs.
        primary: the two optimizers whose comparison counts, declared before anything runs.
        margin: within which two optimizers count as equal.
        relative: the margin is a share of the mean.
        looks: how often the result is looked at while searches are added; it stops early where all is decided.
        boundary: of these looks, "pocock" or "obrien-fleming".
        target: a validation loss to reach.
    """

    tuning: SweepRequest
    seeds: int = 5
    metric: str = ""
    level: float = 0.95
    against: str | None = None
    primary: tuple[str, str] | None = None
    margin: float | None = None
    relative: bool = False
    looks: int = 1
    boundary: Boundary = "obrien-fleming"
    target: float | None = None
    tag: str | None = None


def pair_of(given: str | Sequence[str] | None) -> tuple[str, str] | None:
    """The two optimizers of "a,b".

    Raises:
        UsageError: they are not two.
    """
    if given is None:
        return None
    names = [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)
    if len(names) != 2 or not all(names):
        raise UsageError(f"--primary takes two optimizers, as in --primary vradam,adamw; got {','.join(names)}")
    return names[0], names[1]


def margin_of(given: float | str | None) -> tuple[float | None, bool]:
    """A margin, and whether it is a share of the mean: 0.005, or "2%".

    Raises:
        UsageError: it is no number.
    """
    if given is None:
        return None, False
    text = str(given).strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        raise UsageError(f"--margin must be a number or a percentage, as in 0.005 or 2%; got {given}") from None
    return (value / 100, True) if text.endswith("%") else (value, False)


def compare(
    request: CompareRequest, place: Place, *, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Event]:
    """The whole protocol.

    Raises:
        UsageError: the request is no comparison or cannot be carried out, or no trial of a search completed.
        VrError: a run failed or its process died: a comparison with holes in it is none.
        Interrupted: `should_stop` said so.
    """
    _check(request)
    task = task_of(request.tuning.task)
    request = replace(request, metric=request.metric or f"test_{task.metrics[0].name}")
    metric = metric_of(task, request)
    given = given_settings(task, request.tuning)
    _check_names(request, list(given))
    code = code_of(task, request.tuning, given)
    tuned: SweepResult | None = None
    looks = planned(request.tuning.searches, request.looks, request.boundary) if request.looks > 1 else None
    for searches in looks.sizes if looks else (request.tuning.searches,):
        part = replace(request, tuning=replace(request.tuning, searches=searches))
        if request.tuning.trials:
            tuned = yield from _tuned(part, place, should_stop)
        # Opened before the workers, in whom a database that cannot be used would be a failed run; closed after them,
        # it folds their journal.
        with place.store() as store, closing(place.executor()) as executor:
            yield from notes_of(store)
            run = _Running(place, store, executor, should_stop)
            arms = (yield from _reranked(part, tuned, given, run)) if tuned else _as_given(part, given)
            blocks = yield from _fresh(part, arms, code, run)
            reached = {} if request.target is None else _reached(store, blocks, task, request.target)
        found = _counted(request, metric, arms, blocks, looks)
        if found.replicated is None or all(pair.verdict != Verdict.UNDECIDED for pair in found.replicated.pairs):
            break
    yield Finished(replace(found, tuned=tuned, metrics=headline_of(task), reached=reached))


# -- runs -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Running:
    """Where the runs of one comparison run."""

    place: Place
    store: Store
    executor: Executor
    should_stop: Callable[[], bool]

    def run(self, jobs: Sequence[Job], what: Literal["rerank", "fresh"]) -> Generator[Event, None, list[Any]]:
        """Every job's run, in the order of the jobs.

        Raises:
            UsageError: one cannot be carried out as it was asked for.
            VrError: one failed, or its process died.
        """
        found: dict[int, Any] = {}
        yield RunsPlanned(len(jobs), what)
        earlier = partial(self.place.earlier, self.store)
        for event in run_fresh(jobs, self.executor, earlier=earlier, should_stop=self.should_stop, what="comparison"):
            if isinstance(event, RunEnded):
                found[event.job] = _completed(event)
            yield event
        return [found[at] for at in range(len(jobs))]


def _tuned(
    request: CompareRequest, place: Place, should_stop: Callable[[], bool]
) -> Generator[Event, None, SweepResult]:
    """Every search of every optimizer.

    Raises:
        UsageError: no trial of an optimizer completed, or all of one search failed.
    """
    found = SweepResult(())
    for event in sweep(replace(request.tuning, confirm_seeds=0), place, should_stop=should_stop):
        if isinstance(event, Finished):
            assert isinstance(event.result, SweepResult)
            found = event.result
        else:
            yield event
    yield Tuned(found)
    for one in found.searches:
        name = one.definition.optimizer
        same = [other for other in found.searches if other.definition.optimizer == name]
        if not candidates(one) or all(other.best is None for other in same):
            raise UsageError(f"no trial of {name} completed: there are no settings to compare it with")
    if len({len(one.trials) for one in found.searches}) > 1:
        yield Note("unequal budgets", {"result": found})
    return found


def _reranked(
    request: CompareRequest, tuned: SweepResult, given: Settings, running: _Running
) -> Generator[Event, None, list[Arm]]:
    """Train the best trials of every search again, and take the one that does best."""
    threads = running.place.threads_each
    plan = replicates(request.tuning, request.seeds)
    owners = [one for one in plan for _ in given]
    jobs = [
        rerank_jobs(running.store, found, owner.rerank, threads)
        for found, owner in zip(tuned.searches, owners, strict=True)
    ]
    flat = [job for own in jobs for job in own]
    runs = iter((yield from running.run(flat, "rerank")) if flat else ())
    arms = []
    for found, owner, own in zip(tuned.searches, owners, jobs, strict=True):
        order = reranked(found, list(islice(runs, len(own))), RERANK_SEEDS)
        name = found.definition.optimizer
        flags = {"split_seed": owner.tuning.flags["split_seed"]} if request.tuning.vary_split else {}
        settings = {**given[name], **flags, **order[0].trial.params}
        arms.append(Arm(name, owner.number, settings, owner.fresh, found, tuple(order)))
    return arms


def _as_given(request: CompareRequest, given: Settings) -> list[Arm]:
    """The preset's settings, which no search chose."""
    seeds = tuple(fresh_seeds(request.tuning.seeds, request.seeds))
    return [Arm(name, 0, flags, seeds) for name, flags in given.items()]


def _fresh(
    request: CompareRequest, arms: Sequence[Arm], code: Mapping[str, Mapping[str, str]], running: _Running
) -> Generator[Event, None, Blocks]:
    """The runs of every arm on its fresh seeds, by optimizer and replicate."""
    # Seed by seed in each replicate, so that a stop leaves whole pairs.
    places = sorted(
        ((at, arm.replicate, seed) for at, arm in enumerate(arms) for seed in arm.seeds),
        key=lambda place: place[1:],
    )
    tuning, group = request.tuning, _group(request, arms, code)
    jobs = [
        Job(tuning.task, arm.optimizer, tuning.preset, arm.settings, seed, tuning.device, running.place.threads_each,
            code[arm.optimizer],
            Lineage(request.tag, group, arm.search.search_id if arm.search else None), reuse="spec")
        for at, _, seed in places for arm in [arms[at]]
    ]  # fmt: skip
    found = yield from running.run(jobs, "fresh")
    runs: dict[int, list[Any]] = {}
    for (at, _, _), run in zip(places, found, strict=True):
        runs.setdefault(at, []).append(run)
    blocks: dict[str, list[list[Any]]] = {}
    for at, arm in enumerate(arms):
        blocks.setdefault(arm.optimizer, []).append(runs[at])
    return blocks


def _group(request: CompareRequest, arms: Sequence[Arm], code: Mapping[str, Mapping[str, str]]) -> str:
    """What the fresh runs of one comparison share."""
    settings = {arm.optimizer: arm.settings for arm in reversed(arms)}  # of the first replicate
    facts = [request.tuning.task, request.tuning.preset, settings, code]
    definition = json.dumps(facts, sort_keys=True, default=str)
    return f"compare-{hashlib.blake2b(definition.encode(), digest_size=3).hexdigest()}"


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


# -- what they came to ------------------------------------------------------------------------------------------------


def _counted(
    request: CompareRequest, metric: TaskMetric, arms: Sequence[Arm], blocks: Blocks, looks: Looks | None
) -> CompareResult:
    """The values of the metric and what can be claimed of them."""
    values = {name: np.array([values_of(runs, request.metric) for runs in own]) for name, own in blocks.items()}
    replicated, pairs = None, []
    if request.tuning.trials and len(arms) > len(blocks):
        replicated = compare_replicates(
            values, metric=request.metric, direction=metric.direction, level=request.level, against=request.against,
            primary=request.primary, margin=request.margin, relative=request.relative, looks=looks, unpaired_ranks=True,
        )  # fmt: skip
    else:
        by_seed = {
            name: {int(run.seed or 0): value for run, value in zip(own[0], values[name][0].tolist(), strict=True)}
            for name, own in blocks.items()
        }
        words = request.metric.replace("_", " ")
        pairs = compare_all(by_seed, metric=words, direction=metric.direction, level=request.level, bootstrap=True)
    return CompareResult(
        request.tuning.task, request.tuning.preset, request.metric, metric.direction, request.level,
        request.tuning.trials, request.seeds, request.tuning.search_seed, arms, blocks,
        {name: own.tolist() for name, own in values.items()}, replicated, pairs, target=request.target,
    )  # fmt: skip


def _check_names(request: CompareRequest, names: Sequence[str]) -> None:
    """Refuse a pair that is none.

    Raises:
        UsageError: an optimizer that does not take part.
    """
    for flag, given in (("--against", [request.against]), ("--primary", request.primary or ())):
        for name in given:
            if name is not None and name not in names:
                raise UsageError(f"{flag} {name}: it is none of the optimizers compared, {', '.join(names)}")
    if request.primary and request.primary[0] == request.primary[1]:
        raise UsageError(f"--primary {','.join(request.primary)}: give two different optimizers")


def _check(request: CompareRequest) -> None:
    """Refuse what is no comparison.

    Raises:
        UsageError: names the option.
    """
    tuning = request.tuning
    at_least(
        ("--trials", tuning.trials, 0), ("--searches", tuning.searches, 1), ("--seeds", request.seeds, 1),
        ("--looks", request.looks, 1),
    )  # fmt: skip
    if not 0.5 <= request.level < 1:
        raise UsageError(f"--level must be in [0.5, 1), got {request.level:g}")
    for flag, value in (("--target", request.target), ("--margin", request.margin)):
        if value is not None and not math.isfinite(value):
            raise UsageError(f"{flag} must be a finite number, got {value:g}")
    if request.margin is not None and request.margin <= 0:
        raise UsageError(f"--margin must be > 0, got {request.margin:g}")
    if len(tuning.optimizers) < 2:
        raise UsageError("--opt must be given at least twice: vr compare cnn --opt vradam --opt adamw")
    if tuning.trials == 0:
        _check_untuned(request)
        return
    replicates(tuning, request.seeds)
    if request.looks > 1 and tuning.searches < request.looks + 1:
        raise UsageError(f"--looks {request.looks} needs --searches {request.looks + 1} or more, got {tuning.searches}")


def _check_untuned(request: CompareRequest) -> None:
    """Refuse what is for searches, where nothing is searched."""
    at_least(("--seeds", request.seeds, 2))
    tuning, usual = request.tuning, SweepRequest(request.tuning.task, request.tuning.optimizers)
    for flag, name in (
        ("--space", "spaces"), ("--search", "search"), ("--initial", "initial"), ("--search-seed", "search_seed"),
        ("--searches", "searches"), ("--vary-split", "vary_split"),
    ):  # fmt: skip
        if getattr(tuning, name) != getattr(usual, name):
            raise UsageError(f"{flag} is for a search, and --trials 0 makes none; give --trials 20, say")
    for flag, given in (
        ("--looks", request.looks > 1), ("--margin", request.margin is not None), ("--against", request.against),
        ("--primary", request.primary),
    ):  # fmt: skip
        if given:
            raise UsageError(f"{flag} is for several searches, and --trials 0 makes none; give --trials 8, say")


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
        name: resolve(task, base_of(name), preset=tuning.preset, flags=flags).tried().request.code
        for name, flags in settings.items()
    }  # fmt: skip


def _reached(store: Store, blocks: Blocks, task: TaskClass, target: float) -> dict[str, dict[str, ToTarget]]:
    """Steps, epochs and seconds to the target; a run that never gets there is censored, not averaged."""
    name = f"val_{task.metrics[0].name}"
    found: dict[str, dict[str, ToTarget]] = {}
    for optimizer, own in blocks.items():
        runs = [run for replicate in own for run in replicate]
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
