"""The store: all that the rest of vr knows of databases.

    with Store.open("vr.db") as store:
        run = store.runs.begin(spec, spec_id=spec_id, provenance=provenance)
        store.curves.add(run.id, {"train_loss": ([1, 2, 3], [0.9, 0.7, 0.6])})
        store.runs.finish(run.id, "completed", results={"best_val_loss": 0.6})

A store may be shared by threads, but not carried across a fork: a child process opens its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from vrcli.db import maintenance, networked, schema, versions
from vrcli.db.artifacts import Artifacts
from vrcli.db.cells import Digest
from vrcli.db.connection import Database, is_outage
from vrcli.db.curves import Curves
from vrcli.db.errors import EmptyDatabase, StoreError, Unavailable
from vrcli.db.location import Location
from vrcli.db.merge import merge
from vrcli.db.records import MergeReport
from vrcli.db.runs import Runs
from vrcli.db.searches import Searches
from vrcli.db.sweeps import Sweeps
from vrcli.db.versions import Upgrade
from vrcli.leftovers import scratch_folder

__all__ = ["EmptyDatabase", "Store", "StoreError", "Unavailable"]


class Store:
    """An open database of runs.

    Args:
        database: of the newest schema.
        notices: what opening did that the user should know, such as an upgrade.

    Attributes:
        label: its path or URL, as messages name it.
        location: where it is.
        runs: begins, ends and finds runs.
        sweeps: what searches have in common.
        searches: the searches of sweeps, and their trials.
        curves: the runs' values by step.
        artifacts: files kept with the runs.
    """

    def __init__(self, database: Database, notices: Sequence[str] = ()) -> None:
        self._database = database
        self.notices = tuple(notices)
        self.label, self.location = database.label, database.location
        self.runs = Runs(database)
        self.sweeps = Sweeps(database)
        self.searches = Searches(database, self.runs)
        self.curves = Curves(database)
        self.artifacts = Artifacts(database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the database back."""
        self._database.close()

    @classmethod
    def open(
        cls, where: str | os.PathLike[str] | Location, *, mode: Literal["create", "write", "read"] = "create"
    ) -> Self:
        """Open a database; in mode create also one that is not there yet.

        Args:
            where: the path of an SQLite file, or an SQLAlchemy URL of SQLite or PostgreSQL.
            mode: read never writes; write and create first mark runs whose process is gone as interrupted.

        Raises:
            StoreError: what is there cannot be used; it was not touched.
        """
        location = Location.of(where)
        location.check_file(mode)
        engine = location.engine(read_only=mode == "read")
        try:
            notices = _prepare(location, engine, mode)
            notices += networked.warning(None if mode == "read" else location.path, str(location))
            store = cls(Database(location, engine, read_only=mode == "read"), notices)
            if mode != "read":
                store.searches.mark_interrupted()
                store.runs.mark_interrupted()
            return store
        except DBAPIError as error:
            engine.dispose()
            reason = error.orig or error
            refusal = (Unavailable if is_outage(reason) else StoreError)(
                f"{location} cannot be opened: {location.reason(reason)}"
            )
            refusal.exit_code = 2  # nothing was begun
            raise refusal from error
        except BaseException:
            engine.dispose()
            raise

    @staticmethod
    def upgrade(where: str | os.PathLike[str] | Location) -> Upgrade:
        """Bring a database to this vr's schema, after a copy of it was made beside it (SQLite).

        Raises:
            StoreError: it cannot be done; the database is as it was.
        """
        location = Location.of(where)
        location.check_file("write")
        try:
            return versions.upgrade(location)
        except DBAPIError as error:
            raise StoreError(f"{location} cannot be opened: {location.reason(error.orig or error)}") from error

    @classmethod
    @contextmanager
    def reading(cls, where: str | os.PathLike[str] | Location) -> Iterator[Self]:
        """Open for reading. An SQLite file of an older schema is read from a copy that is upgraded; it stays."""
        location = Location.of(where)
        if location.path is None or not cls.is_older(location):
            with cls.open(location, mode="read") as store:
                yield store
            return
        with scratch_folder() as folder:
            copy = folder / location.path.name
            versions.copy_sqlite(location.path, copy)
            cls.upgrade(copy)
            with cls.open(copy, mode="read") as store:
                yield store

    @staticmethod
    def is_older(where: str | os.PathLike[str] | Location) -> bool:
        """Whether a database has an earlier schema of vr's."""
        location = Location.of(where)
        location.check_file("read")
        engine = location.engine(read_only=True)
        try:
            with engine.connect() as connection:
                found = versions.revision(connection, str(location))
            return found is not None and int(found) < int(schema.SCHEMA)
        finally:
            engine.dispose()

    def merge(
        self,
        other: Store,
        *,
        ids: Iterable[int] | int | None = None,
        dry_run: bool = False,
        advance: Callable[[], object] = lambda: None,
        curves: Mapping[int, Collection[str]] | None = None,
    ) -> MergeReport:
        """Copy what another database has and this one has not, see `vrcli.db.merge.merge`."""
        return merge(self._database, other._database, ids=ids, dry_run=dry_run, advance=advance, curves=curves)

    def check(self, digest: Digest | None = None) -> list[str]:
        """What is wrong with the database, one line each, see `vrcli.db.maintenance.check`."""
        return maintenance.check(self._database, digest)

    def repair(self, digest: Digest | None = None) -> tuple[list[str], Path | None]:
        """Put damaged rows aside after a backup, see `vrcli.db.maintenance.repair`."""
        return maintenance.repair(self._database, digest)

    def backup(self, target: str | os.PathLike[str]) -> Path:
        """Copy the database to a new file while others may be writing, see `vrcli.db.maintenance.backup`."""
        return maintenance.backup(self._database, target)

    def info(self) -> dict[str, Any]:
        """Figures of the database: schema, size, and how many rows it has of each kind."""
        return maintenance.info(self._database)


def _prepare(location: Location, engine: Engine, mode: str) -> tuple[str, ...]:
    """Create or upgrade the tables where the mode allows it, and say so; refuse otherwise."""
    with engine.connect() as connection:
        found = versions.revision(connection, str(location))
    if found == schema.SCHEMA:
        return ()
    if found is None:
        if mode != "create":
            raise EmptyDatabase(f"{location} is an empty database; `vr run` fills it")
        versions.create(engine, str(location))
        return ()
    if mode == "read" or location.path is None:
        first = "" if location.path else " after a pg_dump"
        raise StoreError(
            f"{location} has schema {int(found)} and this vr needs {int(schema.SCHEMA)}; "
            f"upgrade it with `vr db upgrade`{first}"
        )
    done = versions.upgrade(location)
    what = f"{location} was upgraded from schema {int(found)} to {int(done.after)}"
    return (f"{what}; a copy from before is {done.backup}",)
