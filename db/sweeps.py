"""Sweeps: what searches have in common, by number, name, or what they share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import select

from vrcli.db import schema
from vrcli.db.connection import Database
from vrcli.db.damage import Cells
from vrcli.db.errors import StoreError
from vrcli.db.records import SweepRecord
from vrcli.db.rows import insert_sweep, many

_COLUMNS = tuple(schema.sweeps.c[field.name] for field in fields(SweepRecord))

_CELLS = Cells(_COLUMNS)


class Sweeps:
    """The sweeps of a database.

    Args:
        database: open.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, facts: Mapping[str, Any], *, shared_key: str | None = None) -> SweepRecord:
        """Record a new sweep, which has no searches yet.

        Args:
            facts: task, preset, dataset and dataset_fingerprint; others are left out.
            shared_key: the hash of all that its searches share.
        """
        with self._database.writing() as connection:
            id = insert_sweep(connection, facts, shared_key)
            return _record(connection.execute(select(*_COLUMNS).where(schema.sweeps.c.id == id)).one())

    def get(self, ref: int | str) -> SweepRecord:
        """The sweep of this number or name.

        Raises:
            StoreError: there is none; the nearest name is in the message.
        """
        table = schema.sweeps
        by_id = isinstance(ref, int) or ref.isdecimal()
        query = select(*_COLUMNS).where(table.c.id == int(ref) if by_id else table.c.name == ref)
        known = not by_id or 0 < int(ref) < 2**31
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none() if known else None
            names = [] if row else connection.scalars(select(table.c.name)).all()
        if row is not None:
            return _record(row)
        near = difflib.get_close_matches(str(ref), names, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; it has {len(names)}" if names else "; it has none yet"
        raise StoreError(f"{self._database.label} has no sweep {ref}{hint}")

    def select(
        self,
        *,
        task: str | Iterable[str] | None = None,
        shared_key: str | None = None,
        limit: int | None = None,
    ) -> list[SweepRecord]:
        """Sweeps, the newest first."""
        query = select(*_COLUMNS).order_by(schema.sweeps.c.created_at.desc(), schema.sweeps.c.id.desc())
        for column, value in {schema.sweeps.c.task: task, schema.sweeps.c.shared_key: shared_key}.items():
            if value is not None:
                query = query.where(column.in_(many(value)))
        with self._database.reading() as connection:
            return [_record(row) for row in connection.execute(query.limit(limit))]


def _record(row: Sequence[Any]) -> SweepRecord:
    return SweepRecord(*(row if _CELLS.sound(row) else _CELLS.mended(row)[0]))
