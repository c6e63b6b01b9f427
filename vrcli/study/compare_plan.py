"""What a comparison would take: its runs, those that are stored already, and about how long the others run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vrcli.execute.job import Job, Rehearsal, of_spec
from vrcli.execute.place import Place
from vrcli.search import record
from vrcli.search.definition import Definition
from vrcli.study.comparison import Checked, CompareRequest, checked
from vrcli.study.confirm import fresh_seeds
from vrcli.study.events import Event, Finished
from vrcli.study.files.stored import of_search, reranked_runs
from vrcli.study.jobs import jobs_on
from vrcli.study.replicates import CANDIDATES, replicates
from vrcli.study.sweep import definitions_of, rehearse_job, rehearsed

if TYPE_CHECKING:
    from vrcli.execute.executor import Executor
    from vrcli.search.record import Store


@dataclass(frozen=True)
class PlannedRuns:
    """The runs of one optimizer.

    Args:
        trials: runs of its searches.
        reranking: runs that rank the best trials again.
        fresh: runs that are compared.
        stored: how many of all are there already.
        run_s: estimate of the seconds of one; NaN where nothing was timed.
    """

    trials: int
    reranking: int
    fresh: int
    stored: int
    run_s: float

    @property
    def left(self) -> int:
        """Runs that are not stored."""
        return max(0, self.trials + self.reranking + self.fresh - self.stored)


@dataclass(frozen=True)
class ComparePlan:
    """What the comparison on one task would do.

    Args:
        definitions: the first search of each optimizer; nothing where none is made.
        runs: by optimizer.
        about: the data, in one phrase.
    """

    request: CompareRequest
    task: str
    runs: Mapping[str, PlannedRuns]
    jobs: int
    about: str = ""
    definitions: Sequence[Definition] = field(default=())

    @property
    def left_s(self) -> float:
        """Estimate of the seconds until all have ended; NaN where it is not known."""
        return sum(one.left * one.run_s for one in self.runs.values() if one.left) / self.jobs


def plan_comparisons(
    requests: Sequence[CompareRequest], place: Place, *, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Event]:
    """What `compare` would do on each task: a few steps of every optimizer are timed, and nothing is stored.

    Raises:
        UsageError: one of them cannot be carried out.
    """
    ready = [checked(request) for request in requests]
    with closing(place.executor()) as executor:
        plans = [
            (_searched if one.request.tuning.trials else _as_given)(one, place, executor, should_stop) for one in ready
        ]
    yield Finished(plans)


def _searched(ready: Checked, place: Place, executor: Executor, should_stop: Callable[[], bool]) -> ComparePlan:
    request, tuning = ready.request, ready.request.tuning
    found = rehearsed(definitions_of(tuning), place, executor, should_stop, what="comparison")
    owners = {one.tuning.search_seed: one for one in replicates(tuning, request.seeds)}
    again = reranked_runs(min(tuning.trials, CANDIDATES))
    stored, reranking = dict.fromkeys(ready.given, 0), dict.fromkeys(ready.given, tuning.searches * again)
    with place.stored() as store:
        for one in found.definitions:
            if store is not None and (search := record.find(store, one)) is not None:
                runs = store.runs.select(search=[search.id])
                own = of_search(search, owners[one.search_seed], runs, ready.given[one.optimizer])
                stored[one.optimizer] += len(own.runs)
                reranking[one.optimizer] += 0 if own.again is None else own.again - again
    trials, fresh = (tuning.searches * each for each in (tuning.trials * len(tuning.seeds), request.seeds))
    planned = {
        name: PlannedRuns(trials, reranking[name], fresh, stored[name], found.run_s[name]) for name in ready.given
    }
    first = found.definitions[: len(ready.given)]
    return ComparePlan(request, ready.task.name, planned, place.jobs, found.about, first)


def _as_given(ready: Checked, place: Place, executor: Executor, should_stop: Callable[[], bool]) -> ComparePlan:
    request, tuning = ready.request, ready.request.tuning
    seeds = fresh_seeds(tuning.seeds, request.seeds)

    def jobs(name: str, **more: Any) -> list[Job]:
        return jobs_on(
            seeds, tuning.task, name, tuning.preset, ready.given[name], device=tuning.device,
            threads=place.threads_each, vary_split=tuning.vary_split, **more,
        )  # fmt: skip

    found: dict[str, PlannedRuns] = {}
    about = ""
    with place.stored() as store:
        for name in ready.given:
            # Where every seed splits the data in its own way, what one of them loads does not speak for the others.
            several = tuning.vary_split and store is not None
            timed = [
                rehearse_job(job, executor, should_stop, "comparison")
                for job in jobs(name, rehearse=True)[: None if several else 1]
            ]
            data = timed if several else timed * len(seeds)
            pairs = zip(jobs(name), data, strict=True)
            stored = 0 if store is None else sum(_is_stored(store, job, own, place) for job, own in pairs)
            found[name], about = PlannedRuns(0, 0, len(seeds), stored, timed[0].run_s), timed[0].about
    return ComparePlan(request, ready.task.name, found, place.jobs, about)


def _is_stored(store: Store, job: Job, data: Rehearsal, place: Place) -> bool:
    request = job.request if data.batch_size is None else job.request.with_training(batch_size=data.batch_size)
    return of_spec(store, request.on(data.dataset, data.fingerprint), place.probing) is not None
