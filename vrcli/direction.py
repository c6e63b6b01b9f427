"""Which of two values of a metric is better: the one rule, whichever way the metric goes.

A value counts as a cost: as it is where smaller is better, negated where larger is. What is missing or not finite is
the worst there is, in either direction.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

Direction: TypeAlias = Literal["min", "max"]
#: The squares of values beyond it overflow, as do the margins of axes: a loss like that has diverged.
HUGE = 1e150


def sign_of(direction: Direction | None) -> float:
    """By what a value is multiplied to be a cost, and a cost to be a value again."""
    return -1.0 if direction == "max" else 1.0


def cost(value: float | None, direction: Direction | None) -> float:
    """A value as a cost: smaller is better, infinite where it is missing or not finite."""
    return sign_of(direction) * value if value is not None and math.isfinite(value) else math.inf


def better(a: float | None, b: float | None, direction: Direction | None) -> bool:
    """Whether `a` is better than `b`."""
    return cost(a, direction) < cost(b, direction)


def extremum(direction: Direction | None) -> str:
    """What the best of several values is called."""
    return "maximum" if direction == "max" else "minimum"
