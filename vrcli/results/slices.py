"""What was measured on the line between two runs and on a plane through one, as it is kept with a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store

#: Weights that runs keep.
KINDS = ("best", "last")
#: Between which the last update leads.
UPDATE = ("before-last", "last")


@dataclass(frozen=True)
class Path:
    """Metrics along the line.

    Args:
        which: weights of both runs, best or last; update for the line from those before a run's last step.
        at: share of the way: from the first run at 0 to the second at 1, or of the step, beyond which the line goes on.
        values: at each of them, by metric with its split before it: `val_loss`.
    """

    which: str
    at: Sequence[float]
    values: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Plane:
    """Metrics on the plane.

    Args:
        which: weights in its middle, best or last.
        at: shares of either direction, from -span to span.
        seed: of the directions.
        values: by metric with its split before it: for each share of the second direction the values over those of the
            first.
    """

    which: str
    at: Sequence[float]
    seed: int
    values: Mapping[str, Sequence[Sequence[float]]]


def name_of(which: str, second: RunRecord) -> str:
    """Of the file among the artifacts of the first run; it says the second one's identity in any database."""
    return f"measured.path.{which}.{second.uuid}.json"


def name_of_update() -> str:
    """Of the file among the artifacts of the run."""
    return "measured.update.json"


def name_of_plane(which: str) -> str:
    """Of the file among the artifacts of the run."""
    return f"measured.plane.{which}.json"


def two_runs(store: Store, first: str, second: str) -> tuple[RunRecord, RunRecord]:
    """Two runs, by number or name.

    Raises:
        UsageError: they are one.
    """
    a, b = store.runs.get(first), store.runs.get(second)
    if a.id == b.id:
        raise UsageError(f"{first} and {second} are the same run; name two")
    return a, b


def stored(store: Store, first: RunRecord, second: RunRecord, which: str | None = None) -> Path | None:
    """What is kept of two runs, whichever of them was the first when it was measured.

    Args:
        which: best or last; None for the first of these that is there.
    """
    for kind in KINDS if which is None else (which,):
        for one, other in ((first, second), (second, first)):
            if (body := _kept(store, one, name_of(kind, other))) is not None:
                columns = body if one is first else {key: own[::-1] for key, own in body.items()}
                at = columns.pop("t")
                return Path(kind, at if one is first else [1 - t for t in at], columns)
    return None


def stored_update(store: Store, run: RunRecord) -> Path | None:
    """What is kept of a run's last update."""
    if (columns := _kept(store, run, name_of_update())) is None:
        return None
    return Path("update", columns.pop("t"), columns)


def stored_plane(store: Store, run: RunRecord, which: str | None = None) -> Plane | None:
    """What is kept of a run; `which` as of `stored`."""
    for kind in KINDS if which is None else (which,):
        if (body := _kept(store, run, name_of_plane(kind))) is not None:
            return Plane(kind, **body)
    return None


def _kept(store: Store, run: RunRecord, name: str) -> dict[str, Any] | None:
    if any(file.name == name for file in store.artifacts.select(run.id)):
        body: dict[str, Any] = json.loads(store.artifacts.read(run.id, name))
        return body
    return None
