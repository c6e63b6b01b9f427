"""Stored sweeps as the figures of searches want them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError, nearest

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord, SearchRecord, TrialRecord
    from vrcli.db.store import Store
    from vrcli.report.figures.sweeps import Trial

#: What sweeps must share for their optimizers to stand side by side.
ALIKE = ("task", "preset", "dataset", "dataset_fingerprint", "epochs", "seeds", "search")
#: Optimizers beyond which the panels of one figure are too narrow.
MOST = 6


def named(store: Store, words: Sequence[str], opts: Sequence[str], preset: str | None) -> list[SearchRecord]:
    """The sweeps asked for by number or name, and of each task named, or of all, the newest with its like.

    Args:
        words: sweeps, or tasks of which the newest is meant.

    Raises:
        UsageError: an optimizer or preset that none of them has, a sweep of another preset, or too many for one
            figure.
    """
    stored = store.searches.select()
    tasks = [word for word in dict.fromkeys(words) if word in {sweep.task for sweep in stored}]
    refs = [store.sweeps.get(word).id for word in words if word not in tasks]
    found = {search.id: search for ref in refs for search in store.searches.select(sweep=ref)[::-1]}
    _check_preset(preset, stored, list(found.values()))
    pool = [sweep for sweep in stored if preset is None or sweep.preset == preset]
    for members in [[s for s in pool if s.task == task] for task in tasks] or [pool] * (not words):
        if members:
            newest = next((s for s in members if not opts or s.settings.get("optimizer") in opts), members[0])
            found |= {sweep.id: sweep for sweep in _like(newest, members)}
        elif tasks:
            there = {s.task for s in pool}
            missing = ", ".join(task for task in tasks if task not in there)
            raise UsageError(f"--preset {preset}: no sweep of {missing} has it")
    return _of_optimizers(list(found.values()), opts)


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
            raise UsageError(f"--opt {name}: no such sweep{nearest(name, known) or '; there are ' + ', '.join(known)}")
    kept = [sweep for sweep in found if not opts or sweep.settings.get("optimizer") in opts]
    if len(kept) > MOST:
        raise UsageError(f"{len(kept)} sweeps are too many for one figure, which takes {MOST}; --opt narrows them")
    return kept


def _like(newest: SearchRecord, pool: Sequence[SearchRecord]) -> list[SearchRecord]:
    """The newest sweep of each optimizer that searched the same thing with the same budget."""

    def kind(sweep: SearchRecord) -> list[Any]:
        return [sweep.trials, *(sweep.settings.get(name) for name in ALIKE)]

    found: dict[str, SearchRecord] = {}
    for sweep in pool:
        if kind(sweep) == kind(newest):
            found.setdefault(str(sweep.settings.get("optimizer")), sweep)
    return [found[name] for name in sorted(found)]


def titles(sweeps: Sequence[SearchRecord]) -> list[str]:
    """Each sweep by its optimizer, with its number where an optimizer has several."""
    names = [str(sweep.settings.get("optimizer", sweep.name)) for sweep in sweeps]
    return [
        f"{name} (sweep {sweep.sweep_id})" if names.count(name) > 1 else name
        for name, sweep in zip(names, sweeps, strict=True)
    ]


def one_section(sweeps: Iterable[SearchRecord]) -> str:
    """What all the searches of one figure are of.

    Raises:
        UsageError: they are of several tasks, data sets or presets.
    """
    seen = {f"{s.task} · {s.dataset} · {s.preset}": s.id for s in sweeps}
    if len(seen) > 1:
        raise UsageError(f"these sweeps are of different tasks, data sets or presets ({', '.join(seen)}); name one")
    return next(iter(seen))


def trials_of(
    store: Store, sweep: SearchRecord, runs: dict[int, RunRecord], metric: str, x: str
) -> tuple[list[Trial], int]:
    """The sweep's trials in the order in which they ended, with their curves; and how many are left out.

    Failed and unfinished ones are left out: they say nothing of their settings.

    Args:
        runs: by id, those that may be drawn.
    """
    import math

    from vrcli.cli.plot_data import curves
    from vrcli.report.figures.sweeps import Trial as Drawn

    everything = store.searches.trials(sweep.id)
    records = [trial for trial in everything if trial.run_id in runs and _tells(trial)]
    read = curves(store, [runs[trial.run_id] for trial in records if trial.run_id is not None], [metric], x)
    found = []
    for trial in sorted(records, key=_ended):
        value = trial.value if trial.value is not None and trial.state != "diverged" else math.nan
        at, values = read.get((trial.run_id or 0, metric), ((), ()))
        found.append(Drawn(trial.params, value, at, values, trial.number + 1))
    return found, len(everything) - len(found)


def _tells(trial: TrialRecord) -> bool:
    """Whether a trial says something of its settings: it diverged, or it has a value."""
    return trial.state == "diverged" or (trial.state in ("completed", "pruned") and trial.value is not None)


def _ended(trial: TrialRecord) -> tuple[str, int]:
    return (str(trial.finished_at), trial.number)
