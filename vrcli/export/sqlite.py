"""SQLite: a vr database of the chosen runs and of what hangs on them, which vr and every SQL browser read.

Runs that have not ended are left out: they would be half.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from db.store import Store
from vrcli.errors import UsageError
from vrcli.export.selection import Selection, Written, part_of, remove


def paths(path: Path) -> tuple[Path, ...]:
    """All files that `write` makes."""
    return (path,)


def write(runs: Selection, path: Path) -> Written:
    """Write the database.

    Raises:
        UsageError: only some curves were asked for.
    """
    if runs.metrics is not None:
        raise UsageError("--metric does not go with --to sqlite: a run in a database of vr has all its curves")
    with part_of(path) as part:
        try:
            with Store.open(part) as store:
                done = store.merge(
                    runs.store, ids=[record.id for record in runs.records], advance=lambda: runs.advance()
                )
            with closing(sqlite3.connect(part)) as single:
                # One file that can be carried away, without the journal beside it that write-ahead logging needs.
                single.execute("PRAGMA journal_mode = DELETE")
        finally:
            for suffix in ("-wal", "-shm"):
                remove(part.with_name(part.name + suffix))
    left = (f"left out: {done.running} still running",) if done.running else ()
    lines = (*left, f"open it with: vr runs list --db {path}   or: sqlite3 {path} 'SELECT * FROM v_best'")
    return Written((path,), done.points, len(done.added), lines)
