"""Replicates of a tuned comparison: each is the whole protocol once, on seeds of its own that all optimizers share.

A replicate searches, trains the best few trials again on seeds that did not find them, and takes the one that does best
there; only this winner is run on fresh seeds. A search returns the luckiest of its trials, so that its own values say
little about which of the first few is best: training them again about halves how far the winners of several searches
lie apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vrcli.direction import Direction, cost
from vrcli.errors import UsageError
from vrcli.execute.job import Job, Lineage
from vrcli.search.trials import Trial, in_order
from vrcli.spec import Threads
from vrcli.study.confirm import fresh_seeds
from vrcli.study.define import SweepRequest
from vrcli.study.jobs import job_of
from vrcli.study.results import Candidate, SearchResult

if TYPE_CHECKING:
    from vrcli.search.record import Store

#: Seeds from one replicate to the next: fixed, so that asking for more searches or seeds changes no earlier run.
STRIDE = 100
#: Trials of a search that are trained again, and on how many seeds: the last ones of the replicate.
CANDIDATES = 3
RERANK_SEEDS = 3


@dataclass(frozen=True)
class Replicate:
    """The seeds of one replicate.

    Args:
        number: from 0.
        tuning: the request of its searches.
        rerank: seeds on which the best trials are trained again.
        fresh: seeds of the runs that are compared.
    """

    number: int
    tuning: SweepRequest
    rerank: tuple[int, ...]
    fresh: tuple[int, ...]


def replicates(request: SweepRequest, seeds: int = 0) -> list[Replicate]:
    """The replicates of a request: with seeds of their own and, where that is asked for, their own split of the data.

    Args:
        request: of all searches; the first replicate has its seeds, and the others count on from there.
        seeds: m, fresh ones for each.

    Raises:
        UsageError: so many seeds do not fit between one replicate and the next.
    """
    most = STRIDE - len(request.seeds) - RERANK_SEEDS
    if not 0 <= seeds <= most:
        raise UsageError(
            f"must be at most {most} with --trials, got {seeds}; --searches gives more replicates", "--seeds"
        )
    return [_replicate(request, number, seeds) for number in range(request.searches)]


def _replicate(request: SweepRequest, number: int, seeds: int) -> Replicate:
    first = min(request.seeds) + STRIDE * number
    own = tuple(seed + STRIDE * number for seed in request.seeds)
    tuning = replace(request, seeds=own, search_seed=request.search_seed + number, searches=1)
    if request.vary_split:
        split = int(request.flags.get("split_seed", 0)) + number
        tuning = replace(tuning, flags={**request.flags, "split_seed": split})
    rerank = tuple(range(first + STRIDE - RERANK_SEEDS, first + STRIDE))
    return Replicate(number, tuning, rerank, tuple(fresh_seeds(own, seeds)))


# -- the best few, trained again --------------------------------------------------------------------------------------


def _rank(one: Candidate, direction: Direction) -> tuple[int, float]:
    """Smaller is better: fewer diverged runs first, then the mean of the others."""
    finite = [value for value in one.values if math.isfinite(value)]
    return len(one.values) - len(finite), cost(math.fsum(finite) / len(finite) if finite else None, direction)


def candidates(found: SearchResult) -> list[Trial]:
    """The best few trials of a search, the best first; where all diverged the first, which then stands for them."""
    best = in_order(found.trials, found.definition.direction)[:CANDIDATES]
    return best or [trial for trial in found.trials if trial.status in ("diverged", "pruned")][:1]


def rerank_jobs(store: Store, found: SearchResult, seeds: Sequence[int], threads: Threads) -> list[Job]:
    """The runs that re-rank a search, trial by trial; none where there is nothing to choose from.

    They belong to their trials: they choose settings, so no table quotes them.
    """
    chosen = candidates(found)
    if len(chosen) < 2:
        return []
    ids = {trial.number: trial.id for trial in store.searches.trials(found.search_id)}
    return [
        job_of(
            found.definition, trial.params, seed, threads=threads,
            lineage=Lineage(search_id=found.search_id, trial_id=ids[trial.number]),
        )
        for trial in chosen for seed in seeds
    ]  # fmt: skip


def reranked(found: SearchResult, runs: Sequence[Any], seeds: int) -> list[Candidate]:
    """The candidates in their new order, the winner first.

    Args:
        runs: what the jobs came to, in their order.
        seeds: for each candidate.
    """
    chosen = candidates(found)
    if not runs:
        return [Candidate(trial) for trial in chosen]
    values = [run.best if run.status == "completed" else math.nan for run in runs]
    measured = [Candidate(trial, tuple(values[at * seeds : (at + 1) * seeds])) for at, trial in enumerate(chosen)]
    return sorted(measured, key=lambda one: _rank(one, found.definition.direction))
