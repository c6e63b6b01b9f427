"""Conditions on runs as people write them: `dataset=cifar10 lr>1e-3`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from vrcli.errors import UsageError, nearest
from vrcli.report.groups import flat_settings
from vrcli.report.types import Run

#: What a run is called by besides its settings and results.
FIELDS = ("id", "name", "task", "preset", "dataset", "optimizer", "seed", "status", "tag", "group", "host", "spec_id")
#: Longer operators first, or `<=` would be read as `<`.
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(r"([A-Za-z_][\w.]*)\s*(!=|<=|>=|==|=|<|>)\s*(\"[^\"]*\"|'[^']*'|[^\s\"'=<>!][^\s]*)")
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "none": None}
_AGO = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Condition:
    """One comparison.

    Args:
        name: of a field, setting or result.
        operator: key of `OPERATORS`.
        value: a number, True, False, None or text.
    """

    name: str
    operator: str
    value: Any

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether a run's value is so; what it lacks, or cannot be ordered, never is."""
        if self.name not in values:
            return False
        own = values[self.name]
        if self.operator in ("=", "!="):
            same = own == self.value and isinstance(own, bool) == isinstance(self.value, bool)
            same |= not same and isinstance(own, str) and own == str(self.value)
            return same is (self.operator == "=")
        if not (_orderable(own) and _orderable(self.value)):
            return False
        return bool(OPERATORS[self.operator](own, self.value))


def _orderable(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def parse(text: str) -> list[Condition]:
    """The conditions of one text, separated by spaces or commas.

    Raises:
        UsageError: a part of it is no condition.
    """
    found, position = [], 0
    while rest := text[position:].lstrip(" ,"):
        position = len(text) - len(rest)
        match = _CONDITION.match(rest)
        if match is None:
            raise UsageError(
                f"--where {text!r}: {rest.split()[0]!r} is no condition; write NAME=VALUE, with =, !=, <, <=, > or >="
            )
        name, sign, value = match.groups()
        found.append(Condition(name, "=" if sign == "==" else sign, _value(value.rstrip(","))))
        position += match.end()
    if not found:
        raise UsageError("--where is empty; write NAME=VALUE, with =, !=, <, <=, > or >=")
    return found


def _value(text: str) -> Any:
    if text[0] in "\"'":
        return text[1:-1]
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return float(text)
    except ValueError:
        return text


def values_of(run: Run) -> dict[str, Any]:
    """All that a condition can name of a run: results, settings, fields; of equal names the later counts."""
    own = {name: getattr(run, name, None) for name in FIELDS}
    return {**run.results, **flat_settings(run.spec), **own}


def keep(runs: Iterable[Run], conditions: Sequence[Condition]) -> list[Any]:
    """The runs of which every condition holds.

    Raises:
        UsageError: a condition names what none of the runs has.
    """
    if not conditions:
        return list(runs)
    known: set[str] = set()
    kept = []
    for run in runs:
        values = values_of(run)
        known |= values.keys()
        if all(condition.holds(values) for condition in conditions):
            kept.append(run)
    for condition in conditions:
        if known and condition.name not in known:
            hint = nearest(condition.name, known) or "; vr runs show ID lists them"
            raise UsageError(f"--where {condition.name}: no run has such a setting or result{hint}")
    return kept


def since(text: str, now: datetime | None = None) -> datetime:
    """The time behind `--since`: `2026-11-20`, `2026-11-20T14:30`, or how long ago: `30min`, `12h`, `7d`, `2w`.

    Args:
        text: a time without a zone is local.

    Raises:
        UsageError: it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|w)", text.strip())
    try:
        if match:
            return (now or datetime.now(UTC)) - timedelta(**{_AGO[match[2]]: float(match[1])})
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        raise UsageError(f"--since {text!r} is no time; write 2026-11-20, or how long ago: 30min, 12h, 7d") from None
