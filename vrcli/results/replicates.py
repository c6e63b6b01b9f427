"""Stored runs on fresh seeds as optimizers side by side: replicate by replicate of a sweep, or seed by seed."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vrcli.direction import cost
from vrcli.errors import UsageError, nearest
from vrcli.results.lines import by_section, finished
from vrcli.results.types import Column, values_of
from vrcli.stats.budget import parts_of

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord, SearchRecord
    from vrcli.db.store import Store
    from vrcli.results.lines import Reader

#: How the groups of the runs that `vr compare` made begin.
COMPARED = "compare-"
#: Sections of which a figure takes one comparison each.
MANY = 10_000


@dataclass(frozen=True)
class Compared:
    """Optimizers that ran side by side on one task.

    Args:
        section: its title.
        runs: by optimizer and replicate: K searches with m runs each, or K seeds with one.
        sweep: the number of the sweep whose searches are the replicates; None where they are seeds.
        left_out: replicates that not all optimizers have.
    """

    section: str
    runs: Mapping[str, Sequence[Sequence[RunRecord]]]
    sweep: int | None
    left_out: int = 0

    @property
    def every(self) -> list[RunRecord]:
        return [run for own in self.runs.values() for replicate in own for run in replicate]

    @property
    def of_settings(self) -> bool:
        """Whether it compares single settings, not optimizers: no search was made, or one."""
        return self.sweep is None or len(next(iter(self.runs.values()))) < 2

    def values(self, metric: str) -> dict[str, Any]:
        """A result by optimizer (K, m), NaN for a diverged run; of single settings every seed is a replicate."""
        found = {name: np.array([values_of(one, metric) for one in own]) for name, own in self.runs.items()}
        return {name: table.reshape(-1, 1) for name, table in found.items()} if self.of_settings else found


def compared(store: Store, runs: Iterable[RunRecord], notes: list[str]) -> list[Compared]:
    """The newest comparison of each task, data set and preset: of a sweep, else of settings that no search chose.

    Args:
        notes: takes what must be said of others.
    """
    fresh = [run for run in finished(list(runs)) if run.trial_id is None and (run.search_id or _made_to_compare(run))]
    found = []
    for title, members in by_section(fresh, MANY).items():
        sweeps: dict[Any, list[RunRecord]] = defaultdict(list)
        for run in members:
            shared = run.sweep_id if run.search_id else json.dumps([_shared(run)], sort_keys=True, default=str)
            sweeps[shared].append(run)
        newest = sorted(sweeps.items(), key=lambda one: (isinstance(one[0], int), max(r.id for r in one[1])))[::-1]
        side_by_side = [
            one for key, own in newest
            if (one := _by_search(store, title, key, own) if isinstance(key, int) else _by_seed(title, own)) is not None
        ]  # fmt: skip
        found += side_by_side[:1]
        if len(side_by_side) > 1:
            which = f"that of sweep {side_by_side[0].sweep}" if side_by_side[0].sweep else "the newest"
            notes.append(
                f"{title}: of {len(side_by_side)} comparisons {which} is shown; --sweep or --group names others"
            )
    notes += [
        f"{one.section}: {one.left_out} of the replicates have no runs of all optimizers: left out"
        for one in found if one.left_out
    ]  # fmt: skip
    return found


def _made_to_compare(run: RunRecord) -> bool:
    return (run.group or "").startswith(COMPARED)


def _shared(run: RunRecord) -> list[Any]:
    """What optimizers have in common that are compared without a search."""
    return [run.spec.get("task_settings"), run.spec.get("training"), run.spec.get("device")]


def _by_search(store: Store, title: str, sweep: int, runs: Sequence[RunRecord]) -> Compared | None:
    """Replicate k of every optimizer is the search that has the k-th seed."""
    searches = {one.id: one for one in store.searches.select(sweep=sweep)}
    own: dict[str, dict[int, dict[int, RunRecord]]] = defaultdict(dict)
    for id, found in _grouped(runs, lambda run: run.search_id).items():
        if id in searches:
            own[found[0].optimizer][_seed(searches[id])] = _winner(found)
    seeds = sorted(set.union(*(set(by_search) for by_search in own.values()))) if own else []
    whole = [seed for seed in seeds if all(seed in by_search for by_search in own.values())]
    blocks = [(seed, set.intersection(*(set(by_search[seed]) for by_search in own.values()))) for seed in whole]
    blocks = [(seed, shared) for seed, shared in blocks if shared]
    if len(own) < 2 or not blocks:
        return None
    m = min(len(shared) for _, shared in blocks)
    table = {
        name: [[by_search[seed][one] for one in sorted(shared)[:m]] for seed, shared in blocks]
        for name, by_search in sorted(own.items())
    }
    return Compared(title, table, sweep, len(seeds) - len(blocks))


def _by_seed(title: str, runs: Sequence[RunRecord]) -> Compared | None:
    """Of each optimizer the newest settings, on the seeds that all of them have."""
    own = {name: _winner(found) for name, found in sorted(_grouped(runs, lambda run: run.optimizer).items())}
    shared = set.intersection(*(set(one) for one in own.values())) if own else set()
    if len(own) < 2 or len(shared) < 2:
        return None
    seen = set.union(*(set(one) for one in own.values()))
    table = {name: [[one[seed]] for seed in sorted(shared)] for name, one in own.items()}
    return Compared(title, table, None, len(seen) - len(shared))


def _grouped(runs: Iterable[RunRecord], key: Any) -> dict[Any, list[RunRecord]]:
    found: dict[Any, list[RunRecord]] = defaultdict(list)
    for run in runs:
        found[key(run)].append(run)
    return found


def _winner(runs: Sequence[RunRecord]) -> dict[int, RunRecord]:
    """By seed the runs of one configuration: the newest that a comparison made, else the newest."""
    alike = _grouped(runs, lambda run: run.configuration)
    best = max(alike.values(), key=lambda own: (any(map(_made_to_compare, own)), max(run.id for run in own)))
    return {run.seed or 0: run for run in sorted(best, key=lambda run: -run.id)}  # of repeated seeds the first run


def _seed(search: SearchRecord) -> int:
    return search.search_seed or 0


def by_budget(store: Store, one: Compared, metric: str) -> dict[str, dict[int, Any]]:
    """A result of what each search had found after a part of its trials, on the fresh seeds of its replicate.

    Returns:
        By optimizer and number of trials (K, m), NaN for a diverged run; without the numbers of trials of which a run
        is not stored.
    """
    ids = {run.search_id for run in one.every if run.search_id is not None}
    stored = finished(store.runs.select(search=sorted(ids)))
    searches = {search.id: search for search in store.searches.select(sweep=one.sweep)}
    found: dict[str, dict[int, Any]] = {}
    for name, replicates in one.runs.items():
        own = [_incumbents(store, searches[own[0].search_id or 0], own, stored, metric) for own in replicates]
        whole = set.intersection(*map(set, own))
        found[name] = {part: np.array([values[part] for values in own]) for part in sorted(whole)}
    return found


def _incumbents(
    store: Store, search: SearchRecord, fresh: Sequence[RunRecord], stored: Sequence[RunRecord], metric: str
) -> dict[int, list[float]]:
    """Of one search by number of trials."""
    runs = [run for run in stored if run.search_id == search.id]
    ended = [trial for trial in store.searches.trials(search.id) if trial.finished_at is not None]
    ended.sort(key=lambda trial: (str(trial.finished_at), trial.number))
    found: dict[int, list[float]] = {}
    for part in parts_of(search.trials):
        done = [trial for trial in ended[:part] if trial.state == "completed" and trial.value is not None]
        best = min(done, key=lambda trial: (cost(trial.value, search.direction), trial.number), default=None)
        if best is None:
            found[part] = [math.nan] * len(fresh)
            continue
        alike = {run.configuration for run in runs if run.trial_id == best.id}
        by_seed = {run.seed: run for run in runs if run.configuration in alike}
        if all(run.seed in by_seed for run in fresh):
            found[part] = values_of([by_seed[run.seed] for run in fresh], metric)
    return found


def metric_of(reader: Reader, runs: Sequence[RunRecord], asked: str | None) -> Column:
    """The result that is compared: as asked, else the test value of the objective, else the objective.

    Raises:
        UsageError: no run has it, or whether less or more of it is better is not known.
    """
    known = {name for run in runs for name in run.results}
    objective = reader.objective(runs).key
    test = objective.replace("best_val_", "test_", 1)
    name = asked or (test if test in known else objective)
    if name not in known:
        hint = nearest(name, known) or "; they have " + ", ".join(sorted(known))
        raise UsageError(f"--metric {name} is not a result of these runs{hint}")
    column = reader.of_result(name, runs)
    _ = column.better  # refuses what has no direction
    return column
