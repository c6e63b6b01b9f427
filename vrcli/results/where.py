"""Conditions on runs as people write them: `dataset=cifar10 lr>1e-3`. Names are those of `flat.named`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from vrcli.errors import UsageError, nearest
from vrcli.results.flat import named
from vrcli.results.types import Run

#: Longer operators first, or `<=` would be read as `<`.
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_NAME = r"[A-Za-z_][\w.]*"
_SIGN = r"(?:!=|<=|>=|==|=|<|>)"
#: A value ends at a space, or at a comma before the next condition: lists have commas, too.
_VALUE = rf"\"[^\"]*\"|'[^']*'|[^\s\"'=<>!,](?:(?!,\s*{_NAME}\s*{_SIGN})\S)*"
_CONDITION = re.compile(rf"({_NAME})\s*({_SIGN})\s*({_VALUE})")
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "none": None}
_AGO = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Condition:
    """One comparison.

    Args:
        name: of a field, setting or result.
        operator: key of `OPERATORS`.
        text: the value as it was written, for what is text itself: a tag may well look like a number.
        value: the value as a number, True, False or None where it can be read as one.
    """

    name: str
    operator: str
    text: str
    value: Any

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether a run's value is so; what it lacks, or cannot be ordered, never is.

        Raises:
            UsageError: a time is asked for by what is none.
        """
        if self.name not in values:
            return False
        own, value = values[self.name], self.value
        if isinstance(own, datetime) and value is not None:
            value = self._time()
        if self.operator in ("=", "!="):
            if isinstance(own, str):
                same = own == self.text
            else:
                same = own == value and isinstance(own, bool) == isinstance(value, bool)
            return same is (self.operator == "=")
        if not (_orderable(own) and _orderable(value)):
            return False
        return bool(OPERATORS[self.operator](own, value))

    def _time(self) -> datetime:
        try:
            return datetime.fromisoformat(self.text).astimezone()
        except ValueError:
            raise UsageError(f"--where {self.name}: {self.text!r} is not a time; write 2026-11-20") from None


def _orderable(value: Any) -> bool:
    return isinstance(value, datetime) or (
        isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
    )


def parse(text: str) -> list[Condition]:
    """The conditions of one text, separated by spaces or commas.

    Raises:
        UsageError: a part of it is not a condition.
    """
    found, position = [], 0
    while rest := text[position:].lstrip(" ,"):
        position = len(text) - len(rest)
        match = _CONDITION.match(rest)
        if match is None:
            part, whole = rest.split()[0], text.strip()
            where = f"--where {part!r}" if part == whole else f"--where {whole!r}: {part!r}"
            raise UsageError(f"{where} is not a condition; write NAME=VALUE, with =, !=, <, <=, > or >=")
        name, sign, value = match.groups()
        found.append(Condition(name, "=" if sign == "==" else sign, *_read(value.rstrip(","))))
        position += match.end()
    if not found:
        raise UsageError("--where is empty; write NAME=VALUE, with =, !=, <, <=, > or >=")
    return found


def _read(value: str) -> tuple[str, Any]:
    """What was written without its quotes, and the value in it; what is quoted is text."""
    if value[0] in "\"'":
        return value[1:-1], value[1:-1]
    if value.lower() in _WORDS:
        return value, _WORDS[value.lower()]
    try:
        return value, float(value)
    except ValueError:
        return value, value


def keep(runs: Iterable[Run], conditions: Sequence[Condition]) -> list[Any]:
    """The runs of which every condition holds.

    Raises:
        UsageError: a condition names what none of the runs has, or is none for what it names.
    """
    if not conditions:
        return list(runs)
    runs = list(runs)
    names, values = named(runs)
    known = set(names)
    for condition in conditions:
        if runs and condition.name not in known:
            hint = nearest(condition.name, known) or "; vr runs show ID lists them"
            raise UsageError(f"--where {condition.name}: no run has such a setting or result{hint}")
    return [run for run, own in zip(runs, values, strict=True) if all(condition.holds(own) for condition in conditions)]


def since(text: str, now: datetime | None = None) -> datetime:
    """The time behind `--since`: `2026-11-20`, `2026-11-20T14:30`, or how long ago: `30min`, `12h`, `7d`, `2w`.

    Args:
        text: a time without a zone is local.

    Raises:
        UsageError: it is not one of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|w)", text.strip())
    try:
        if match:
            return (now or datetime.now(UTC)) - timedelta(**{_AGO[match[2]]: float(match[1])})
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        raise UsageError(f"--since {text!r} is not a time; write 2026-11-20, or how long ago: 30min, 12h, 7d") from None
