"""Search dimensions as numbers: points to and from the unit cube, and the `--space` notation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError
from vrcli.tasks.space import Categorical, Integer, Real, Value, parse_value
from vrcli.tasks.space import Dimension as Dimension
from vrcli.tasks.space import Space as Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Params = dict[str, Value]

NOTATION = "lr=log:1e-5:1e-1, beta3=0.1:5, lr_cutoff=int:5:30 or normgrad=true,false"

#: Real values are rounded to this many digits of the span (of the value, on a log axis): settings that can be typed.
DIGITS = 6


def parse_space(text: str) -> tuple[str, Dimension]:
    """One axis in the `--space` notation.

    `name=low:high` is real, `name=log:low:high` real on a log axis, `name=int:low:high` (or `int:log:`) whole numbers,
    `name=a,b,c` a choice; `true`, `false`, `none` and numbers among the choices are read as such.

    Raises:
        UsageError: the text is not one of these, or the range is empty or crosses zero on a log axis.
    """
    name, equals, body = text.partition("=")
    name, body = name.strip().lstrip("-").replace("-", "_"), body.strip()
    if not equals or not name.isidentifier() or not body:
        raise UsageError(f"{text!r} is not an axis; write {NOTATION}", "--space")
    try:
        return name, _dimension(body)
    except ValueError as error:
        raise UsageError(f"{text}: {error}; write {NOTATION}", "--space") from None


def _dimension(body: str) -> Dimension:
    if ":" not in body:
        choices = tuple(parse_value(part) for part in body.split(","))
        if len(choices) < 2:
            raise ValueError(f"{body!r} is a single value, as --fix takes")
        return Categorical(choices, origin="--space")
    *kinds, low, high = (part.strip() for part in body.split(":"))
    if len(set(kinds)) != len(kinds) or not set(kinds) <= {"log", "int"}:
        raise ValueError(f"{body!r} is not a range")
    log = "log" in kinds
    if "int" in kinds:
        return Integer(_whole(low), _whole(high), log=log, origin="--space")
    return Real(_number(low), _number(high), log=log, origin="--space")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _whole(text: str) -> int:
    number = _number(text)
    if not math.isfinite(number) or number != int(number):
        raise ValueError(f"{text!r} is not a whole number")
    return int(number)


def describe(space: Space) -> dict[str, dict[str, Any]]:
    """The space as plain data, for storing and comparing; origins left out, since they change no result."""
    return {name: _plain(axis) for name, axis in space.items()}


def _plain(axis: Dimension) -> dict[str, Any]:
    if isinstance(axis, Categorical):
        return {"kind": "choice", "choices": list(axis.choices)}
    kind = "real" if isinstance(axis, Real) else "int"
    return {"kind": kind, "low": axis.low, "high": axis.high, "log": axis.log}


def restore(plain: Mapping[str, Mapping[str, Any]], origins: Mapping[str, str] | None = None) -> dict[str, Dimension]:
    """The space that `describe` wrote."""
    space: dict[str, Dimension] = {}
    for name, axis in plain.items():
        origin = (origins or {}).get(name, "")
        if axis["kind"] == "choice":
            space[name] = Categorical(tuple(axis["choices"]), origin)
        elif axis["kind"] == "int":
            space[name] = Integer(axis["low"], axis["high"], axis["log"], origin)
        else:
            space[name] = Real(axis["low"], axis["high"], axis["log"], origin)
    return space


def ends(axis: Dimension) -> Sequence[Any]:
    """The values at the ends of an axis; of a choice all."""
    return axis.choices if isinstance(axis, Categorical) else (axis.low, axis.high)


class Axes:
    """A space with a fixed order of its axes, and its map onto the unit cube.

    Every axis takes one coordinate, except that a choice among m > 2 values takes m in `features` (one per value), so
    that a surrogate sees no order among them.

    Args:
        space: axes by name; sorted inside, so that the order in which they were written changes nothing but how points
            are shown.
    """

    def __init__(self, space: Space) -> None:
        self.shown = list(space)
        self.names = sorted(space)
        self.axes = [space[name] for name in self.names]

    def __len__(self) -> int:
        return len(self.names)

    def size(self) -> float:
        """How many different points there are: infinite as soon as one axis is real."""
        return math.prod(_cardinality(axis) for axis in self.axes)

    def point(self, unit: Sequence[float]) -> Params:
        """The settings at a point of the unit cube, rounded to what the axes can hold."""
        values = {name: _value(axis, u) for name, axis, u in zip(self.names, self.axes, unit, strict=True)}
        return {name: values[name] for name in self.shown}

    def unit(self, params: Mapping[str, Any]) -> list[float]:
        """The centre of the cell of the unit cube that `point` maps onto these settings."""
        return [_position(axis, params[name]) for name, axis in zip(self.names, self.axes, strict=True)]

    def features(self, points: Sequence[Mapping[str, Any]]) -> Array:
        """What a surrogate is given: (n, columns)."""
        import numpy as np

        rows = [
            [x for name, axis in zip(self.names, self.axes, strict=True) for x in _columns(axis, point[name])]
            for point in points
        ]
        return np.asarray(rows, dtype=float)

    def owners(self) -> list[str]:
        """The axis that each column of `features` belongs to."""
        return [
            name
            for name, axis in zip(self.names, self.axes, strict=True)
            for _ in range(len(_columns(axis, axis.choices[0])) if isinstance(axis, Categorical) else 1)
        ]

    def every(self) -> list[Params]:
        """All points of a space without a real axis, in a fixed order."""
        points: list[Params] = [{}]
        for name, axis in zip(self.names, self.axes, strict=True):
            if isinstance(axis, Real):
                raise ValueError("a real axis has no list of points")
            values = axis.choices if isinstance(axis, Categorical) else range(axis.low, axis.high + 1)
            points = [{**point, name: value} for point in points for value in values]
        return points


def key(params: Mapping[str, Any]) -> str:
    """What makes two points the same; 1, 1.0 and true stay different settings."""
    return repr(sorted(params.items()))


def _cardinality(axis: Dimension) -> float:
    if isinstance(axis, Categorical):
        return len(axis.choices)
    return math.inf if isinstance(axis, Real) else axis.high - axis.low + 1


def _columns(axis: Dimension, value: Any) -> list[float]:
    if isinstance(axis, Categorical) and len(axis.choices) > 2:
        chosen = _choice(axis, value)
        return [float(i == chosen) for i in range(len(axis.choices))]
    return [_position(axis, value)]


def _choice(axis: Categorical, value: Any) -> int:
    return [repr(choice) for choice in axis.choices].index(repr(value))


def _ends(axis: Real | Integer) -> tuple[float, float]:
    # Half a step beyond the ends of whole numbers, so that the first and the last have as much room as the others.
    margin = 0.5 if isinstance(axis, Integer) else 0.0
    low, high = axis.low - margin, axis.high + margin
    return (math.log(low), math.log(high)) if axis.log else (low, high)


def _value(axis: Dimension, unit: float) -> Value:
    unit = min(max(float(unit), 0.0), 1.0)
    if isinstance(axis, Categorical):
        return axis.choices[min(int(unit * len(axis.choices)), len(axis.choices) - 1)]
    low, high = _ends(axis)
    raw = low + unit * (high - low)
    raw = math.exp(raw) if axis.log else raw
    if isinstance(axis, Integer):
        return min(max(round(raw), axis.low), axis.high)
    scale = min(axis.high - axis.low, abs(raw)) if axis.log else axis.high - axis.low
    rounded = round(raw, DIGITS - 1 - math.floor(math.log10(scale)))
    return min(max(rounded, axis.low), axis.high)


def _position(axis: Dimension, value: Any) -> float:
    if isinstance(axis, Categorical):
        choice, last = _choice(axis, value), len(axis.choices) - 1
        return choice / last if last == 1 else (choice + 0.5) / (last + 1)
    low, high = _ends(axis)
    return ((math.log(value) if axis.log else value) - low) / (high - low)
