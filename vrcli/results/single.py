"""One run: its curves, its files, and what hangs on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError, no_curve
from vrcli.output import json_number
from vrcli.results.flat import as_json

if TYPE_CHECKING:
    from vrcli.db.records import Curve, RunRecord
    from vrcli.db.store import Store


#: As many of the newest runs are looked at for a hint.
MOST = 1000


def curves_of(store: Store, record: RunRecord, metrics: Iterable[str] = ()) -> dict[str, Curve]:
    """A run's curves by metric, all of them where none is named."""
    wanted = list(metrics) or None
    return {name: curve for (_, name), curve in store.curves.read(record.id, wanted).items()}


def optimizers_beside(store: Store, record: RunRecord) -> list[str]:
    """Other optimizers with which a run of the same class of task completed, the newest run's first."""
    place = record.provenance.get("task")
    runs = store.runs.select(task=record.task, status="completed", limit=MOST, results=()) if place else []
    found = dict.fromkeys(run.optimizer for run in runs if run.provenance.get("task") == place)
    return [name for name in found if name != record.optimizer]


def check_metrics(store: Store, records: Sequence[RunRecord], metrics: Sequence[str]) -> None:
    """Refuse curves that none of the runs has.

    Raises:
        UsageError: names the first of them.
    """
    known = store.curves.metrics([record.id for record in records]) if metrics else []
    of = f"run {records[0].id}" if len(records) == 1 else "these runs"
    for name in metrics:
        if name not in known:
            raise no_curve(name, known, of=of)


def in_full(record: RunRecord, curves: Mapping[str, Curve]) -> dict[str, Any]:
    """A run with its provenance and curves as plain JSON values."""
    series = {
        name: {"steps": list(curve.steps), "values": [json_number(value) for value in curve.values]}
        for name, curve in curves.items()
    }
    return {**as_json(record), "provenance": record.provenance, "curves": series}


def newest_picture(store: Store, record: RunRecord) -> bytes:
    """The run's newest picture.

    Raises:
        UsageError: it has none.
    """
    pictures = [a for a in store.artifacts.select(record.id) if a.media_type.startswith("image/")]
    if not pictures:
        raise UsageError(f"--samples: run {record.id} ({record.task}) has no pictures")
    newest = max(pictures, key=lambda a: a.step or 0)
    data: bytes = store.artifacts.read(record.id, newest.name)
    return data


@dataclass(frozen=True)
class Holdings:
    """What removing a run destroys besides its row.

    Args:
        sweep: name of the sweep that it belongs to.
    """

    points: int
    files: int
    bytes: int
    sweep: str | None


def holdings(store: Store, record: RunRecord) -> Holdings:
    """What hangs on a run."""
    files = store.artifacts.select(record.id)
    sweep = None if record.sweep_id is None else store.sweeps.get(record.sweep_id).name
    return Holdings(store.curves.count(record.id), len(files), sum(file.size for file in files), sweep)
