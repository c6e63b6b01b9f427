"""Opening a database and running transactions on it; nothing here knows what the tables mean."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ARRAY,
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    any_,
    create_engine,
    event,
    func,
    literal,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from db.errors import StoreError

_BUSY_S = 60.0  # how long a writer waits for the others; each holds the lock for milliseconds
MOST_PARAMETERS = 500  # of one SQL statement; older SQLite takes 999
_SQLITE_HEADER = b"SQLite format 3\x00"


class Location:
    """Where a database is, from a path or a URL.

    Args:
        where: the path of an SQLite file, or an SQLAlchemy URL of SQLite or PostgreSQL.

    Raises:
        StoreError: no such kind of database, or one without a place.
    """

    def __init__(self, where: str | os.PathLike[str]) -> None:
        text = os.fspath(where)
        if "://" not in text:
            if text in ("", ":memory:"):
                raise StoreError(f"{text!r} is no database; give the path of a file")
            self.path: Path | None = Path(text).expanduser()
            self.url = URL.create("sqlite", database=str(self.path))
            self.label = text
            return
        try:
            self.url = make_url(text.replace("postgres://", "postgresql://", 1))
        except (ArgumentError, ValueError):
            raise StoreError("the database URL cannot be read; one looks like postgresql://user@host/name") from None
        self.label = self.url.render_as_string(hide_password=True)
        kind = self.url.get_backend_name()
        if kind == "sqlite":
            if self.url.database in (None, "", ":memory:"):
                raise StoreError(f"{self.label} is kept in memory only; give the path of a file")
            self.path = self.label_path(self.url.database or "")
            return
        if kind != "postgresql":
            raise StoreError(f"{kind} is no database vr knows; give the path of an SQLite file or postgresql://...")
        self.path = None
        if self.url.drivername == "postgresql":
            self.url = self.url.set(drivername="postgresql+psycopg")

    def label_path(self, database: str) -> Path:
        """The file behind an SQLite URL, which from here on is opened and spoken of by its path."""
        path = Path(database.removeprefix("file:").partition("?")[0]).expanduser()
        self.url = URL.create("sqlite", database=str(path))
        self.label = str(path)
        return path

    def check_file(self, mode: str) -> None:
        """Refuse an SQLite path that cannot be opened in this mode, before anything is touched."""
        if self.path is None:
            return
        if self.path.is_dir():
            raise StoreError(f"{self.label} is a directory; the database is a file, such as {self.path / 'vr.db'}")
        if not self.path.exists():
            if not self.path.parent.is_dir():
                raise StoreError(f"there is no directory {self.path.parent} for the database {self.path.name}")
            if mode != "create":
                raise StoreError(f"there is no database {self.label}; `vr run` creates it, --db names another")
            if not os.access(self.path.parent, os.W_OK | os.X_OK):
                raise StoreError(f"{self.label} cannot be created: the directory is read-only")
            return
        if not self.path.is_file():
            raise StoreError(f"{self.label} is not a file")
        try:
            with self.path.open("rb") as file:
                header = file.read(len(_SQLITE_HEADER))
        except OSError as error:
            raise StoreError(f"{self.label} cannot be read: {error.strerror}") from None
        if header and header != _SQLITE_HEADER:
            raise StoreError(f"{self.label} is not an SQLite database; nothing was changed")
        if mode != "read" and not self.is_writable():
            raise StoreError(f"{self.label} is read-only")

    def is_writable(self) -> bool:
        """True where SQLite can write the file and its journal beside it. A file marked read-only binds root too."""
        assert self.path is not None
        return bool(
            self.path.stat().st_mode & 0o222
            and os.access(self.path, os.W_OK)
            and os.access(self.path.parent, os.W_OK | os.X_OK)
        )

    def engine(self, *, read_only: bool) -> Engine:
        """An SQLAlchemy engine with this store's settings; connects to nothing yet."""
        if self.path is None:
            return self._postgres(read_only)
        engine = create_engine(self._sqlite_url(read_only), connect_args={"timeout": _BUSY_S})

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            connection.isolation_level = None  # transactions begin where `begin` says, not where sqlite3 guesses
            with closing(connection.cursor()) as cursor:
                cursor.execute("PRAGMA foreign_keys = ON")
                cursor.execute("PRAGMA synchronous = NORMAL")  # with WAL: a killed process loses nothing
                cursor.execute("PRAGMA cache_size = -32000")
                if read_only:
                    cursor.execute("PRAGMA query_only = ON")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            # A writer takes its lock at once: one that began by reading could not wait for another's end.
            connection.exec_driver_sql("BEGIN" if read_only or not _writes(connection) else "BEGIN IMMEDIATE")

        return engine

    def _sqlite_url(self, read_only: bool) -> URL:
        """Reading a WAL database needs its side files; where they cannot be made the file is taken as it lies there."""
        assert self.path is not None
        journal = self.path.with_name(self.path.name + "-wal")
        if not read_only or self.is_writable() or (journal.exists() and journal.stat().st_size):
            return self.url
        return URL.create("sqlite", database=self.path.absolute().as_uri(), query={"immutable": "1", "uri": "true"})

    def _postgres(self, read_only: bool) -> Engine:
        try:
            arguments: dict[str, Any] = {"options": "-c default_transaction_read_only=on"} if read_only else {}
            if "connect_timeout" not in self.url.query:
                arguments["connect_timeout"] = 10
            return create_engine(self.url, connect_args=arguments, pool_pre_ping=True)
        except NoSuchModuleError:
            raise StoreError(f"SQLAlchemy has no driver {self.url.drivername}; use postgresql+psycopg://") from None
        except ImportError as error:
            raise StoreError(f"{error.name} is not installed: pip install 'vrcli[postgres]'") from None


def _writes(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("vr_writes"))


class Database:
    """An open database: its transactions, with errors in words.

    Args:
        location: for messages and for files beside it.
        engine: where connections come from.
        read_only: refuses to write.
    """

    def __init__(self, location: Location, engine: Engine, *, read_only: bool) -> None:
        self.location = location
        self.label = location.label
        self.read_only = read_only
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"

    def close(self) -> None:
        """Give all connections back; the last one to leave an SQLite file folds its journal into it."""
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
            raise StoreError(f"{self.label}: {one_line(reason)}") from error
        except (UnicodeEncodeError, OverflowError) as error:
            what = "a number of more than 64 bits" if isinstance(error, OverflowError) else "text that is no Unicode"
            raise StoreError(f"{self.label}: {what} cannot be stored") from error


def one_line(error: BaseException) -> str:
    """The first line of a driver's message."""
    return next(iter(str(error).strip().splitlines()), error.__class__.__name__)


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
