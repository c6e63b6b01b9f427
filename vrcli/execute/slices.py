"""The loss along the line between two stored runs, measured once and kept with the first of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.engine import weights
from vrcli.engine.prepare import prepare
from vrcli.engine.slices import path
from vrcli.errors import UsageError, contained
from vrcli.tasks.loop import LoopTask

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.spec import Request
    from vrcli.tasks.base import Task


def measure(
    store: Store, first: RunRecord, second: RunRecord, which: str, name: str, points: int, *, task: type[Task[Any]],
    request: Request, data_dir: Path | None = None,
) -> dict[str, list[float]]:  # fmt: skip
    """Measure at evenly spaced points, ends included, and keep it with the first run.

    Args:
        which: weights that both kept, best or last.
        name: of the file.
        task: of both runs.
        request: of the first one, which says on what data and device.

    Raises:
        UsageError: the task's loop is its own, the data are others now, or the weights do not fit each other.
    """
    if issubclass(task, LoopTask):
        raise UsageError(f"{first.task} trains in a loop of its own; nobody but that loop can evaluate its weights")
    with contained():
        prepared = prepare(request, task, data_dir=data_dir)
    if prepared.spec.dataset_fingerprint != first.dataset_fingerprint:
        raise UsageError(f"the data are not those of run {first.id}: {prepared.spec.dataset} has other content now")
    one, other = (weights.decoded(store.artifacts.read(run.id, weights.name_of(which))) for run in (first, second))
    if _shapes(one) != _shapes(other) or _shapes(one) != _shapes(prepared.model.state_dict()):
        raise UsageError(f"the networks of run {first.id} and run {second.id} differ; a path needs one architecture")
    at = [place / (points - 1) for place in range(points)]
    found = {"t": at, **path(prepared, one, other, at)}
    store.artifacts.attach(first.id, name, json.dumps(found).encode())
    return found


def _shapes(entries: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in entries.items()}
