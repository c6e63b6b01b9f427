"""Search dimensions: what a sweep may vary, and where the range comes from.

A task states its spaces in these terms; the sweep translates them for its search library. Nothing here
knows that library.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

Value: TypeAlias = bool | int | float | str | None


@dataclass(frozen=True)
class Real:
    """An interval of real numbers.

    Args:
        low: smallest value.
        high: largest value, above `low`.
        log: sample and model the logarithm; both ends must be positive.
        origin: where the range comes from ("Table 6"), shown before a sweep starts.
        generic: nobody chose the range for this optimizer or this task; one that was chosen goes before it.

    Raises:
        ValueError: the ends are not finite, not in order, or not positive on a log axis.
    """

    low: float
    high: float
    log: bool = False
    origin: str = ""
    generic: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"both ends must be finite, got {self.low}..{self.high}")
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low}..{self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a log axis needs low > 0, got {self.low}")

    def __str__(self) -> str:
        return f"{'log ' if self.log else ''}{self.low:g}..{self.high:g}"


@dataclass(frozen=True)
class Integer:
    """A range of integers, both ends included. Arguments and errors as for `Real`."""

    low: int
    high: int
    log: bool = False
    origin: str = ""
    generic: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low}..{self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a log axis needs low > 0, got {self.low}")

    def __str__(self) -> str:
        return f"int {'log ' if self.log else ''}{self.low}..{self.high}"


@dataclass(frozen=True)
class Categorical:
    """A set of values without an order.

    Raises:
        ValueError: fewer than two values, or one of them twice.
    """

    choices: tuple[Value, ...]
    origin: str = ""
    generic: bool = False

    def __post_init__(self) -> None:
        if len(self.choices) < 2 or len(set(map(repr, self.choices))) != len(self.choices):
            raise ValueError(f"needs at least two different values, got {self.choices}")

    def __str__(self) -> str:
        return "{" + ",".join(str(c) for c in self.choices) + "}"


Dimension: TypeAlias = Real | Integer | Categorical
Space: TypeAlias = Mapping[str, Dimension]


def parse_value(text: str) -> Value:
    """A value as typed on the command line: true, false, none, a whole number, a number, else the text itself."""
    text = text.strip()
    named: dict[str, Value] = {"true": True, "false": False, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text
