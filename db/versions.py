"""Which schema a database has, and bringing an old one up to date. Alembic is imported only for that: it is slow."""

from __future__ import annotations

import sqlite3

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, insert, inspect, select, text

from db import schema
from db.errors import StoreError

# As Alembic makes it.
_version = Table(schema.VERSION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True))
_LOCK = 7_305_617  # PostgreSQL's advisory lock of those who create or upgrade the tables; any number nobody else uses


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
    if found is None or not found.isdecimal():
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
