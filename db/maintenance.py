"""Looking after a database: copies, checks, figures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from vrcli.db import schema
from vrcli.db.cells import Digest, damages, movable, put_aside, uncounted
from vrcli.db.connection import Database, fetch
from vrcli.db.errors import StoreError
from vrcli.db.runs import Runs
from vrcli.db.versions import copy_beside, copy_sqlite

_REFERENCES = (
    *(("results", "run_id", "runs"), ("points", "run_id", "runs"), ("artifacts", "run_id", "runs")),
    *(("results", "metric_id", "metrics"), ("points", "metric_id", "metrics"), ("trials", "search_id", "searches")),
    *(("runs", "sweep_id", "sweeps"), ("runs", "trial_id", "trials"), ("runs", "search_id", "searches")),
    ("searches", "sweep_id", "sweeps"),
)


def backup(database: Database, target: str | os.PathLike[str]) -> Path:
    """Copy the database to a new file while others may be writing.

    Raises:
        StoreError: the file is there already or cannot be written, or the database is not an SQLite file.
    """
    if database.location.path is None:
        raise StoreError(f"{database.label} is backed up with PostgreSQL's own pg_dump")
    path = Path(target).expanduser()
    copy_sqlite(database.location.path, path)
    return path


def check(database: Database, digest: Digest | None = None) -> list[str]:
    """What is wrong with the database, one line each; nothing where all is well.

    Args:
        digest: see `vrcli.db.cells.damages`.
    """
    try:
        # One after the other: a later check would stumble over what an earlier one has found.
        return _broken(database) or _damaged(database, digest) or _inconsistent(database) or _unfinished(database)
    except StoreError as error:
        return [f"integrity: {error}"]


def _broken(database: Database) -> list[str]:
    with database.reading() as connection:
        problems = _missing(connection)
        if database.is_sqlite:
            found = [str(line) for (line,) in fetch(connection, "PRAGMA integrity_check", ())]
            problems += [f"integrity: {line}" for line in found if line != "ok"]
        return problems


def _damaged(database: Database, digest: Digest | None) -> list[str]:
    with database.reading() as connection:
        return list(map(str, damages(connection, digest)))


def repair(database: Database, digest: Digest | None = None) -> tuple[list[str], Path | None]:
    """Put damaged rows aside, after a copy of the file was made beside it.

    Returns:
        What was wrong with each row that was moved, and the copy; none where nothing was wrong.

    Raises:
        StoreError: it is not an SQLite file, or its pages are damaged, too.
    """
    path = database.location.path
    if path is None:
        raise StoreError(f"{database.label} is repaired with PostgreSQL's own tools")
    if problems := _broken(database):
        raise StoreError(f"{database.label}: {problems[0]}; only rows can be repaired, a backup is needed")
    with database.reading() as connection:
        if not movable(connection, digest):
            return [], None
    copy = copy_beside(path, "before-repair")
    return list(map(str, put_aside(database, digest))), copy


def _inconsistent(database: Database) -> list[str]:
    problems = []
    with database.reading() as connection:
        for table, column, parent in _REFERENCES:
            orphaned = f"{column} IS NOT NULL AND {column} NOT IN (SELECT id FROM {parent})"
            ((orphans,),) = fetch(connection, f"SELECT count(*) FROM {table} WHERE {orphaned}", ())
            if orphans:
                problems.append(f"{table}: {orphans} rows whose {column} is not in {parent}")
        ((damaged,),) = fetch(connection, "SELECT count(*) FROM artifacts WHERE size <> length(data)", ())
        if damaged:
            problems.append(f"artifacts: {damaged} of another size than recorded")
        return problems + uncounted(connection)


def _unfinished(database: Database) -> list[str]:
    return [
        f"run {run.id}: recorded as running, but its process is gone (opening the database for writing corrects it)"
        for run in Runs(database).select(status="running")
        if not run.answers
    ]


def info(database: Database) -> dict[str, Any]:
    """Figures of the database: schema, size, and how many rows it has of each kind."""
    with database.reading() as connection:
        status = schema.runs.c.status
        query = select(status, func.count()).group_by(status)
        by_status: dict[str, int] = dict(connection.execute(query).all())
        ((size, journal),) = fetch(connection, _SQLITE_FACTS if database.is_sqlite else _POSTGRES_FACTS, ())
        counts = {
            name: connection.scalar(select(func.count()).select_from(schema.metadata.tables[name]))
            for name in ("metrics", "points", "artifacts", "sweeps", "searches", "trials")
        }
    return {
        "database": database.label,
        "kind": database.engine.dialect.name,
        "schema": int(schema.SCHEMA),
        "size_bytes": int(size),
        "journal_mode": journal,
        "runs": sum(by_status.values()),
        "runs_by_status": by_status,
        **counts,
    }


def _missing(connection: Connection) -> list[str]:
    """Tables, indexes and views that the schema has and the database lacks."""
    sql = _SQLITE_NAMES if connection.dialect.name == "sqlite" else _POSTGRES_NAMES
    there = {name for (name,) in fetch(connection, sql, ())}
    tables = schema.metadata.tables.values()
    wanted = [("table", table.name) for table in tables]
    wanted += [("index", str(index.name)) for table in tables for index in table.indexes]
    wanted += [("view", name) for name in schema.VIEWS]
    return [f"{kind} {name} is missing" for kind, name in wanted if name not in there]


_SQLITE_NAMES = "SELECT name FROM sqlite_master"
_POSTGRES_NAMES = "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
_SQLITE_FACTS = """
SELECT page_count * page_size, journal_mode FROM pragma_page_count, pragma_page_size, pragma_journal_mode"""
_POSTGRES_FACTS = "SELECT pg_database_size(current_database()), current_setting('wal_level')"
