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

#: What SQLite keeps beside a database while it is open. One that is left over would be taken for the new file's.
_JOURNALS = ("-wal", "-shm", "-journal")


def paths(path: Path) -> tuple[Path, ...]:
    """The file that `write` makes, and those of an earlier one that go with it."""
    return path, *(path.with_name(path.name + suffix) for suffix in _JOURNALS)


def write(runs: Selection, path: Path) -> Written:
    """Write the database.

    Raises:
        UsageError: only some curves were asked for, or another program has the file open that is to be replaced.
    """
    if runs.metrics is not None:
        raise UsageError("--metric does not go with --to sqlite: a run in a database of vr has all its curves")
    give_up(path)
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
            for journal in paths(part)[1:]:
                remove(journal)
        give_up(path)  # once more: writing takes its time
    left = (f"left out: {done.running} still running",) if done.running else ()
    lines = (*left, f"open it with: vr runs list --db {path}   or: sqlite3 {path} 'SELECT * FROM v_best'")
    return Written((path,), done.points, len(done.added), lines)


def give_up(path: Path) -> None:
    """Fold the journals of a database that is to be replaced into it, and remove what lies beside it otherwise.

    Raises:
        UsageError: another program has it open.
    """
    if path.exists():
        try:
            with closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as old:
                old.execute("PRAGMA journal_mode = DELETE")  # needs the database for itself, as does the next
                old.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise UsageError(f"--output {path} is open in another program; close it there first") from None
            # No database at all: nothing refers to what lies beside it.
    for journal in paths(path)[1:]:
        remove(journal)
