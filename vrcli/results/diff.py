"""Two runs side by side: what differs in settings, provenance, results and curves, and where curves part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vrcli.output import json_number
from vrcli.results.types import TIMINGS, NamedRun, Run

_SAME = ("task", "dataset", "dataset_fingerprint", "preset", "optimizer", "seed", "status", "error")


class Series(Protocol):
    """A curve, as far as it is compared."""

    @property
    def steps(self) -> Sequence[int]: ...
    @property
    def values(self) -> Sequence[float]: ...


@dataclass(frozen=True)
class Difference:
    """One thing that both runs may have.

    Args:
        a: of the first run; None where it has none.
        b: of the second.
    """

    name: str
    a: Any
    b: Any

    @property
    def equal(self) -> bool:
        """Whether both are the same; NaN equals NaN."""
        return _same(self.a, self.b)


@dataclass(frozen=True)
class CurveDifference:
    """One curve of both runs.

    Args:
        points: how many the first has, and the second.
        common: steps that both have.
        first_step: the first step where they differ, or that only one has although the other goes on; None where all
            common steps agree.
        first: both values there; None for the one that has none.
        largest: the largest difference of finite values; NaN where there is none to compare.
        largest_step: where it is.
    """

    metric: str
    points: tuple[int, int]
    common: int
    first_step: int | None
    first: tuple[float | None, float | None]
    largest: float
    largest_step: int | None

    @property
    def identical(self) -> bool:
        """The same steps and the same bits."""
        return self.first_step is None and self.points[0] == self.points[1]

    @property
    def agrees(self) -> bool:
        """The same bits as far as both go, of which there are some."""
        return self.first_step is None and self.common > 0


@dataclass(frozen=True)
class RunDifference:
    """All of it.

    Args:
        identity: task, data, preset, optimizer, seed, status.
        settings: every setting that either has.
    """

    identity: tuple[Difference, ...]
    settings: tuple[Difference, ...]
    provenance: tuple[Difference, ...]
    results: tuple[Difference, ...]
    curves: tuple[CurveDifference, ...]

    def computed(self) -> tuple[CurveDifference, ...]:
        """Curves of what was computed, without those that tell the time."""
        return tuple(curve for curve in self.curves if curve.metric not in TIMINGS)

    @property
    def same_curves(self) -> bool:
        """Whether both computed the same, bit for bit, from beginning to end."""
        return bool(self.computed()) and all(curve.identical for curve in self.computed())

    def first_difference(self) -> CurveDifference | None:
        """The curve that parts first."""
        parted = [curve for curve in self.computed() if curve.first_step is not None]
        return min(parted, key=lambda curve: (curve.first_step or 0, curve.metric), default=None)


def compare(a: Run, b: Run, curves_a: Mapping[str, Series], curves_b: Mapping[str, Series]) -> RunDifference:
    """Compare two runs and their curves by metric."""
    return RunDifference(
        identity=tuple(Difference(name, getattr(a, name, None), getattr(b, name, None)) for name in _SAME),
        settings=pairs(a.settings, b.settings),
        provenance=pairs(*(flatten(run.provenance) for run in (a, b))),
        results=pairs(a.results, b.results),
        curves=tuple(
            compare_curves(name, curves_a.get(name), curves_b.get(name))
            for name in dict.fromkeys([*curves_a, *curves_b])
        ),
    )


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one: {"git": {"commit": ...}} has git.commit."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Values by name side by side, in the order of the first."""
    return tuple(Difference(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b]))


def compare_curves(metric: str, a: Series | None, b: Series | None) -> CurveDifference:
    """Where two curves part.

    One that simply ends earlier parts nowhere; one that lacks a step in between does.
    """
    steps_a, values_a = _arrays(a)
    steps_b, values_b = _arrays(b)
    common, at_a, at_b = np.intersect1d(steps_a, steps_b, assume_unique=True, return_indices=True)
    x, y = values_a[at_a], values_b[at_b]
    unequal = (x.view(np.int64) != y.view(np.int64)) & ~(np.isnan(x) & np.isnan(y))
    end = min(steps_a[-1], steps_b[-1]) if len(steps_a) and len(steps_b) else -1
    single = np.setxor1d(steps_a, steps_b, assume_unique=True)
    parted = [*common[unequal][:1].tolist(), *single[single <= end][:1].tolist()]
    first = min(parted, default=None)
    largest, largest_step = _largest(common, x, y)
    return CurveDifference(
        metric=metric,
        points=(len(steps_a), len(steps_b)),
        common=len(common),
        first_step=first,
        first=(_at(first, steps_a, values_a), _at(first, steps_b, values_b)),
        largest=largest,
        largest_step=largest_step,
    )


def _arrays(series: Series | None) -> tuple[Any, Any]:
    if series is None:
        return np.empty(0, dtype=np.int64), np.empty(0)
    return np.asarray(series.steps, dtype=np.int64), np.asarray(series.values, dtype=np.float64)


def _largest(steps: Any, x: Any, y: Any) -> tuple[float, int | None]:
    both = np.isfinite(x) & np.isfinite(y)
    if not both.any():
        return math.nan, None
    distance = np.abs(x[both] - y[both])
    index = int(distance.argmax())
    return float(distance[index]), int(steps[both][index])


def _at(step: int | None, steps: Any, values: Any) -> float | None:
    if step is None:
        return None
    found = np.flatnonzero(steps == step)
    return float(values[found[0]]) if len(found) else None


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    return isinstance(a, bool) is isinstance(b, bool) and bool(a == b)


def difference_json(a: NamedRun, b: NamedRun, found: RunDifference) -> dict[str, Any]:
    """The comparison as plain JSON values."""

    def plain(value: Any) -> Any:
        return json_number(value) if isinstance(value, float) else value

    def listed(pairs: Sequence[Difference]) -> list[dict[str, Any]]:
        return [{"name": p.name, "a": plain(p.a), "b": plain(p.b), "equal": p.equal} for p in pairs]

    curves = [
        {
            "metric": c.metric, "points": list(c.points), "common": c.common, "identical": c.identical,
            "first_step": c.first_step, "first": [plain(value) for value in c.first],
            "largest": plain(c.largest), "largest_step": c.largest_step,
        }
        for c in found.curves
    ]  # fmt: skip
    return {
        "a": a.id, "b": b.id, "same_spec": a.spec_id == b.spec_id, "bit_identical": found.same_curves,
        "identity": listed(found.identity), "settings": listed(found.settings), "results": listed(found.results),
        "curves": curves, "provenance": listed(found.provenance),
    }  # fmt: skip
