"""Stored sweeps, and their trials in the order in which they ended."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from vrcli.errors import UsageError, nearest

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord, SearchRecord, TrialRecord
    from vrcli.db.store import Store
    from vrcli.results.lines import Reader
    from vrcli.results.types import Column

#: What sweeps must share for their optimizers to stand side by side.
ALIKE = ("task", "preset", "dataset", "dataset_fingerprint", "epochs", "seeds", "search")
#: Optimizers beyond which the panels of one figure are too narrow.
MOST = 6


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Args:
        settings: what was searched, by name.
        outcome: the objective; NaN or infinite when the trial diverged.
        x: positions of its curve, empty when no curve is drawn.
        y: values of its curve.
        number: of the trial in its search, counted from 1; None where it is not one of a search.
        search: seed of its search, where several searches of the optimizer stand together.
    """

    settings: Mapping[str, Any]
    outcome: float
    x: ArrayLike = ()
    y: ArrayLike = ()
    number: int | None = None
    search: int | None = None

    @property
    def diverged(self) -> bool:
        return not math.isfinite(self.outcome)


@dataclass(frozen=True)
class Search:
    """The trials of one optimizer in one sweep, of all its searches there.

    Args:
        sweep: its number, where the optimizer stands in several; else None.
    """

    optimizer: str
    sweep: int | None
    trials: Sequence[Trial]


@dataclass(frozen=True)
class Sweeps:
    """Sweeps of one task side by side.

    Args:
        section: what all of them are of.
        objective: the result by which they choose.
        left_out: trials that failed, have not ended or are not asked for: they say nothing of their settings.
    """

    section: str
    objective: Column
    each: Sequence[Search]
    left_out: int


def sweeps_of(reader: Reader, words: Sequence[str], x: str) -> Sweeps | None:
    """The sweeps asked for with their trials; None where there are no sweeps at all.

    Args:
        words: see `named`.
        x: axis of the trials' curves.

    Raises:
        UsageError: no such sweep, or sweeps that do not stand in one figure.
    """
    asked = reader.asked
    sweeps = named(reader.store, words, asked.opts, asked.preset)
    if not sweeps:
        return None
    one_section(sweeps)  # refuses several
    own = replace(asked, sweeps=[str(sweep.sweep_id) for sweep in sweeps], opts=(), preset=None)
    ids = [sweep.id for sweep in sweeps]
    found = own.select(reader.store) if own.where else reader.store.runs.select(search=ids)
    chosen = [run for run in found if run.search_id in ids]
    runs = {run.id: run for run in chosen}
    # Runs say the name of a task that a sweep knows by its class or its command.
    section = one_section(sweeps, next((run.task for run in chosen), None))
    objective = reader.objective(chosen)
    metric = objective.key.removeprefix("best_")
    together = dict.fromkeys((_optimizer(sweep), sweep.sweep_id) for sweep in sweeps)
    seen = Counter(optimizer for optimizer, _ in together)
    each, left_out = [], 0
    for optimizer, number in together:
        searches = [one for one in sweeps if (_optimizer(one), one.sweep_id) == (optimizer, number)]
        trials: list[Trial] = []
        for sweep in searches:
            of_one, without = trials_of(reader, sweep, runs, metric, x)
            trials += [replace(trial, search=sweep.search_seed) for trial in of_one] if len(searches) > 1 else of_one
            left_out += without
        each.append(Search(optimizer, number if seen[optimizer] > 1 else None, trials))
    return Sweeps(section, objective, each, left_out)


def named(store: Store, words: Sequence[str], opts: Sequence[str], preset: str | None) -> list[SearchRecord]:
    """The sweeps asked for by number or name, and of each task named, or of all, the newest with its like.

    Args:
        words: sweeps, or tasks of which the newest is meant.

    Raises:
        UsageError: an optimizer or preset that none of them has, a sweep of another preset, or too many for one
            figure.
    """
    stored = store.searches.select()
    there = {sweep.task for sweep in stored}
    known = {word: task for word in words if (task := _task_of(store, word, there))}
    tasks = list(dict.fromkeys(known.values()))
    refs = [store.sweeps.get(word).id for word in words if word not in known]
    found = {search.id: search for ref in refs for search in store.searches.select(sweep=ref)[::-1]}
    _check_preset(preset, stored, list(found.values()))
    pool = [sweep for sweep in stored if preset is None or sweep.preset == preset]
    for members in [[s for s in pool if s.task == task] for task in tasks] or [pool] * (not words):
        if members:
            newest = next((s for s in members if not opts or s.settings.get("optimizer") in opts), members[0])
            found |= {sweep.id: sweep for sweep in _like(newest, members)}
        elif tasks:
            kept = {s.task for s in pool}
            missing = ", ".join(task for task in tasks if task not in kept)
            raise UsageError(f"--preset {preset}: no sweep of {missing} has it")
    return _of_optimizers(list(found.values()), opts)


def _task_of(store: Store, word: str, tasks: Collection[str]) -> str | None:
    """The task that a word names, as searches know it: also by the name that its runs have."""
    if word in tasks:
        return word
    made = (run.search_id for run in store.runs.select(task=word, results=()) if run.search_id is not None)
    return next((store.searches.get(search).task for search in made), None)


def _check_preset(preset: str | None, stored: Sequence[SearchRecord], chosen: Sequence[SearchRecord]) -> None:
    if preset is None or not stored:
        return
    if preset not in (known := {sweep.preset or "" for sweep in stored}):
        raise UsageError(f"--preset {preset}: no sweep has it{nearest(preset, known)}")
    for sweep in chosen:
        if sweep.preset != preset:
            raise UsageError(f"--preset {preset}: sweep {sweep.sweep_id} has {sweep.preset}; leave one of them out")


def _of_optimizers(found: Sequence[SearchRecord], opts: Sequence[str]) -> list[SearchRecord]:
    """Those of the optimizers asked for; of all where none was named."""
    known = {str(sweep.settings.get("optimizer")) for sweep in found}
    for name in opts:
        if found and name not in known:
            hint = nearest(name, known) or f"; there are {', '.join(sorted(known))}"
            raise UsageError(f"--opt {name}: no such sweep{hint}")
    kept = [sweep for sweep in found if not opts or sweep.settings.get("optimizer") in opts]
    if (count := len({(_optimizer(sweep), sweep.sweep_id) for sweep in kept})) > MOST:
        raise UsageError(f"{count} sweeps are too many for one figure, which takes {MOST}; --opt narrows them")
    return kept


def _like(newest: SearchRecord, pool: Sequence[SearchRecord]) -> list[SearchRecord]:
    """Each optimizer's searches of its newest sweep that searched the same thing with the same budget."""

    def kind(sweep: SearchRecord) -> list[Any]:
        until = sweep.settings.get("settings", {}).get("until")
        return [sweep.trials, until, *(sweep.settings.get(name) for name in ALIKE)]

    found: dict[str, int] = {}
    for sweep in pool:
        if kind(sweep) == kind(newest):
            found.setdefault(_optimizer(sweep), sweep.sweep_id)
    chosen = [sweep for sweep in pool if found.get(_optimizer(sweep)) == sweep.sweep_id]
    return sorted(chosen, key=lambda sweep: (_optimizer(sweep), sweep.id))


def _optimizer(sweep: SearchRecord) -> str:
    return str(sweep.settings.get("optimizer", sweep.name))


def one_section(sweeps: Iterable[SearchRecord], name: str | None = None) -> str:
    """What all the searches of one figure are of.

    Args:
        name: of their task; as the searches know it by default.

    Raises:
        UsageError: they are of several tasks, data sets or presets.
    """
    seen = {
        (s.task, s.dataset, s.dataset_fingerprint, s.preset): f"{name or s.task} · {s.dataset} · {s.preset}"
        for s in sweeps
    }
    if len(seen) > 1:
        names = ", ".join(seen.values())
        raise UsageError(f"these sweeps are of different tasks, data sets or presets ({names}); name one")
    return next(iter(seen.values()))


def trials_of(
    reader: Reader, sweep: SearchRecord, runs: Mapping[int, RunRecord], metric: str, x: str
) -> tuple[list[Trial], int]:
    """The sweep's trials in the order in which they ended, with their curves; and how many are left out.

    Args:
        runs: by id, those that may be drawn.
    """
    everything = reader.store.searches.trials(sweep.id)
    records = [trial for trial in everything if trial.run_id in runs and _tells(trial)]
    read = reader.curves([runs[trial.run_id] for trial in records if trial.run_id is not None], [metric], x)
    found = []
    for trial in sorted(records, key=_ended):
        value = trial.value if trial.value is not None and trial.state != "diverged" else math.nan
        at, values = read.get((trial.run_id or 0, metric), ((), ()))
        found.append(Trial(trial.params, value, at, values, trial.number + 1))
    return found, len(everything) - len(found)


def _tells(trial: TrialRecord) -> bool:
    """Whether a trial says something of its settings: it diverged, or it has a value."""
    return trial.state == "diverged" or (trial.state in ("completed", "pruned") and trial.value is not None)


def _ended(trial: TrialRecord) -> tuple[str, int]:
    return (str(trial.finished_at), trial.number)


def by_search(trials: Sequence[Trial]) -> list[list[Trial]]:
    """The trials of each search, in order."""
    return [[t for t in trials if t.search == search] for search in dict.fromkeys(t.search for t in trials)]
