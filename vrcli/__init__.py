"""vr as a library: `vrcli.load("vr.db")` gives stored runs as pandas frames, `vrcli.optim` has the optimizers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vrcli.results.frames import Frames

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def load(path: str | os.PathLike[str] = "vr.db") -> Frames:
    """Open a database of runs for reading: `.runs()`, `.curves()`, `.sweeps()` and `.trials()` are pandas frames.

    Args:
        path: an SQLite file, or an SQLAlchemy URL.

    Raises:
        db.store.StoreError: there is no such database, or it cannot be read.
    """
    from vrcli.results.frames import Frames  # pandas and sqlalchemy are slow to import

    return Frames(path)
