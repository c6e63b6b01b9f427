"""SQLite: a vr database of the chosen runs and of what hangs on them, which vr and every SQL browser read.

Runs that have not ended are left out: they would be half.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path

from vrcli.db.store import Store
from vrcli.errors import UsageError
from vrcli.output import Target, journals, remove
from vrcli.results.export.selection import Selection, Written


def paths(path: Path) -> tuple[Path, ...]:
    """All files that `write` makes."""
    return (path,)


def write(runs: Selection, to: Target, curves: Mapping[int, Collection[str]] | None = None) -> Written:
    """Write the database.

    Args:
        curves: by run those that it keeps, and no artifacts; everything by default.

    Raises:
        UsageError: only some curves were asked for, or another program has the file open that is to be replaced.
    """
    if runs.metrics is not None:
        raise UsageError("--metric does not go with --to sqlite: a run in a database of vr has all its curves")
    give_up(to)
    with to.part() as part:
        try:
            with Store.open(part) as store:
                done = store.merge(
                    runs.store,
                    ids=[record.id for record in runs.records],
                    advance=lambda: runs.advance(),
                    curves=curves,
                )
            with closing(sqlite3.connect(part)) as single:
                # One file that can be carried away, without the journal beside it that write-ahead logging needs.
                single.execute("PRAGMA journal_mode = DELETE")
        finally:
            for journal in journals(part):
                remove(journal)
        give_up(to)  # once more: writing takes its time
    left = (f"left out: {done.running} still running",) if done.running else ()
    lines = (*left, f"open it with: vr runs list --db {to.path}   or: sqlite3 {to.path} 'SELECT * FROM v_best'")
    return Written(paths(to.path), done.points, len(done.added), lines)


def give_up(to: Target) -> None:
    """Fold the journals of a database that is to be replaced into it.

    Raises:
        UsageError: another program has it open.
    """
    if to.is_stream or not to.path.exists():
        return
    to.check()
    try:
        with closing(sqlite3.connect(to.path, timeout=1, isolation_level=None)) as old:
            old.execute("PRAGMA journal_mode = DELETE")  # needs the database for itself, as does the next
            old.execute("BEGIN EXCLUSIVE")
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            raise UsageError(f"{to.flag} {to.path} is open in another program; close it there first") from None
        # No database at all.
