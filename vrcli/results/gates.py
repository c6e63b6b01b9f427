"""What the gate of a velocity-regularised optimizer did: its range, and how often it was at its bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store

#: The curve of the gate, by which such an optimizer is known.
CURVE = "gate"
#: Relative distance from the bound within which a step counts as at it: gates are stored from float32.
_CLOSE = 1e-5


@dataclass(frozen=True)
class Gate:
    """The gates of all steps of an optimizer's runs.

    Args:
        runs: that recorded one.
        bounds: the lowest and the highest of the runs' bounds, 1 / (1 + lr_cutoff).
        at_bound: share of the steps at it.
    """

    optimizer: str
    runs: int
    mean: float
    low: float
    high: float
    bounds: tuple[float, float]
    at_bound: float


def gates(store: Store, runs: Mapping[str, Sequence[RunRecord]]) -> list[Gate]:
    """Of every optimizer that has gates.

    Args:
        runs: by optimizer.
    """
    found = ((name, _of(store, own)) for name, own in runs.items())
    return [Gate(name, *numbers) for name, numbers in found if numbers is not None]


def _of(store: Store, runs: Sequence[RunRecord]) -> tuple[int, float, float, float, tuple[float, float], float] | None:
    steps: list[Any] = []
    at_bound, bounds = [], []
    for run in runs:
        curve = store.curves.read(run.id, CURVE).get((run.id, CURVE))
        cutoff = run.spec.get("optimizer_settings", {}).get("lr_cutoff")
        if curve is None or cutoff is None:
            continue
        values = np.asarray(curve.values)
        values = values[np.isfinite(values)]
        bounds.append(1 / (1 + cutoff))
        at_bound.append(values <= bounds[-1] * (1 + _CLOSE))
        steps.append(values)
    if not steps:
        return None
    every = np.concatenate(steps)
    if not every.size:
        return None
    share = float(np.concatenate(at_bound).mean())
    return len(steps), float(every.mean()), float(every.min()), float(every.max()), (min(bounds), max(bounds)), share
