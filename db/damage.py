"""Cells that do not hold what their column is for: text that is not UTF-8, dates that are none, broken JSON.

A row with one is read with stand-ins and says so, so that a list goes on; `vr db check` names each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Boolean, Column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

#: The status of a run, search or trial whose row is damaged; it is never stored.
DAMAGED = "damaged"
#: Columns of text that is JSON: an object.
JSON = {"runs": ("spec", "provenance"), "searches": ("settings",), "trials": ("params",)}
#: What bytes that are not UTF-8 are read as, see `vrcli.db.location`; whole text has none.
_HALF = re.compile("[\ud800-\udfff]")
_LONG_AGO = datetime.fromtimestamp(0, UTC)
_STAND_INS: dict[type, Any] = {str: "?", int: 0, float: 0.0, bool: False, bytes: b"", datetime: _LONG_AGO}


class Objects(FunctionElement[bool]):
    """In a query: whether texts are JSON objects. A server, which checks its pages itself, is not asked."""

    name = "objects"
    type = Boolean()
    inherit_cache = True


@compiles(Objects)
def _unasked(element: Objects, compiler: Any, **options: Any) -> str:
    return "TRUE"


@compiles(Objects, "sqlite")
def _asked(element: Objects, compiler: Any, **options: Any) -> str:
    texts = [compiler.process(text, **options) for text in element.clauses]
    return " AND ".join(f"json_valid({text}) AND substr({text}, 1, 1) = '{{'" for text in texts)


class Cells:
    """What the cells of some columns must be.

    Args:
        columns: of the schema, in the order of the rows.
        json_known: the JSON is looked at elsewhere.
    """

    def __init__(self, columns: Sequence[Column[Any]], *, json_known: bool = False) -> None:
        self.names = [column.name for column in columns]
        kinds = [column.type.python_type for column in columns]
        self.types = tuple(
            (kind, type(None)) if column.nullable else (kind,) for kind, column in zip(kinds, columns, strict=True)
        )
        self._sound: set[tuple[type, ...]] = set()  # of the rows so far
        self.texts = tuple(at for at, kind in enumerate(kinds) if kind is str)
        self.json = tuple(at for at, column in enumerate(columns) if column.name in JSON.get(column.table.name, ()))
        self.checked_json = () if json_known else self.json
        self.stand_ins = [
            "{}" if at in self.json else None if column.nullable else _STAND_INS[kind]
            for at, (kind, column) in enumerate(zip(kinds, columns, strict=True))
        ]

    def sound(self, row: Sequence[Any]) -> bool:
        """Whether every cell is what it must be; fast, for long lists."""
        kinds = tuple(map(type, row))
        if kinds not in self._sound:
            if not all(map(isinstance, row, self.types)):
                return False
            self._sound.add(kinds)
        text = "".join([row[at] or "" for at in self.texts])
        return (text.isascii() or not _HALF.search(text)) and all(is_object(row[at]) for at in self.checked_json)

    def reasons(self, row: Sequence[Any]) -> dict[int, str]:
        """What is wrong, by the place of the cell."""
        found: dict[int, str] = {}
        for at, (name, kinds, value) in enumerate(zip(self.names, self.types, row, strict=False)):
            if kinds[0] is str and (isinstance(value, bytes) or (isinstance(value, str) and _HALF.search(value))):
                found[at] = f"{name} is not UTF-8 text"
            elif not isinstance(value, kinds):
                kind = "date" if kinds[0] is datetime else kinds[0].__name__
                found[at] = f"{name} is not {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
            elif at in self.json and not is_object(value):
                found[at] = f"{name} is not JSON"
        return found

    def mended(self, row: Sequence[Any]) -> tuple[list[Any], str]:
        """The row with stand-ins for what cannot be used, and why, in one line; text is shown as far as it can be."""
        reasons = self.reasons(row)
        values = list(row)
        for at in reasons:
            as_text = at in self.texts and at not in self.json and isinstance(values[at], str)
            values[at] = _HALF.sub("?", values[at]) if as_text else self.stand_ins[at]
        return values, f"{DAMAGED}: {', '.join(reasons.values())}"


def is_object(text: Any) -> bool:
    """Whether a text is a JSON object."""
    with suppress(ValueError, TypeError, RecursionError):
        return isinstance(json.loads(text), dict)
    return False
