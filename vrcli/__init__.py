"""vr as a library: `vrcli.load("vr.db")` gives stored runs as pandas frames, `vrcli.optim` has the optimizers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vrcli.version import __version__

if TYPE_CHECKING:
    from vrcli.results.frames import Frames

__all__ = ["__version__", "load"]


def load(path: str | os.PathLike[str] = "vr.db") -> Frames:
    """Open a database of runs for reading: `.runs()`, `.curves()`, `.sweeps()` and `.trials()` are pandas frames.

    Args:
        path: an SQLite file, or an SQLAlchemy URL.

    Raises:
        db.store.StoreError: there is no such database, or it cannot be read.
    """
    from vrcli.results.frames import Frames  # pandas and sqlalchemy are slow to import

    return Frames(path, registered)


def registered(what: str) -> list[str]:
    """Names of all "tasks" or "optimizers" that can be run here."""
    if what == "tasks":
        from vrcli.tasks.registry import names
    else:
        from vrcli.optim.registry import names
    return list(names())
