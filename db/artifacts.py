"""Artifacts: files kept with a run, such as a grid of samples or a checkpoint."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from vrcli.db import schema
from vrcli.db.connection import Database
from vrcli.db.errors import StoreError
from vrcli.db.records import ArtifactRecord
from vrcli.db.runs import touch

_MEDIA_TYPES = {".png": "image/png", ".txt": "text/plain; charset=utf-8"}
#: How the names of files begin that were measured of a run after its end.
MEASURED = "measured."


class Artifacts:
    """The artifacts of a database's runs.

    Args:
        database: open.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run_id: int, name: str, data: bytes, *, media_type: str, step: int | None = None) -> ArtifactRecord:
        """Keep a file with a run that is running; one of the same name and step is replaced.

        Args:
            media_type: such as image/png.
            step: the step it belongs to, None for the whole run.
        """
        with self._database.writing() as connection:
            touch(self._database, connection, run_id)
            return _put(connection, run_id, name, data, media_type=media_type, step=step)

    def keep(self, run_id: int, name: str, data: bytes, *, step: int | None = None) -> ArtifactRecord:
        """As `add`, with the media type that the name's ending says."""
        return self.add(run_id, name, data, media_type=_media_type(name), step=step)

    def attach(self, run_id: int, name: str, data: bytes) -> ArtifactRecord:
        """Keep what was measured of a run that has ended; one of the same name is replaced, what the run kept never.

        Raises:
            StoreError: the run goes on, or the name does not begin with `MEASURED`.
        """
        if not name.startswith(MEASURED):
            raise StoreError(f"what is measured of a run after its end is called {MEASURED}..., got {name}")
        with self._database.writing() as connection:
            status = connection.scalar(select(schema.runs.c.status).where(schema.runs.c.id == run_id))
            if status in (None, "running"):
                raise StoreError(f"run {run_id} {'is still running' if status else 'is not there'}")
            return _put(connection, run_id, name, data, media_type=_media_type(name))

    def select(self, run_id: int) -> list[ArtifactRecord]:
        """What is kept with a run, by name and step, without the bytes."""
        table = schema.artifacts
        columns = (table.c[name] for name in ("run_id", "name", "step", "media_type", "size", "created_at"))
        query = select(*columns).where(table.c.run_id == run_id).order_by(table.c.name, table.c.id)
        with self._database.reading() as connection:
            return [ArtifactRecord(*row) for row in connection.execute(query)]

    def read(self, run_id: int, name: str, *, step: int | None = None) -> bytes:
        """The bytes of an artifact.

        Args:
            step: the one of this step; None: the one of the whole run, else the one of the latest step.
        """
        table = schema.artifacts
        query = select(table.c.data).where(table.c.run_id == run_id, table.c.name == name)
        if step is not None:
            query = query.where(table.c.step == step)
        query = query.order_by(table.c.step.is_not(None), table.c.step.desc()).limit(1)
        with self._database.reading() as connection:
            data = connection.scalar(query)
        if data is None:
            known = ", ".join(dict.fromkeys(record.name for record in self.select(run_id))) or "none"
            raise StoreError(
                f"run {run_id} has no artifact {name}{f' of step {step}' if step else ''}; it has: {known}"
            )
        return bytes(data)


def _media_type(name: str) -> str:
    return _MEDIA_TYPES.get(PurePath(name).suffix, "application/octet-stream")


def _put(
    connection: Connection, run_id: int, name: str, data: bytes, *, media_type: str, step: int | None = None
) -> ArtifactRecord:  # fmt: skip
    """Write a file in the place of one of the same name and step."""
    table = schema.artifacts
    row: dict[str, Any] = {"run_id": run_id, "name": name, "step": step, "media_type": media_type}
    row |= {"size": len(data), "created_at": datetime.now(UTC)}
    same = (table.c.run_id == run_id) & (table.c.name == name) & table.c.step.is_not_distinct_from(step)
    connection.execute(delete(table).where(same))
    connection.execute(insert(table).values(data=bytes(data), **row))
    return ArtifactRecord(**row)
