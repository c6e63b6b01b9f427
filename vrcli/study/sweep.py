"""A sweep from its request to its result: define, rehearse, find or begin the stored searches, run them, confirm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError, VrError
from vrcli.execute.executor import Executor, Interrupted
from vrcli.execute.job import Job, Lineage, Rehearsal
from vrcli.execute.lookup import task_of
from vrcli.execute.outage import Unavailable
from vrcli.execute.place import Place
from vrcli.probing import Probing
from vrcli.search import record
from vrcli.search.definition import Definition, code_changes
from vrcli.search.record import StoredSearch
from vrcli.search.summary import at_edge
from vrcli.search.trials import SearchState
from vrcli.study.asked import at_least
from vrcli.study.confirm import fresh_seeds, run_fresh
from vrcli.study.define import SweepRequest, define, shared_key_of
from vrcli.study.events import Event, Finished, Note, PlanMade, RunEnded, RunsPlanned, SearchBegan, notes_of
from vrcli.study.jobs import job_of
from vrcli.study.replicates import replicates
from vrcli.study.results import FreshRun, PlannedSearch, SearchResult, SweepPlan, SweepResult
from vrcli.study.tune import Tuning, edited
from vrcli.variants import base_of

if TYPE_CHECKING:
    from vrcli.search.record import Store


class CannotRun(VrError):
    """The code of an optimizer, or its process, ended in the rehearsal.

    Args:
        reason: of what, in one line.
    """

    def __init__(self, optimizer: str, reason: str) -> None:
        super().__init__(f"{optimizer} cannot run here: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Ready:
    """Definitions on the data as they are.

    Args:
        run_s: estimate of one run's seconds, by optimizer; nothing where no run was timed.
    """

    definitions: tuple[Definition, ...]
    about: str = ""
    run_s: Mapping[str, float] = field(default_factory=dict)


def plan(request: SweepRequest, place: Place) -> Iterator[Event]:
    """What `sweep` would do; nothing is written.

    Raises:
        UsageError: the request cannot be carried out.
    """
    _check(request)
    with closing(place.executor()) as executor:
        ready = rehearsed(definitions_of(request), place, executor)
    done: dict[int, int] = {}
    with place.stored() as store:
        if store is not None:
            found = [record.match(store, one, new=request.new) for one in ready.definitions]
            yield from _superseded(store, ready.definitions)
            done = {at: record.count(one) for at, one in enumerate(found) if one is not None}
    yield from _equal(request)
    yield _plan_made(ready, request.trials, place)
    searches = tuple(
        PlannedSearch(d, done.get(at, 0), ready.run_s[d.optimizer] * len(d.seeds))
        for at, d in enumerate(ready.definitions)
    )
    left_s = sum(max(request.trials - one.stored, 0) * one.trial_s for one in searches) / place.jobs
    yield Finished(SweepPlan(searches, request.trials, place.jobs, left_s, ready.about))


def sweep(
    request: SweepRequest,
    place: Place,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    failed: dict[str, str] | None = None,
    what: str = "sweep",
) -> Iterator[Event]:
    """Bring every optimizer's search to its total, and run the best settings on fresh seeds.

    Args:
        failed: gets the optimizers that cannot run, with the reason, and the others go on; without it none does.
        what: is going on, for the message of an interruption.

    Raises:
        UsageError: the request cannot be carried out; nothing was written.
        Interrupted: `should_stop` said so, or somebody stopped the sweep.
    """
    _check(request)
    with closing(place.executor()) as executor:
        definitions = definitions_of(request)
        ready = _known(definitions, request.trials, place) or rehearsed(
            definitions, place, executor, should_stop, failed, what
        )
        # The workers leave before the store does: the last to close the database folds its journal.
        with place.store() as store, closing(executor):
            yield from notes_of(store)
            yield from _equal(request)
            yield from _superseded(store, ready.definitions)
            found = record.enter(
                store, ready.definitions, request.trials, shared_key=shared_key_of, new=request.new
            )  # fmt: skip
            searches = _Searches(found, ready, place, executor, request.confirm_seeds, what)
            yield from searches.run(request.trials, should_stop)


def resume(
    ref: str,
    place: Place,
    *,
    trials: int = 0,
    confirm_seeds: int = 0,
    retry_failed: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Go on with the searches of one stored sweep under the definitions they began with; new runs measure what its
    newest one measures.

    Args:
        trials: of each search, in all; 0 for what is stored.
        retry_failed: do the failed trials again.

    Raises:
        UsageError: the code or the data are other than those it began with.
    """
    with ExitStack() as stack:
        store = stack.enter_context(place.store("write"))
        yield from notes_of(store)
        stored = record.of_sweep(store, ref)
        for run in store.runs.select(sweep=ref, limit=1, results=()):
            place = replace(place, probing=Probing.stored(run.provenance))
        executor = stack.enter_context(closing(place.executor()))
        about, run_s = "", {}
        for one in stored:
            yield from _check_code(one)
            found = rehearse(one.definition, place, executor, should_stop)
            now = one.definition.on(found.dataset, found.fingerprint)
            if changes := one.definition.differences(now):
                raise UsageError(f"sweep {one.sweep_id} began on other data: {', '.join(changes)}")
            about, run_s[one.definition.optimizer] = about or found.about, found.run_s
        claimed = record.claim(store, stored, trials or None, retry_failed=retry_failed)
        total = trials or max(one.total for one in stored)
        ready = Ready(tuple(one.definition for one in claimed), about, run_s)
        yield from _Searches(claimed, ready, place, executor, confirm_seeds).run(total, should_stop)


def _check(request: SweepRequest) -> None:
    at_least(("--trials", request.trials, 1), ("--confirm-seeds", request.confirm_seeds, 0))


# -- before it begins -------------------------------------------------------------------------------------------------


def definitions_of(request: SweepRequest) -> list[Definition]:
    """The searches of a request: replicate by replicate, in each one for every optimizer.

    Raises:
        UsageError: see `define`.
    """
    task = task_of(request.task)
    return [one for replicate in replicates(request) for one in define(task, replicate.tuning)]


def rehearsed(
    definitions: Sequence[Definition],
    place: Place,
    executor: Executor,
    should_stop: Callable[[], bool] = lambda: False,
    failed: dict[str, str] | None = None,
    what: str = "sweep",
) -> Ready:
    """The definitions on the data as they are; a short timed run of each kind says that it can be carried out.

    Replicates of a search differ in seeds only, so that one of them speaks for all, but for one that splits the data
    in another way.

    Args:
        failed: see `sweep`.
        what: see `sweep`.

    Raises:
        CannotRun: one cannot be carried out; with `failed`, the last of them.
    """
    seen: dict[tuple[str, object], Rehearsal] = {}
    found = []
    for one in definitions:
        kind = one.optimizer, one.explicit.get("split_seed")
        if failed is not None and one.optimizer in failed:
            continue
        if kind not in seen:
            try:
                seen[kind] = rehearse(one, place, executor, should_stop, what)
            except CannotRun as error:
                if failed is None or {other.optimizer for other in definitions} <= {*failed, one.optimizer}:
                    raise
                failed[one.optimizer] = error.reason
                continue
        found.append(one.on(seen[kind].dataset, seen[kind].fingerprint))
    about = next((one.about for one in seen.values()), "")
    return Ready(tuple(found), about, {optimizer: one.run_s for (optimizer, _), one in seen.items()})


def rehearse(
    definition: Definition, place: Place, executor: Executor, should_stop: Callable[[], bool] = lambda: False,
    what: str = "sweep",
) -> Rehearsal:  # fmt: skip
    """Load a search's data and time a few steps, in a worker.

    Raises:
        CannotRun: its code raised an error, or ended the worker.
        Interrupted: `should_stop` said so.
    """
    return rehearse_job(_first_job(definition, place), executor, should_stop, what)


def rehearse_job(
    job: Job, executor: Executor, should_stop: Callable[[], bool] = lambda: False, what: str = "sweep"
) -> Rehearsal:
    """The same for a job that is to be rehearsed."""
    executor.submit("rehearsal", job)
    while True:
        if should_stop():
            raise Interrupted(f"the {what} was interrupted before it began")
        for message in executor.receive(0.2):
            if message.kind in ("refused", "edited"):
                said = edited(job.request.code, message.body) if message.kind == "edited" else str(message.body)
                raise UsageError(said)
            if message.kind in ("failed", "died", "outage"):
                raise CannotRun(job.optimizer, str(message.body))
            if message.kind == "done":
                found: Rehearsal = message.body
                return found


def _first_job(definition: Definition, place: Place) -> Job:
    return job_of(definition, {}, definition.seeds[0], threads=place.threads_each, rehearse=True)


def _known(definitions: Sequence[Definition], trials: int, place: Place) -> Ready | None:
    """The definitions on data that are known without loading them, where all their trials are stored; else None."""
    seen = [place.data_of(_first_job(one, place)) for one in definitions]
    found = [one.on(data.dataset, data.fingerprint) for one, data in zip(definitions, seen, strict=True) if data]
    if len(found) < len(definitions):
        return None
    with place.stored() as store:
        done = store is not None and all(_done(store, one, trials) for one in found)
    return Ready(tuple(found), next((data.about for data in seen if data), "")) if done else None


def _done(store: Store, definition: Definition, trials: int) -> bool:
    stored = record.find(store, definition)
    return stored is not None and SearchState(stored.definition, stored, trials).done


def _superseded(store: Store, definitions: Sequence[Definition]) -> Iterator[Note]:
    for one in definitions:
        if (found := record.superseded(store, one)) is not None:
            yield Note("superseded", {"search": found})


def _equal(request: SweepRequest) -> Iterator[Note]:
    if request.equal:
        yield Note("equal", {"settings": tuple(request.equal)})


def _check_code(stored: StoredSearch) -> Iterator[Note]:
    """Refuse to go on with a stored search in other code than it began with.

    Raises:
        UsageError: what is other code now.
    """
    from vrcli.settings import resolve

    d = stored.definition
    now = resolve(task_of(d.task), base_of(d.optimizer), preset=d.preset, flags=d.explicit).request.code
    if not d.code:
        yield Note("code unknown", {"sweep_id": stored.sweep_id})
    elif found := code_changes(d.code, now):
        raise UsageError(f"sweep {stored.sweep_id} began with other code: {', '.join(found)}; vr sweep begins another")


def _plan_made(ready: Ready, trials: int, place: Place) -> PlanMade:
    return PlanMade(ready.definitions, trials, ready.about, ready.run_s, place.jobs)


# -- while it runs ----------------------------------------------------------------------------------------------------


class _Searches:
    """The claimed searches of one command on their way to its result."""

    def __init__(
        self, stored: Sequence[StoredSearch], ready: Ready, place: Place, executor: Executor, confirm_seeds: int,
        what: str = "sweep",
    ) -> None:  # fmt: skip
        self.stored, self.ready, self.place, self.executor = stored, ready, place, executor
        self.confirm_seeds, self.what = confirm_seeds, what
        self.states = [one.state() for one in stored]
        self.fresh: dict[int, list[FreshRun]] = {}

    def run(self, trials: int, should_stop: Callable[[], bool]) -> Iterator[Event]:
        """Run the searches to their totals, and the best settings on fresh seeds."""
        finished = False

        def stop() -> bool:
            return should_stop() or any(one.told_to_stop() for one in self.stored)

        def earlier(job: Job) -> Any:
            return self.place.earlier(self.stored[0].store, job)

        make = partial(job_of, threads=self.place.threads_each)
        try:
            yield _plan_made(self.ready, trials, self.place)
            for at, (one, state) in enumerate(zip(self.stored, self.states, strict=True)):
                known = tuple(state.trials.values())
                yield SearchBegan(at, one.sweep_id, one.id, one.name, one.definition, one.total, known)
            tuning = Tuning(self.states, self.executor, job_of=make, earlier=earlier, what=self.what)
            yield from tuning.run(stop)
            finished = True
            yield from self.confirm(earlier, stop)
        finally:
            for one, state in zip(self.stored, self.states, strict=True):
                with suppress(Unavailable):  # whoever looks next finds this process gone
                    one.leave("completed" if finished or state.done else "interrupted")
        yield Finished(SweepResult(tuple(map(self.result, range(len(self.stored))))))

    def confirm(self, earlier: Callable[[Job], Any], stop: Callable[[], bool]) -> Iterator[Event]:
        """Run every search's best settings on fresh seeds."""
        jobs: list[Job] = []
        owners: list[int] = []
        for at, (one, state) in enumerate(zip(self.stored, self.states, strict=True)):
            if (best := state.best()) is not None:
                lineage = Lineage(search_id=one.id, group=f"{one.name}-confirm-{best.number}")
                seeds = fresh_seeds(one.definition.seeds, self.confirm_seeds)
                make = partial(job_of, one.definition, best.params, threads=self.place.threads_each, lineage=lineage)
                jobs += [make(seed) for seed in seeds]
                owners += [at] * len(seeds)
        if jobs:
            yield RunsPlanned(len(jobs))
        for event in run_fresh(jobs, self.executor, earlier=earlier, should_stop=stop, what="confirmation"):
            if isinstance(event, RunEnded):
                if event.problem in ("refused", "edited"):
                    raise VrError(f"{event.optimizer}: {event.reason}")
                self.fresh.setdefault(owners[event.job], []).append(fresh_run(event))
            yield event

    def result(self, at: int) -> SearchResult:
        one, state = self.stored[at], self.states[at]
        return SearchResult(
            one.sweep_id, one.id, one.name, one.definition, state.total, tuple(state.ended()), state.best(),
            state.exhausted, tuple(at_edge(state)), tuple(self.fresh.get(at, ())), one.confirmed(),
        )  # fmt: skip


def fresh_run(event: RunEnded) -> FreshRun:
    """What a run on a fresh seed came to."""
    if event.run is None:
        return FreshRun(event.seed, "failed")
    value = event.run.best if event.run.status == "completed" else None
    return FreshRun(event.seed, event.run.status, value, (event.run.id,))
