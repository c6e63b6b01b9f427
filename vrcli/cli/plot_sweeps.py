"""Stored sweeps as the figures of searches want them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError, nearest

if TYPE_CHECKING:
    from db.records import RunRecord, SweepRecord, TrialRecord
    from db.store import Store
    from vrcli.report.sweep_figures import Trial

#: What sweeps must share for their optimizers to stand side by side.
ALIKE = ("task", "preset", "dataset", "dataset_fingerprint", "epochs", "seeds", "search")
#: Optimizers beyond which the panels of one figure are too narrow.
MOST = 6


def named(store: Store, words: Sequence[str], opts: Sequence[str], preset: str | None) -> list[SweepRecord]:
    """The sweeps asked for by number or name; by default the newest with its like, the newest of each optimizer.

    Args:
        words: sweeps, or tasks of which the newest is meant.

    Raises:
        UsageError: an optimizer or preset that none of them has, or too many for one figure.
    """
    stored = store.sweeps()
    tasks = [word for word in words if word in {sweep.task for sweep in stored}]
    refs = [word for word in words if word not in tasks]
    found = [store.sweep(ref) for ref in refs]
    pool = [sweep for sweep in stored if not tasks or sweep.task in tasks]
    pool = [sweep for sweep in pool if preset is None or sweep.preset == preset]
    if preset is not None and stored and not pool:
        raise UsageError(f"--preset {preset}: no sweep has it{nearest(preset, {s.preset or '' for s in stored})}")
    if not refs and pool:
        newest = next((s for s in pool if not opts or s.settings.get("optimizer") in opts), pool[0])
        found = _like(newest, pool)
    known = {str(sweep.settings.get("optimizer")) for sweep in found}
    for name in opts:
        if found and name not in known:
            raise UsageError(f"--opt {name}: no such sweep{nearest(name, known) or '; there are ' + ', '.join(known)}")
    found = [sweep for sweep in found if not opts or sweep.settings.get("optimizer") in opts]
    if len(found) > MOST:
        raise UsageError(f"{len(found)} sweeps are too many for one figure, which takes {MOST}; --opt narrows them")
    return found


def _like(newest: SweepRecord, pool: Sequence[SweepRecord]) -> list[SweepRecord]:
    """The newest sweep of each optimizer that searched the same thing with the same budget."""

    def kind(sweep: SweepRecord) -> list[Any]:
        return [sweep.trials, *(sweep.settings.get(name) for name in ALIKE)]

    found: dict[str, SweepRecord] = {}
    for sweep in pool:
        if kind(sweep) == kind(newest):
            found.setdefault(str(sweep.settings.get("optimizer")), sweep)
    return [found[name] for name in sorted(found)]


def titles(sweeps: Sequence[SweepRecord]) -> dict[int, str]:
    """Each sweep by its optimizer, with its number where an optimizer has several."""
    names = {sweep.id: str(sweep.settings.get("optimizer", sweep.name)) for sweep in sweeps}
    again = [name for name in names.values() if list(names.values()).count(name) > 1]
    return {id: f"{name} (sweep {id})" if name in again else name for id, name in names.items()}


def one_section(sweeps: Iterable[SweepRecord]) -> None:
    """Refuse to draw searches of different things in one figure.

    Raises:
        UsageError: they are of several tasks, data sets or presets.
    """
    seen = {f"{s.task} · {s.dataset} · {s.preset}": s.id for s in sweeps}
    if len(seen) > 1:
        raise UsageError(f"these sweeps are of different tasks, data sets or presets ({', '.join(seen)}); name one")


def trials_of(
    store: Store, sweep: SweepRecord, runs: dict[int, RunRecord], metric: str, x: str
) -> tuple[list[Trial], int]:
    """The sweep's trials in the order in which they ended, with their curves; and how many are left out.

    Failed and unfinished ones are left out: they say nothing of their settings.

    Args:
        runs: by id, those that may be drawn.
    """
    import math

    from vrcli.cli.plot_data import curves
    from vrcli.report.sweep_figures import Trial as Drawn

    records = [trial for trial in store.trials(sweep.id) if trial.state in ("completed", "diverged", "pruned")]
    records = sorted((trial for trial in records if trial.run_id in runs), key=_ended)
    read = curves(store, [runs[trial.run_id] for trial in records if trial.run_id is not None], [metric], x)
    found = []
    for trial in records:
        value = trial.value if trial.value is not None and trial.state != "diverged" else math.nan
        at, values = read.get((trial.run_id or 0, metric), ((), ()))
        found.append(Drawn(trial.params, value, at, values))
    return found, len(store.trials(sweep.id)) - len(found)


def _ended(trial: TrialRecord) -> tuple[str, int]:
    return (str(trial.finished_at), trial.number)
