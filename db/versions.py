"""Which schema a database has, and bringing an old one up to date. Alembic is imported only for that: it is slow."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from vrcli.db import schema
from vrcli.db.errors import StoreError
from vrcli.db.location import Location, one_line
from vrcli.leftovers import part_name, remove, remove_leftovers

# As Alembic makes it.
_version = Table(
    schema.VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{schema.VERSION_TABLE}_pkc"),
)
_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7_305_617  # PostgreSQL's advisory lock of those who create or upgrade the tables; any number nobody else uses


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade did.

    Args:
        before: the schema it found, None in an empty database.
        after: the schema it left; the same as before where there was nothing to do.
        backup: the copy of an SQLite file as it was before.
    """

    before: str | None
    after: str
    backup: Path | None


def revision(connection: Connection, label: str) -> str | None:
    """The schema revision of a database, None where it holds nothing yet.

    Raises:
        StoreError: the tables are another program's, or of a newer vr.
    """
    tables = set(inspect(connection).get_table_names())
    if schema.VERSION_TABLE not in tables:
        taken = tables if connection.dialect.name == "sqlite" else tables & set(schema.metadata.tables)
        if taken:
            raise StoreError(f"{label} is the database of another program (table {min(taken)}); nothing was changed")
        return None
    found = connection.scalar(select(_version.c.version_num))
    if found is None or not found.isdecimal() or int(found) < 1:
        raise StoreError(f"{label} has schema {found}, which no vr has written; nothing was changed")
    if int(found) > int(schema.SCHEMA):
        written = f"(schema {int(found)}, this is {int(schema.SCHEMA)})"
        raise StoreError(f"{label} was written by a newer vr {written}; nothing was changed")
    return str(found)


def create(engine: Engine, label: str) -> None:
    """Make the tables and views of the newest schema, unless another process was quicker."""
    if engine.dialect.name == "sqlite":
        _use_wal(engine)
    with engine.connect().execution_options(vr_writes=True) as connection, connection.begin():
        lock(connection)
        if revision(connection, label) is not None:
            return
        schema.metadata.create_all(connection)
        for name, query in schema.VIEWS.items():
            connection.exec_driver_sql(f"CREATE VIEW {name} AS {query}")
        _version.create(connection)
        connection.execute(insert(_version).values(version_num=schema.SCHEMA))


def _use_wal(engine: Engine) -> None:
    """Let readers and a writer work at the same time; the file remembers it."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute("PRAGMA journal_mode = WAL")


def lock(connection: Connection) -> None:
    """Keep other processes from creating or upgrading; SQLite's write transaction does so by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def upgrade(location: Location, *, target: str = schema.SCHEMA) -> Upgrade:
    """Bring a database up to date, all or nothing.

    An SQLite file is copied first, to a file beside it that the result names.

    Args:
        target: the revision to stop at.

    Raises:
        StoreError: it could not be done; the database is as it was.
    """
    engine = location.engine(read_only=False)
    try:
        with engine.connect().execution_options(vr_writes=True) as connection:
            driver = connection.connection.driver_connection
            if isinstance(driver, sqlite3.Connection):
                driver.execute("PRAGMA foreign_keys = OFF")  # rebuilding a table would delete what refers to it
            with connection.begin():
                lock(connection)
                before = revision(connection, str(location))
                if before == target:
                    return Upgrade(before, before, None)
                with _copied(location, before) as copy:
                    _run_migrations(connection, target)
                return Upgrade(before, target, copy)
    except DBAPIError as error:
        reason = location.reason(error.orig or error)
        raise StoreError(f"{location} could not be upgraded: {reason}; nothing was changed") from error
    finally:
        engine.dispose()


def _run_migrations(connection: Connection, target: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, target)


@contextmanager
def _copied(location: Location, before: str | None) -> Iterator[Path | None]:
    """A copy of an SQLite file that holds something, named after its schema and the time.

    It has that name once what is inside is done: where that fails or is killed the database is as it was, and another
    try makes a copy of its own.
    """
    if location.path is None or before is None:
        yield None
        return
    copy, part = _beside(location.path, f"schema{int(before)}"), location.path.with_name(part_name())
    try:
        copy_sqlite(location.path, part)
        yield copy
        part.rename(copy)
    finally:
        remove(part)


def copy_beside(path: Path, what: str) -> Path:
    """A copy of a database beside it, named after what it is and the time."""
    copy = _beside(path, what)
    copy_sqlite(path, copy)
    return copy


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.stem}.{what}-{datetime.now().strftime('%Y%m%d-%H%M%S')}{path.suffix}")


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database that others may be writing to a file that is there in full or not at all.

    Raises:
        StoreError: the target is there already, or cannot be written.
    """
    if target.exists():
        raise StoreError(f"{target} is there already; nothing was changed")
    if not target.parent.is_dir():
        raise StoreError(f"there is no directory {target.parent} for the backup {target.name}")
    remove_leftovers(target.parent)
    part = target.with_name(part_name())
    try:
        with closing(sqlite3.connect(source)) as reader, closing(sqlite3.connect(part)) as writer:
            reader.backup(writer)
        part.rename(target)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{target} cannot be written: {one_line(error)}") from None
    finally:
        for left in (part, part.with_name(f"{part.name}-journal")):
            remove(left)
