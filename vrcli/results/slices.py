"""What was measured along the line between the weights of two runs, as it is kept with one of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vrcli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store

#: Weights that runs keep.
KINDS = ("best", "last")


@dataclass(frozen=True)
class Path:
    """Metrics along the line.

    Args:
        which: weights of both runs, best or last.
        at: share of the way from the first run to the second, from 0 to 1.
        values: at each of them, by metric with its split before it: `val_loss`.
    """

    which: str
    at: Sequence[float]
    values: Mapping[str, Sequence[float]]


def name_of(which: str, second: RunRecord) -> str:
    """Of the file among the artifacts of the first run; it says the second one's identity in any database."""
    return f"measured.path.{which}.{second.uuid}.json"


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
            name = name_of(kind, other)
            if any(file.name == name for file in store.artifacts.select(one.id)):
                body = json.loads(store.artifacts.read(one.id, name))
                columns = body if one is first else {key: own[::-1] for key, own in body.items()}
                at = columns.pop("t")
                return Path(kind, at if one is first else [1 - t for t in at], columns)
    return None
