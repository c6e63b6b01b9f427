"""The line between the weights of two stored runs: which runs have one, and measuring along it."""

from __future__ import annotations

from pathlib import Path as Folder
from typing import TYPE_CHECKING

from vrcli.errors import UsageError
from vrcli.results.paths import KINDS, Path, name_of, two_runs
from vrcli.study.again import check_ended, requested

if TYPE_CHECKING:
    from vrcli.execute.again import StoredRun
    from vrcli.search.record import Store


#: Each point evaluates every split; a figure shows no more.
MOST_POINTS = 1000


def measure(
    store: Store, first: str, second: str, *, which: str | None = None, points: int = 25, data_dir: Folder | None = None
) -> tuple[StoredRun, StoredRun, Path]:
    """Measure the task's metrics between two runs, and keep them with the first.

    Args:
        first: number or name.
        which: weights, best or last; None for the first of these that both kept.
        points: on the line, both ends among them.

    Raises:
        UsageError: the runs are one, of different tasks, settings or data, or did not keep their weights.
        UnknownTask: their task is not installed.
    """
    if which not in (None, *KINDS):
        raise UsageError(f"--weights must be {' or '.join(KINDS)}, got {which}")
    if not 2 <= points <= MOST_POINTS:
        raise UsageError(f"--points must be in 2..{MOST_POINTS:,}, got {points}")
    a, b = two_runs(store, first, second)
    for run in (a, b):
        check_ended(run, finished=True)
    _comparable(a, b)
    kept = _kept(store, a, b, which)
    if name_of(kept, a) in {file.name for file in store.artifacts.select(b.id)}:
        a, b = b, a  # measured before from the other end: this takes its place
    task, request, _ = requested(a)

    from vrcli.execute.path import measure as measure_kept

    name = name_of(kept, b)
    found = measure_kept(store, a, b, kept, name, points, task=task, request=request, data_dir=data_dir)
    at = found.pop("t")
    return a, b, Path(kept, at, found)


def _comparable(a: StoredRun, b: StoredRun) -> None:
    """Refuse runs whose losses are not one function of the weights."""
    both = f"run {a.id} and run {b.id}"
    if a.task != b.task:
        raise UsageError(f"{both} are of different tasks, {a.task} and {b.task}; a path needs one loss")
    if a.dataset_fingerprint != b.dataset_fingerprint:
        raise UsageError(f"{both} have different data, {a.dataset} and {b.dataset}; a path needs one loss")
    ours, theirs = (run.spec.get("task_settings", {}) for run in (a, b))
    if differing := [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]:
        name = differing[0]
        raise UsageError(
            f"{both} have different settings of {a.task}: {name} is {ours.get(name)} and {theirs.get(name)}; a path "
            "needs one architecture and one loss"
        )


def _kept(store: Store, a: StoredRun, b: StoredRun, which: str | None) -> str:
    """Weights that both runs kept."""
    files = {run.id: {file.name for file in store.artifacts.select(run.id)} for run in (a, b)}
    wanted = KINDS if which is None else (which,)
    for kind in wanted:
        if all(f"weights.{kind}.safetensors" in own for own in files.values()):
            return kind
    lacking = next(id for id, own in files.items() if f"weights.{wanted[0]}.safetensors" not in own)
    raise UsageError(
        f"run {lacking} did not keep its {wanted[0]} weights; vr run {a.task} ... --keep-weights {wanted[0]} keeps them"
    )
