"""Writing a recorded run down and going on with it, in checkpoints as those of every run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vrcli.db.location import Location

if TYPE_CHECKING:
    import torch

    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.execute.checkpoints import Found


def captured(objects: Mapping[str, Any], device: torch.device | None) -> dict[str, Any]:
    """The state of the objects, and of the generators."""
    import torch

    from vrcli.engine import checkpoint, kept

    return {
        "objects": kept.captured(objects), "generators": checkpoint.generators(device or torch.device("cpu")),
    }  # fmt: skip


def put_back(objects: Mapping[str, Any], state: Mapping[str, Any], device: torch.device | None) -> None:
    """What `captured` gave, into the same objects.

    Raises:
        UsageError: they are others.
    """
    import torch

    from vrcli.engine import checkpoint, kept

    kept.put_back(objects, state["objects"])
    checkpoint.restore_generators(state["generators"], device or torch.device("cpu"))


def plain(state: Mapping[str, Any] | None, name: str) -> Any:
    """A plain value that was saved."""
    from vrcli.engine import kept

    return kept.plain_value(None if state is None else state["objects"], name)


def save(run: tuple[Store, RunRecord], step: int, state: Mapping[str, Any]) -> None:
    """Write a checkpoint; where that fails the run goes on, and a warning says so."""
    from vrcli.execute.checkpoints import Checkpoints, Unsaved

    store, record = run
    shelf = Checkpoints.asked("60s", None).of(store.location, record)
    try:
        shelf.save(step, state, recorded=store.curves.last_step(record.id))
    except OSError as error:
        warnings.warn(str(Unsaved(error.strerror or str(error))), stacklevel=3)


def take_up(location: Location, spec_id: str, tag: str | None) -> tuple[Store, RunRecord, Mapping[str, Any]] | None:
    """The newest interrupted run of this spec that has a checkpoint, begun again from there in this process."""
    from vrcli.db.store import Store

    if location.path is not None and not location.path.exists():
        return None
    store = Store.open(location, mode="write")
    if (newest := _newest(store, spec_id, tag, ("interrupted", "failed"))) is not None:
        run, found = newest
        return store, store.runs.resume(run.id, step=found.step), found.state
    store.close()
    return None


def look_up(location: Location, spec_id: str, tag: str | None) -> Mapping[str, Any] | None:
    """What `take_up` finds or has found in another process."""
    from vrcli.db.store import Store

    if location.path is not None and not location.path.exists():
        return None
    with Store.open(location, mode="read") as store:
        newest = _newest(store, spec_id, tag, ("interrupted", "failed", "running"))
    return None if newest is None else newest[1].state


def _newest(store: Store, spec_id: str, tag: str | None, status: Sequence[str]) -> tuple[RunRecord, Found] | None:
    from vrcli.execute.checkpoints import Checkpoints

    for run in store.runs.select(spec_id=spec_id, status=status, results=()):
        if run.tag != tag:
            continue
        shelf = Checkpoints.asked("60s", None).known(store.location, run)
        found, problem = shelf.newest(recorded=store.curves.last_step(run.id))
        if problem:
            warnings.warn(f"run {run.id}: {problem}", stacklevel=5)
        if found is not None:
            return run, found
    return None


def remove(store: Store, run: RunRecord) -> None:
    """Remove what a run that has ended wrote."""
    from vrcli.execute import checkpoints

    checkpoints.remove(store.location, run)
