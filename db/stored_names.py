"""Names that stand in a database file, for a shell that completes them: quickly, and without touching the file.

Nothing else of this package is imported: SQLAlchemy alone takes longer than a shell should wait.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

#: What is asked of the file, by kind of name; the newest first where there is an order.
QUERIES: Mapping[str, str] = {
    "run": "SELECT id, name FROM runs ORDER BY id DESC LIMIT 200",
    "sweep": "SELECT id, name FROM sweeps ORDER BY id DESC LIMIT 200",
    "optimizer": "SELECT DISTINCT optimizer FROM runs ORDER BY 1",
    "tag": "SELECT DISTINCT tag FROM runs WHERE tag IS NOT NULL ORDER BY 1 LIMIT 200",
    "group": "SELECT DISTINCT run_group FROM runs WHERE run_group IS NOT NULL ORDER BY 1 LIMIT 200",
    "metric": "SELECT name FROM metrics ORDER BY 1",
}


def names_in(path: Path, kind: str) -> list[str]:
    """Names of one kind; none where there is no such file, or it cannot be read as it lies there.

    A journal beside the file is read where there is one; otherwise the file is taken as complete, so that no side file
    is made.
    """
    if not path.is_file():
        return []
    journal = path.with_name(path.name + "-wal")
    how = "mode=ro" if journal.exists() and journal.stat().st_size else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=0.2)) as connection:
            rows = connection.execute(QUERIES[kind]).fetchall()
    except sqlite3.Error:
        return []
    return [str(value) for row in rows for value in row]
