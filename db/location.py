"""Where a database is, and the one place that knows a database's password.

Everyone else holds a `Location`, whose text is masked, and gets an engine from it. Nothing slow is imported at the top:
commands read their options before they know whether a database is needed.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from contextlib import closing
from functools import cached_property, partial
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.db.errors import StoreError
from vrcli.passwords import SECRET_OPTION, URL_BEGINS, masked, masked_line

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

_BUSY_S = 60.0  # how long a writer waits for the others; each holds the lock for milliseconds
#: Bytes that are not text become halves of characters, which no text has: `vrcli.db.damage` finds them.
_TEXT = partial(str, encoding="utf-8", errors="surrogateescape")
SQLITE_HEADER = b"SQLite format 3\x00"
#: Files that were looked at, by device and number; as many as one process may have databases open.
_OPEN: dict[tuple[int, int], RawIOBase] = {}
_MOST_OPEN = 100
_LONGEST = 4095  # letters of a path, on most systems
_LOOKS_LIKE = "one looks like postgresql://user@host/name"


class Location:
    """Where a database is, from a path or a URL. Its text, however it is made, shows no password.

    Args:
        where: the path of an SQLite file, or an SQLAlchemy URL of SQLite or PostgreSQL.

    Attributes:
        path: of an SQLite file, None for a database on a server.

    Raises:
        StoreError: no such kind of database, or one without a place.
    """

    def __init__(self, where: str | os.PathLike[str]) -> None:
        text = os.fspath(where)
        self._text, self._shown = text, masked(text)
        self.path: Path | None = None
        if len(os.fsencode(text)) > _LONGEST or any(len(part) > 255 for part in os.fsencode(text).split(b"/")):
            raise StoreError(f"{masked(text)[:40]}... has {len(text):,} letters, too many for a file or a URL")
        if "://" not in text:
            self.path = self._plain_path()
        elif self._url.get_backend_name() == "sqlite":
            database = self._url.database
            if database in (None, "", ":memory:"):
                raise StoreError(f"{self} is kept in memory only; give the path of a file")
            self.path = Path((database or "").removeprefix("file:").partition("?")[0]).expanduser()
            self._shown = str(self.path)

    @classmethod
    def of(cls, where: str | os.PathLike[str] | Location) -> Location:
        """A path or a URL as a location; a location as it is."""
        return where if isinstance(where, Location) else cls(where)

    @classmethod
    def given(cls, where: str | os.PathLike[str] | Location | None = None) -> Location:
        """The same; where nothing is given VR_DB, else vr.db in the working directory."""
        return cls.of(where if where is not None else os.environ.get("VR_DB") or "vr.db")

    @property
    def option(self) -> str:
        """What names it in a command that would take another one: " --db x.db", or nothing."""
        return "" if self._shown == os.environ.get("VR_DB", "vr.db") else f" --db {shlex.quote(self._shown)}"

    def __str__(self) -> str:
        return self._shown

    def __format__(self, spec: str) -> str:
        return format(self._shown, spec)

    def __repr__(self) -> str:
        return f"Location({self._shown!r})"

    def _plain_path(self) -> Path:
        if self._text in ("", ":memory:"):
            raise StoreError(f"{self._text!r} is not a database; give the path of a file")
        if re.match(URL_BEGINS, self._text) or self._shown != self._text:
            raise StoreError(f"{self} is not a database URL; {_LOOKS_LIKE}")
        return Path(self._text).expanduser()

    @cached_property
    def _url(self) -> URL:
        """The real URL.

        Raises:
            StoreError: it cannot be read, or is of a database that vr does not know.
        """
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            url = make_url(self._text.replace("postgres://", "postgresql://", 1))
        except (ArgumentError, ValueError):
            raise StoreError(f"the database URL cannot be read; {_LOOKS_LIKE}") from None
        kind = url.get_backend_name()
        if kind not in ("sqlite", "postgresql"):
            raise StoreError(f"{kind} is not a database vr knows; give the path of an SQLite file or postgresql://...")
        # A part of such a password would be taken for the host, and be looked up and named.
        if re.match(r"\w[^:/]*://[^:/]*:[^@]*@[^?]*@", self._text):
            raise StoreError(f"the password in {self} has an @; write it as %40")
        return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url

    def reason(self, error: BaseException) -> str:
        """The first line of a driver's message, without the passwords that it may repeat."""
        line = one_line(error)
        for secret in () if self.path else sorted(self._secrets(), key=len, reverse=True):
            # A short one may be a part of any word.
            whole = re.escape(secret) if len(secret) > 3 else rf"(?<!\w){re.escape(secret)}(?!\w)"
            line = re.sub(whole, "***", line)
        return masked_line(line)

    def _secrets(self) -> Iterable[str]:
        """The passwords, as they are and as they are written."""
        url = self._url
        found = {str(url.password or ""), *re.findall(r"://[^:/]*:([^@]*)@", self._text)}
        for value in _secret_options(url).values():
            found |= {value} if isinstance(value, str) else set(value)
        return found - {""}

    def check_file(self, mode: str) -> None:
        """Refuse an SQLite path that cannot be opened in this mode, before anything is touched."""
        if self.path is None:
            return
        if self.path.is_dir():
            raise StoreError(f"{self} is a directory; the database is a file, such as {self.path / 'vr.db'}")
        if not self.path.exists():
            if not self.path.parent.is_dir():
                raise StoreError(f"there is no directory {self.path.parent} for the database {self.path.name}")
            if mode != "create":
                raise StoreError(f"there is no database {self}; `vr run` creates it, --db names another")
            if not os.access(self.path.parent, os.W_OK | os.X_OK):
                raise StoreError(f"{self} cannot be created: the directory is read-only")
            return
        if not self.path.is_file():
            raise StoreError(f"{self} is not a file")
        try:
            header = header_of(self.path)
        except OSError as error:
            raise StoreError(f"{self} cannot be read: {error.strerror}") from None
        if header and header != SQLITE_HEADER:
            raise StoreError(f"{self} is not an SQLite database; nothing was changed")
        if mode != "read" and not self.is_writable():
            raise StoreError(f"{self} is read-only")

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
        import sqlite3

        from sqlalchemy import create_engine, event

        engine = create_engine(self._sqlite_url(read_only), connect_args={"timeout": _BUSY_S})

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: object) -> None:
            connection.text_factory = _TEXT
            connection.isolation_level = None  # transactions begin where `begin` says, not where sqlite3 guesses
            with closing(connection.cursor()) as cursor:
                cursor.execute("PRAGMA foreign_keys = ON")
                try:
                    cursor.execute("PRAGMA synchronous = NORMAL")  # with WAL: a killed process loses nothing
                except UnicodeDecodeError:  # the first to read the schema; sqlite3 decodes the message with its text
                    raise sqlite3.DatabaseError("malformed database schema: text that is not UTF-8") from None
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
        from sqlalchemy import URL

        assert self.path is not None
        journal = self.path.with_name(self.path.name + "-wal")
        if not read_only or self.is_writable() or (journal.exists() and journal.stat().st_size):
            return URL.create("sqlite", database=str(self.path))
        return URL.create("sqlite", database=self.path.absolute().as_uri(), query={"immutable": "1", "uri": "true"})

    def _postgres(self, read_only: bool) -> Engine:
        from sqlalchemy import create_engine
        from sqlalchemy.exc import NoSuchModuleError

        # SQLAlchemy shows its URL with these; what is handed to the driver it shows nowhere.
        secrets = _secret_options(self._url)
        url = self._url.difference_update_query(secrets)
        try:
            arguments: dict[str, Any] = {"options": "-c default_transaction_read_only=on"} if read_only else {}
            if "connect_timeout" not in url.query:
                arguments["connect_timeout"] = 10
            return create_engine(url, connect_args={**arguments, **secrets}, pool_pre_ping=True)
        except NoSuchModuleError:
            raise StoreError(f"SQLAlchemy has no driver {url.drivername}; use postgresql+psycopg://") from None
        except ImportError as error:
            raise StoreError(f"{error.name} is not installed: pip install 'vrcli[postgres]'") from None


def header_of(path: Path) -> bytes:
    """What a file that may be an SQLite database begins with.

    The file stays open: to close it would drop every lock that SQLite holds on it for this process (so POSIX has it),
    and the next process to leave the database would take itself for the last and remove the journal that this one still
    writes to.

    Raises:
        OSError: it cannot be read.
    """
    info = path.stat()
    key = info.st_dev, info.st_ino
    if key not in _OPEN:
        _OPEN[key] = path.open("rb", buffering=0)
        if len(_OPEN) > _MOST_OPEN:
            _OPEN.pop(next(iter(_OPEN))).close()
    file = _OPEN[key] = _OPEN.pop(key)  # the newest is last
    file.seek(0)
    return file.read(len(SQLITE_HEADER)) or b""


def one_line(error: BaseException) -> str:
    """The first line of a driver's message."""
    return next(iter(str(error).strip().splitlines()), error.__class__.__name__)


def _secret_options(url: URL) -> dict[str, Any]:
    """The options of a URL that hold a secret, by their name or by what a connection string in them says."""
    return {name: value for name, value in url.query.items() if SECRET_OPTION.search(f"{name}={value}")}


def _writes(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("vr_writes"))
