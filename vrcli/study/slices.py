"""Lines between kept weights and a plane through them: which runs have one, and measuring it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path as Folder
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError
from vrcli.results.slices import KINDS, UPDATE, Path, Plane, name_of, name_of_plane, name_of_update, two_runs
from vrcli.study.again import check_ended, requested

if TYPE_CHECKING:
    from vrcli.execute.again import StoredRun
    from vrcli.search.record import Store


#: Each point evaluates every split; a figure shows no more.
MOST_POINTS = 1000
#: Along one direction of a plane.
MOST_ACROSS = 101
#: Directions are as long as the weights: nearer to them there is nothing but rounding, farther off nothing of them.
LEAST_SPAN, MOST_SPAN = 1e-6, 100.0


def path(
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
    _check_which(which)
    if not 2 <= points <= MOST_POINTS:
        raise UsageError(f"--points must be in 2..{MOST_POINTS:,}, got {points}")
    a, b = two_runs(store, first, second)
    for run in (a, b):
        check_ended(run, finished=True)
    _comparable(a, b)
    about = _evaluable(store, a, data_dir)
    kept = _kept(store, (a, b), which)
    if name_of(kept, a) in {file.name for file in store.artifacts.select(b.id)}:
        a, b = b, a  # measured before from the other end: this takes its place

    from vrcli.execute.slices import along_line

    at = [place / (points - 1) for place in range(points)]
    return a, b, Path(kept, at, along_line(store, [(a, kept), (b, kept)], name_of(kept, b), at, **about))


def update(store: Store, ref: str, *, points: int = 25, data_dir: Folder | None = None) -> tuple[StoredRun, Path]:
    """Measure the task's metrics along the last update of a run, and as far again beyond it, and keep them with the
    run.

    Args:
        ref: number or name.
        points: on the line, both ends among them; odd, so that the end of the step is in the middle.

    Raises:
        UsageError: the run did not keep its weights before and after that step.
        UnknownTask: its task is not installed.
    """
    _check_odd(points, MOST_POINTS, "the end of the step")
    run = store.runs.get(ref)
    check_ended(run, finished=True)
    about = _evaluable(store, run, data_dir)
    there = {file.name for file in store.artifacts.select(run.id)}
    if any(_file_of(which) not in there for which in UPDATE):
        raise UsageError(
            f"run {run.id} did not keep its weights before its last step; vr run {run.task} ... --keep-weights update "
            "keeps them of a run that takes all of its steps"
        )

    from vrcli.execute.slices import along_line

    at = [2 * place / (points - 1) for place in range(points)]
    ends = [(run, which) for which in UPDATE]
    return run, Path("update", at, along_line(store, ends, name_of_update(), at, **about))


def plane(
    store: Store, ref: str, *, which: str | None = None, points: int = 21, span: float = 1.0, seed: int = 0,
    data_dir: Folder | None = None,
) -> tuple[StoredRun, Plane]:  # fmt: skip
    """Measure the task's metrics on a filter-normalised plane through a run, and keep them with it.

    Args:
        ref: number or name.
        which: weights, best or last; None for the first of these that the run kept.
        points: along either direction; odd, so that the weights themselves are in the middle.
        span: how far it reaches on either side; at 1 a filter is moved by its own length.
        seed: of the directions.

    Raises:
        UsageError: a number is out of range, or the run did not keep its weights or has no plane.
        UnknownTask: its task is not installed.
    """
    _check_which(which)
    _check_odd(points, MOST_ACROSS, "the run itself")
    if not LEAST_SPAN <= span <= MOST_SPAN:
        raise UsageError(f"--span must be in {LEAST_SPAN:g}..{MOST_SPAN:g}, got {span:g}")
    run = store.runs.get(ref)
    check_ended(run, finished=True)
    about = _evaluable(store, run, data_dir)
    kept = _kept(store, (run,), which)

    from vrcli.execute.slices import on_plane

    half = points // 2
    at = [span * place / half for place in range(-half, half + 1)]
    return run, Plane(kept, at, seed, on_plane(store, run, kept, name_of_plane(kept), at, seed, **about))


def _check_odd(points: int, most: int, middle: str) -> None:
    if not 3 <= points <= most or points % 2 == 0:
        raise UsageError(f"--points must be odd ({middle} is in the middle) and in 3..{most:,}, got {points}")


def _check_which(which: str | None) -> None:
    if which not in (None, *KINDS):
        raise UsageError(f"--weights must be {' or '.join(KINDS)}, got {which}")


def _evaluable(store: Store, run: StoredRun, data_dir: Folder | None) -> dict[str, Any]:
    """What evaluates weights of a run: its task, what is asked for, and where data are."""
    task, request, _ = requested(store, run)

    from vrcli.execute.slices import check_task

    check_task(run, task)
    return {"task": task, "request": request, "data_dir": data_dir}


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


def _kept(store: Store, runs: Sequence[StoredRun], which: str | None) -> str:
    """Weights that all of these runs kept."""
    files = {run.id: {file.name for file in store.artifacts.select(run.id)} for run in runs}
    wanted = KINDS if which is None else (which,)
    for kind in wanted:
        if all(_file_of(kind) in own for own in files.values()):
            return kind
    # The run that kept least is to blame, and what it lacks of what the other kept is the shortest way.
    lacking = min(files, key=lambda id: sum(_file_of(kind) in files[id] for kind in wanted))
    missing = [kind for kind in wanted if _file_of(kind) not in files[lacking]]
    kind = max(missing, key=lambda kind: sum(_file_of(kind) in own for own in files.values()))
    raise UsageError(
        f"run {lacking} did not keep its {kind} weights; vr run {runs[0].task} ... --keep-weights {kind} keeps them"
    )


def _file_of(which: str) -> str:
    return f"weights.{which}.safetensors"
