"""Taking up an interrupted run where its last checkpoint left it, under its own number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from vrcli.db.store import Store, StoreError
from vrcli.engine.events import Artifact
from vrcli.engine.prepare import Prepared, planned_steps
from vrcli.engine.probes.asked import Probing
from vrcli.execute.checkpoints import Shelf
from vrcli.execute.job import Lineage
from vrcli.tasks.loop import LoopTask

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.spec import RunSpec

#: In a checkpoint: points and files that the database had not taken when it was written.
_UNWRITTEN = "unwritten"
Points = Mapping[str, tuple[Sequence[int], Sequence[float]]]


@dataclass(frozen=True)
class Taken:
    """A run that this process has taken up.

    Args:
        state: for `vrcli.engine.loop.train`; None where it begins again.
    """

    record: RunRecord
    state: dict[str, Any] | None = None


def interrupted(store: Store, spec: RunSpec, lineage: Lineage, probing: Probing) -> RunRecord | None:
    """The newest interrupted run of this spec that belongs to the same and is measured so, whatever command it came
    from."""
    place = (lineage.search_id, lineage.trial_id, lineage.tag, lineage.variant or spec.optimizer)
    found = store.runs.select(spec_id=spec.spec_id, status="interrupted", results=())
    same = (run for run in found if (run.search_id, run.trial_id, run.tag, run.optimizer) == place)
    return next((run for run in same if probing.done_in(run.provenance)), None)


def take_up(store: Store, run: RunRecord, shelf: Shelf, prepared: Prepared, notice: Callable[[str], object]) -> Taken:
    """Begin a stored run again from its newest checkpoint that can be used, or from the start where there is none.

    What it recorded after that is removed.

    Raises:
        StoreError: it has ended, or a living process runs it.
    """
    found, problem = shelf.newest(recorded=store.curves.last_step(run.id))
    record = store.runs.resume(run.id, step=found.step if found else 0)
    if problem:
        notice(f"run {run.id}: {problem}")
    if found is None:
        if run.trial_id is None:  # of a trial it says that its sweep goes on
            notice(f"run {run.id} has no checkpoint and begins again")
        return Taken(record)
    for kept in found.state.pop(_UNWRITTEN, ()):
        _write(store, run.id, kept)
    training = prepared.spec.training
    _, total = planned_steps(training, prepared.samples, prepared.capabilities)
    if isinstance(prepared.task, LoopTask):  # it alone knows how long an epoch is
        notice(f"run {run.id} resumes at step {found.step}")
    else:
        notice(f"run {run.id} resumes at step {found.step} of {total or training.until}")
    return Taken(record, found.state)


def taken_meanwhile(error: StoreError, store: Store, run: RunRecord) -> bool:
    """Whether a run could not be taken up because another process was quicker."""
    return type(error) is StoreError and store.runs.get(run.id).status != "interrupted"


def unwritten(held: Sequence[Points | Artifact]) -> dict[str, Any]:
    """What a database has not taken, for a checkpoint."""
    return {_UNWRITTEN: [_plain(one) for one in held]}


def _plain(one: Points | Artifact) -> list[Any]:
    if isinstance(one, Artifact):
        return [one.name, one.step, torch.frombuffer(bytearray(one.data), dtype=torch.uint8) if one.data else None]
    return [{name: [list(steps), list(values)] for name, (steps, values) in one.items()}]


def _write(store: Store, run_id: int, kept: Sequence[Any]) -> None:
    if len(kept) == 1:
        store.curves.add(run_id, {name: (steps, values) for name, (steps, values) in kept[0].items()})
        return
    name, step, data = kept
    store.artifacts.keep(run_id, name, b"" if data is None else data.numpy().tobytes(), step=step)
