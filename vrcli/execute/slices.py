"""The loss along the line between two stored runs and on a plane through one, measured once and kept with a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.engine import slices, weights
from vrcli.engine.prepare import Prepared, prepare
from vrcli.errors import UsageError, contained
from vrcli.tasks.loop import LoopTask

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.spec import Request
    from vrcli.tasks.base import Task

#: The refusal of kept weights that the task's network cannot take any more.
_OTHER_NETWORK = "the network of {task} is now another than that of run {id}"


def check_task(run: RunRecord, task: type[Task[Any]]) -> None:
    """Refuse a run whose weights nobody can evaluate.

    Raises:
        UsageError: the task's loop is its own.
    """
    if issubclass(task, LoopTask):
        raise UsageError(f"{run.task} trains in a loop of its own; nobody but that loop can evaluate its weights")


def along_line(
    store: Store, ends: Sequence[tuple[RunRecord, str]], name: str, at: Sequence[float], *,
    task: type[Task[Any]], request: Request, data_dir: Path | None = None,
) -> dict[str, list[float]]:  # fmt: skip
    """Measure on the line between two sets of weights and keep it with the run that has the first.

    Args:
        ends: runs, and which of the weights that each kept.
        name: of the file.
        at: shares of the way.
        task: of both ends.
        request: of one of them, which says on what data and device.

    Raises:
        UsageError: the data are others now, the weights do not fit each other, or a last step moved none of them.
    """
    (first, _), (second, _) = ends
    prepared = _prepared(first, task, request, data_dir)
    one, other = (_read(store, run, which) for run, which in ends)
    if not _shapes(one) == _shapes(other) == _shapes(prepared.model.state_dict()):
        if first.id == second.id:
            raise UsageError(_OTHER_NETWORK.format(task=first.task, id=first.id))
        raise UsageError(f"the networks of run {first.id} and run {second.id} differ, or {first.task} has another now; "
                         "a path needs one architecture")  # fmt: skip
    if first.id == second.id and all(one[name].equal(other[name]) for name, _ in prepared.model.named_parameters()):
        raise UsageError(
            f"the last step of run {first.id} moved no weight, as schedules that end at a learning rate of 0 have it; "
            f"vr run {first.task} ... --schedule constant --keep-weights update has a step to look at"
        )
    found = slices.measured(prepared, slices.line(one, other, at))
    _keep(store, first, name, {"t": at, **found})
    return found


def on_plane(
    store: Store, run: RunRecord, which: str, name: str, at: Sequence[float], seed: int, *,
    task: type[Task[Any]], request: Request, data_dir: Path | None = None,
) -> dict[str, list[list[float]]]:  # fmt: skip
    """Measure on a plane through a run and keep it with the run; arguments as of `along_line`.

    Args:
        at: shares of either direction.
        seed: of the directions.

    Returns:
        By name of the metric: for each share of the second direction the values over those of the first.

    Raises:
        UsageError: the data are others now, the weights are of another network, or it has no filters.
    """
    prepared = _prepared(run, task, request, data_dir)
    middle = _read(store, run, which)
    if _shapes(middle) != _shapes(prepared.model.state_dict()):
        raise UsageError(_OTHER_NETWORK.format(task=run.task, id=run.id))
    x, y = slices.directions(prepared.model, middle, seed)
    if not x:
        raise UsageError(f"no parameter of {run.task} has two dimensions; a plane needs filters or rows to normalise")
    values = slices.measured(prepared, slices.plane(middle, x, y, at))
    found = {key: [own[start : start + len(at)] for start in range(0, len(own), len(at))]
             for key, own in values.items()}  # fmt: skip
    _keep(store, run, name, {"at": at, "seed": seed, "values": found})
    return found


def _prepared(run: RunRecord, task: type[Task[Any]], request: Request, data_dir: Path | None) -> Prepared:
    with contained():
        prepared = prepare(request, task, data_dir=data_dir)
    if prepared.spec.dataset_fingerprint != run.dataset_fingerprint:
        raise UsageError(f"the data are not those of run {run.id}: {prepared.spec.dataset} has other content now")
    return prepared


def _read(store: Store, run: RunRecord, which: str) -> slices.Weights:
    return weights.decoded(store.artifacts.read(run.id, weights.name_of(which)))


def _keep(store: Store, run: RunRecord, name: str, found: Mapping[str, Any]) -> None:
    store.artifacts.attach(run.id, name, json.dumps(found).encode())


def _shapes(entries: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in entries.items()}
