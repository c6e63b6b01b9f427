"""The store: all that the rest of vr knows of databases.

    with Store.open("vr.db") as store:
        run = store.begin_run(spec, spec_id=spec_id, provenance=provenance)
        store.add_points(run.id, {"train_loss": ([1, 2, 3], [0.9, 0.7, 0.6])})
        store.finish_run(run.id, "completed", results={"best_val_loss": 0.6})

A store may be shared by threads, but not carried across a fork: a child process opens its own.
"""

from __future__ import annotations

import os
from typing import Literal, Self

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from vrcli.db import schema, versions
from vrcli.db.errors import EmptyDatabase, StoreError
from vrcli.db.location import Location
from vrcli.db.maintenance import Maintenance
from vrcli.db.merge import Merge
from vrcli.db.versions import Upgrade

__all__ = ["EmptyDatabase", "Store", "StoreError"]


class Store(Merge, Maintenance):
    """An open database of runs.

    Attributes:
        notices: what opening did that the user should know, such as an upgrade.
    """

    notices: tuple[str, ...] = ()

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
            store = cls(location, engine, read_only=mode == "read")
            store.notices = notices
            if mode != "read":
                store.mark_interrupted()
            return store
        except DBAPIError as error:
            engine.dispose()
            raise StoreError(f"{location} cannot be opened: {location.reason(error.orig or error)}") from error
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
