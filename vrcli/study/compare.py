"""A comparison from its request to its result: tune under equal budgets, run fresh seeds, test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from vrcli.errors import UsageError, VrError
from vrcli.execute.job import Job, Lineage, RunOutcome
from vrcli.execute.lookup import headline_of
from vrcli.execute.place import Place
from vrcli.results.filter import Filter
from vrcli.results.groups import FINISHED
from vrcli.results.lines import Reader
from vrcli.results.types import Run, values_of
from vrcli.stats.budget import AfterTrials, ToTarget, steps_to_target
from vrcli.stats.comparison import compare_all
from vrcli.stats.replicates import Verdict, compare_replicates
from vrcli.stats.sequential import Looks, planned
from vrcli.study.by_budget import by_budget, incumbents, jobs_of
from vrcli.study.comparison import Checked, CompareRequest, Settings, checked
from vrcli.study.confirm import fresh_seeds, run_fresh
from vrcli.study.define import SweepRequest, define
from vrcli.study.events import Event, Finished, Note, RunEnded, RunsPlanned, Tuned, notes_of
from vrcli.study.jobs import jobs_on
from vrcli.study.replicates import RERANK_SEEDS, candidates, replicates, rerank_jobs, reranked
from vrcli.study.results import Arm, CompareResult, SweepResult
from vrcli.study.sweep import sweep

if TYPE_CHECKING:
    from vrcli.execute.executor import Executor
    from vrcli.execute.lookup import TaskClass, TaskMetric
    from vrcli.search.record import Store

#: Runs by optimizer and replicate.
Blocks: TypeAlias = dict[str, list[list[Any]]]
Earlier: TypeAlias = Callable[[Job], RunOutcome | None]


def compare(
    request: CompareRequest, place: Place, *, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Event]:
    """The whole protocol. An optimizer that fails is left out, with the reason: one with holes in its runs has no mean.

    Raises:
        UsageError: the request is not a comparison or cannot be carried out.
        VrError: all optimizers failed, or code was edited meanwhile.
        Interrupted: `should_stop` said so.
    """
    ready = checked(request)
    request, given = ready.request, ready.given
    tuned: SweepResult | None = None
    failed: dict[str, str] = {}
    looks = planned(request.tuning.searches, request.looks, request.boundary) if request.looks > 1 else None
    for searches in looks.sizes if looks else (request.tuning.searches,):
        part = replace(request, tuning=replace(request.tuning, searches=searches))
        if request.tuning.trials:
            tuned = yield from _tuned(part, place, should_stop, failed)
        # Opened before the workers, in whom a database that cannot be used would be a failed run; closed after them,
        # it folds their journal.
        with place.store() as store, closing(place.executor()) as executor:
            yield from notes_of(store)
            run = _Running(place, store, executor, should_stop, failed, request.metric)
            arms = (yield from _reranked(part, tuned, given, run)) if tuned else _as_given(part, given)
            blocks = yield from _fresh(part, arms, ready.code, run)
            earlier = (yield from _earlier(part, ready, arms, blocks, run)) if tuned and request.by_budget else {}
            arms, blocks = run.left(arms), {name: own for name, own in blocks.items() if name not in failed}
            reached = {} if request.target is None else _reached(store, blocks, ready.task, request.target)
        found = counted(request, ready.metric, arms, blocks, looks)
        if found.replicated is None or all(pair.verdict != Verdict.UNDECIDED for pair in found.replicated.pairs):
            break
    yield Finished(
        replace(
            found,
            tuned=tuned,
            metrics=headline_of(ready.task),
            reached=reached,
            equal=request.tuning.equal,
            by_budget=earlier,
            failed=failed,
            searchable=bool(tuned) or _searchable(ready.task, request.tuning),
        )
    )


def _searchable(task: TaskClass, tuning: SweepRequest) -> bool:
    """Whether `--trials` would find something to search, with the other words as they are."""
    try:
        define(task, tuning)
    except UsageError:
        return False
    return True


# -- runs -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Running:
    """Where the runs of one comparison run.

    Args:
        failed: the optimizers that failed, with the reason; none of their runs begins.
        metric: the result that is compared.
    """

    place: Place
    store: Store
    executor: Executor
    should_stop: Callable[[], bool]
    failed: dict[str, str]
    metric: str

    def run(
        self, jobs: Sequence[Job], what: Literal["rerank", "fresh", "budget"], earlier: Earlier | None = None
    ) -> Generator[Event, None, list[Any]]:
        """Every job's run, in the order of the jobs; of an optimizer that failed None may stand there.

        Args:
            earlier: the stored run that does instead of a job; by default it is looked up job by job.

        Raises:
            UsageError: one cannot be carried out as it was asked for.
            VrError: code was edited meanwhile.
        """
        found: dict[int, Any] = {}
        yield RunsPlanned(len(jobs), what, self.metric)
        earlier = earlier or partial(self.place.earlier, self.store)
        events = run_fresh(
            jobs, self.executor, earlier=earlier, should_stop=self.should_stop, what="comparison",
            skip=lambda job: job.optimizer in self.failed,
        )  # fmt: skip
        for event in events:
            if isinstance(event, RunEnded):
                found[event.job] = self._completed(event)
            yield event
        return [found.get(at) for at in range(len(jobs))]

    def left(self, arms: Sequence[Arm]) -> list[Arm]:
        """The arms of the optimizers that did not fail."""
        return [arm for arm in arms if arm.optimizer not in self.failed]

    def _completed(self, event: RunEnded) -> Run | None:
        """The run of an event; None where it failed, and its optimizer with it.

        Raises:
            UsageError: it cannot be carried out as it was asked for.
            VrError: code was edited meanwhile.
        """
        if event.problem == "refused":
            raise UsageError(event.reason)
        if event.problem == "edited":
            raise VrError(f"{event.optimizer}, seed {event.seed}: {event.reason}")
        if event.run is not None and event.run.status != "failed":
            run: Run = event.run
            return run
        reason = event.reason if event.run is None else f"run {event.run.id} failed: {event.run.error}"
        self.failed.setdefault(event.optimizer, f"seed {event.seed}: {reason}")
        return None


def _none_left(failed: Mapping[str, str]) -> str:
    return "no optimizer could be compared: " + "; ".join(f"{name}: {why}" for name, why in failed.items())


def _tuned(
    request: CompareRequest, place: Place, should_stop: Callable[[], bool], failed: dict[str, str]
) -> Generator[Event, None, SweepResult]:
    """Every search of every optimizer.

    Args:
        failed: gets those that cannot run, or of which all trials of one search failed.

    Raises:
        VrError: that is so of all.
    """
    found = SweepResult(())
    tuning = replace(request.tuning, confirm_seeds=0)
    for event in sweep(tuning, place, should_stop=should_stop, failed=failed, what="comparison"):
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
            errors = [trial.error for trial in one.trials if trial.error]
            why = f" ({errors[-1]})" if errors else ""
            failed.setdefault(name, f"none of its trials completed, so it has no settings to compare{why}")
    left = [one for one in found.searches if one.definition.optimizer not in failed]
    if not left:
        raise VrError(_none_left(failed))
    if len({len(one.trials) for one in left}) > 1:
        yield Note("unequal budgets", {"result": replace(found, searches=tuple(left))})
    return found


def _reranked(
    request: CompareRequest, tuned: SweepResult, given: Settings, running: _Running
) -> Generator[Event, None, list[Arm]]:
    """Train the best trials of every search again, and take the one that does best."""
    threads = running.place.threads_each
    plan = {one.tuning.search_seed: one for one in replicates(request.tuning, request.seeds)}
    own = [found for found in tuned.searches if found.definition.optimizer not in running.failed]
    owners = [plan[found.definition.search_seed] for found in own]
    jobs = [rerank_jobs(running.store, found, owner.rerank, threads) for found, owner in zip(own, owners, strict=True)]
    flat = [job for some in jobs for job in some]
    searches = [found.search_id for found in own]
    runs = iter((yield from running.run(flat, "rerank", _of_trials(running.store, searches))) if flat else ())
    arms = []
    for found, owner, some in zip(own, owners, jobs, strict=True):
        name, measured = found.definition.optimizer, list(islice(runs, len(some)))
        if name in running.failed:
            continue
        order = reranked(found, measured, RERANK_SEEDS)
        flags = {"split_seed": owner.tuning.flags["split_seed"]} if request.tuning.vary_split else {}
        settings = {**given[name], **flags, **order[0].trial.params}
        arms.append(Arm(name, owner.number, settings, owner.fresh, found, tuple(order)))
    return arms


def _of_trials(store: Store, searches: Sequence[int]) -> Earlier:
    """What finds the stored run of a trial and seed, read at once for all of these searches."""
    ended = store.runs.select(search=searches, status=FINISHED)
    stored: dict[tuple[int | None, int | None], Any] = {
        (run.trial_id, run.seed): run for run in reversed(ended) if run.trial_id is not None
    }

    def found(job: Job) -> RunOutcome | None:
        run = stored.get((job.lineage.trial_id, job.seed))
        return None if run is None else RunOutcome(run, reused=True)

    return found


def _as_given(request: CompareRequest, given: Settings) -> list[Arm]:
    """The preset's settings, which no search chose."""
    seeds = tuple(fresh_seeds(request.tuning.seeds, request.seeds))
    return [Arm(name, 0, flags, seeds) for name, flags in given.items()]


def _fresh(
    request: CompareRequest, arms: Sequence[Arm], code: Mapping[str, Mapping[str, str]], running: _Running
) -> Generator[Event, None, Blocks]:
    """The runs of every arm on its fresh seeds, by optimizer and replicate; without the optimizers that failed.

    Raises:
        VrError: all of them did.
    """
    # Seed by seed in each replicate, so that a stop leaves whole pairs.
    places = sorted(
        ((at, arm.replicate, seed) for at, arm in enumerate(arms) for seed in arm.seeds),
        key=lambda place: place[1:],
    )
    tuning, group = request.tuning, _group(request, arms, code)
    jobs = {
        (at, job.seed): job
        for at, arm in enumerate(arms)
        for job in jobs_on(
            arm.seeds, tuning.task, arm.optimizer, tuning.preset, arm.settings, device=tuning.device,
            threads=running.place.threads_each, reuse="spec", vary_split=tuning.vary_split and not tuning.trials,
            lineage=Lineage(request.tag, group, arm.search.search_id if arm.search else None),
        )
    }  # fmt: skip
    found = yield from running.run([jobs[at, seed] for at, _, seed in places], "fresh")
    runs: dict[int, list[Any]] = {}
    for (at, _, _), run in zip(places, found, strict=True):
        runs.setdefault(at, []).append(run)
    blocks: dict[str, list[list[Any]]] = {}
    for at, arm in enumerate(arms):
        if arm.optimizer in running.failed:
            continue
        blocks.setdefault(arm.optimizer, []).append(runs[at])
    if not blocks:
        raise VrError(_none_left(running.failed))
    return blocks


def _earlier(
    request: CompareRequest, ready: Checked, arms: Sequence[Arm], blocks: Blocks, running: _Running
) -> Generator[Event, None, dict[str, AfterTrials]]:
    """Measure what every search had found after a part of its trials."""
    arms = running.left(arms)
    found = incumbents(arms, request.tuning.trials)
    jobs = jobs_of(found, request, running.store, running.place.threads_each)
    runs = (yield from running.run(jobs, "budget")) if jobs else []
    kept = [run for job, run in zip(jobs, runs, strict=True) if job.optimizer not in running.failed]
    left = incumbents(running.left(arms), request.tuning.trials)
    return by_budget(left, kept, blocks, request, ready.metric.direction)


def _group(request: CompareRequest, arms: Sequence[Arm], code: Mapping[str, Mapping[str, str]]) -> str:
    """What the fresh runs of one comparison share."""
    settings = {arm.optimizer: arm.settings for arm in reversed(arms)}  # of the first replicate
    facts = [request.tuning.task, request.tuning.preset, settings, code]
    definition = json.dumps(facts, sort_keys=True, default=str)
    return f"compare-{hashlib.blake2b(definition.encode(), digest_size=3).hexdigest()}"


# -- what they came to ------------------------------------------------------------------------------------------------


def counted(
    request: CompareRequest, metric: TaskMetric, arms: Sequence[Arm], blocks: Blocks, looks: Looks | None = None
) -> CompareResult:
    """The values of the metric and what can be claimed of them.

    Args:
        metric: behind the name in the request.
        blocks: the fresh runs of the arms.
    """
    values = {name: np.array([values_of(runs, request.metric) for runs in own]) for name, own in blocks.items()}
    replicated, pairs = None, []
    declared = {request.against, *(request.primary or ())} - {None}
    if len(blocks) < 2 or declared - {*blocks}:  # nothing is claimed where what was declared before cannot be tested
        pass
    elif request.tuning.trials and len(arms) > len(blocks):
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


def _reached(store: Store, blocks: Blocks, task: TaskClass, target: float) -> dict[str, dict[str, ToTarget]]:
    """Steps, epochs, gradients and seconds to the target; a run that never gets there is censored, not averaged."""
    name, reader = f"val_{task.metrics[0].name}", Reader(store, Filter())
    found: dict[str, dict[str, ToTarget]] = {}
    for optimizer, own in blocks.items():
        runs = [run for replicate in own for run in replicate]
        diverged = [run.status == "diverged" for run in runs]
        for x, unit in (("step", "steps"), ("epoch", "epochs"), ("gradients", "gradients"), ("seconds", "s")):
            curves = reader.curves(runs, [name], x)
            pairs = [curves.get((run.id, name), ((), ())) for run in runs]  # none: it diverged before an evaluation
            found.setdefault(optimizer, {})[unit] = steps_to_target(pairs, target, diverged=diverged)
    return found
