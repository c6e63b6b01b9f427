"""Opening a database and running transactions on it; nothing here knows what the tables mean."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    any_,
    func,
    literal,
    select,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from vrcli.db.errors import StoreError, Unavailable
from vrcli.db.location import Location

_SQLITE_OUTAGES = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}  # fmt: skip
MOST_PARAMETERS = 500  # of one SQL statement; older SQLite takes 999


class Database:
    """An open database: its transactions, with errors in words.

    Args:
        location: for messages and for files beside it.
        engine: where connections come from.
        read_only: refuses to write.
    """

    def __init__(self, location: Location, engine: Engine, *, read_only: bool) -> None:
        self.location = location
        self.label = str(location)
        self.read_only = read_only
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"

    def close(self) -> None:
        """Give all connections back; an SQLite file then holds what its journal held.

        The last one to leave it folds the journal by itself. Where another process stays, this one does so, unless
        somebody is reading or writing at this moment: nobody is waited for, and the next to close it folds it.
        """
        pool = self.engine.pool
        if self.is_sqlite and not self.read_only and isinstance(pool, QueuePool) and pool.checkedin():
            with suppress(DBAPIError, sqlite3.Error), closing(self.engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA busy_timeout = 0")
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database throughout."""
        options = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with self._transaction(options) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A short transaction that alone may write (SQLite), or locks the rows it changes (PostgreSQL)."""
        if self.read_only:
            raise StoreError(f"{self.label} is opened for reading only")
        with self._transaction({"vr_writes": True}) as connection:
            yield connection

    @contextmanager
    def _transaction(self, options: dict[str, Any]) -> Iterator[Connection]:
        driver = self.engine.dialect.loaded_dbapi  # whose errors come from cursors that are used directly
        try:
            with self.engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except (DBAPIError, driver.Error) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            if reason is None or isinstance(reason, (driver.IntegrityError, driver.ProgrammingError)):
                raise  # a fault of ours, not of the machine's
            kind = Unavailable if is_outage(reason) else StoreError
            raise kind(f"{self.label}: {self.location.reason(reason)}") from error
        except (UnicodeEncodeError, OverflowError) as error:
            what = "a number is too large" if isinstance(error, OverflowError) else "text is not Unicode"
            raise StoreError(f"{self.label}: {what} for a database") from error


def is_outage(error: BaseException) -> bool:
    """Whether a driver's error is the machine's: the same request may succeed later."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _SQLITE_OUTAGES  # the rest says more closely what happened
    names = [f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(error).__mro__]
    return "psycopg.OperationalError" in names or "psycopg.InterfaceError" in names


def clock(connection: Connection) -> datetime:
    """The time by the one clock that all who write a database share: its server's, or of a file this machine's."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return now


def stream(connection: Connection, sql: str, parameters: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Rows straight from the driver, one at a time: for long tables of numbers much faster than SQLAlchemy's rows.

    Args:
        sql: with ? for each parameter, and no other ?.
    """
    with closing(_execute(connection, sql, parameters)) as cursor:
        yield from cursor


def fetch(connection: Connection, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All rows of `stream`."""
    with closing(_execute(connection, sql, parameters)) as cursor:
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def _execute(connection: Connection, sql: str, parameters: Sequence[Any]) -> Any:
    cursor = connection.connection.cursor()
    cursor.execute(sql if connection.dialect.paramstyle == "qmark" else sql.replace("?", "%s"), parameters)
    return cursor


def among(connection: Connection, column: ColumnElement[Any], numbers: Sequence[int]) -> ColumnElement[bool]:
    """The condition that a column is one of these numbers, of which there may be any number."""
    if len(numbers) <= MOST_PARAMETERS:
        return column.in_(numbers)
    if connection.dialect.name == "sqlite":
        listed = func.json_each(json.dumps(list(map(int, numbers)))).table_valued("value")
        return column.in_(select(listed.c.value))
    return column == any_(literal(numbers, ARRAY(BigInteger)))
