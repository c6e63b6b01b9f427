"""Looking at every cell of a database, and putting rows that are damaged aside."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Table, select

from vrcli.db import schema
from vrcli.db.connection import Database, fetch
from vrcli.db.damage import Cells
from vrcli.db.errors import StoreError

#: How a specification and its data set come to the digest that the run is stored under.
Digest = Callable[[Mapping[str, Any], str | None], str]
#: Tables of rows that are looked at one by one; of the others, which are long, SQL finds what is not a number.
_ROWS = ("sweeps", "searches", "trials", "runs", "artifacts", "metrics", "metric_facts")
#: What every run refers to: named, and left where it is.
_SHARED = ("metrics", "metric_facts")
_NUMBERS = {
    "points": "typeof(step) <> 'integer' OR typeof(value) NOT IN ('real', 'integer', 'null')",
    "results": "typeof(value) NOT IN ('real', 'integer', 'null')",
}
_ONE = {"searches": "search", **{f"{one}s": one for one in ("sweep", "trial", "run", "artifact", "point", "result")}}
_ASIDE = """
CREATE TABLE IF NOT EXISTS damaged_rows (table_name TEXT NOT NULL, row TEXT NOT NULL, why TEXT NOT NULL,
    moved_at TEXT NOT NULL)"""


@dataclass(frozen=True)
class Damage:
    """A row that cannot be what it was written as.

    Args:
        key: the values of the columns that tell it from others.
    """

    table: str
    key: tuple[tuple[str, Any], ...]
    why: str

    def __str__(self) -> str:
        where = ", ".join(str(value) if name == "id" else f"{name} {value}" for name, value in self.key)
        return f"{_ONE.get(self.table, self.table)} {where}: {self.why}"


def damages(connection: Connection, digest: Digest | None) -> Iterator[Damage]:
    """Every damaged row.

    Args:
        digest: what a run's specification is known by; None: it is not looked at.
    """
    for name in _ROWS:
        yield from _of_rows(connection, schema.metadata.tables[name], digest)
    if connection.dialect.name == "sqlite":
        for name, no_number in _NUMBERS.items():
            keys = [column.name for column in schema.metadata.tables[name].primary_key]
            for row in fetch(connection, f"SELECT {', '.join(keys)} FROM {name} WHERE {no_number}", ()):
                yield Damage(name, tuple(zip(keys, row, strict=True)), "its value or step is not a number")


def _of_rows(connection: Connection, table: Table, digest: Digest | None) -> Iterator[Damage]:
    columns = [column for column in table.columns if column.name != "data"]
    cells = Cells(columns)
    keys = [column.name for column in table.primary_key]
    for row in connection.execute(select(*columns).order_by(*table.primary_key)):
        found = list(cells.reasons(row).values())
        if table is schema.runs and digest is not None and not found:
            found = _spec_of_another(row._mapping, digest)
        if found:
            yield Damage(table.name, tuple((key, row._mapping[key]) for key in keys), ", ".join(found))


def _spec_of_another(run: Mapping[Any, Any], digest: Digest) -> list[str]:
    """Whether a run's specification is the one that its digest was taken of. Others may store what ids they like."""
    spec, known = json.loads(run["spec"]), str(run["spec_id"])
    ours = len(known) == 16 and {"task_settings", "training", "versions"} & spec.keys()
    return ["spec is not the one of its spec_id"] if ours and digest(spec, run["dataset"]) != known else []


def uncounted(connection: Connection) -> list[str]:
    """Completed runs that have not as many points as they made steps."""
    sql = """
SELECT results.run_id, results.value,
    (SELECT count(*) FROM points WHERE points.run_id = results.run_id AND metric_id = train.id) AS found
FROM results JOIN metrics ON metrics.id = results.metric_id AND metrics.name = 'steps'
    JOIN runs ON runs.id = results.run_id AND runs.status = 'completed'
    JOIN metrics AS train ON train.name = 'train_loss'
ORDER BY results.run_id"""
    rows = fetch(connection, sql, ())
    return [
        f"run {run}: {steps:g} steps are recorded, and {found} points of train_loss"
        for run, steps, found in rows
        if isinstance(steps, int | float) and found and found != steps
    ]


def movable(connection: Connection, digest: Digest | None) -> list[Damage]:
    """The damaged rows that no other run refers to."""
    return [one for one in damages(connection, digest) if one.table not in _SHARED]


def put_aside(database: Database, digest: Digest | None) -> list[Damage]:
    """Move every damaged row, in one transaction, to the table damaged_rows; what hangs on it is removed.

    Raises:
        StoreError: it is not an SQLite file.
    """
    if not database.is_sqlite:
        raise StoreError(f"{database.label} is repaired with PostgreSQL's own tools")
    moved: list[Damage] = []
    with database.writing() as connection:
        while found := movable(connection, digest):
            connection.exec_driver_sql(_ASIDE)
            for one in found:
                _move(connection, one)
            moved += found
    return moved


def _move(connection: Connection, one: Damage) -> None:
    where = " AND ".join(f"{name} IS ?" for name, _ in one.key)
    key = [value for _, value in one.key]
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    with closing(driver.execute(f"SELECT * FROM {one.table} WHERE {where}", key)) as cursor:
        names = [about[0] for about in cursor.description]
        for row in cursor.fetchall():
            values = {n: v.hex() if isinstance(v, bytes) else v for n, v in zip(names, row, strict=True)}
            aside = (one.table, json.dumps(values), one.why, datetime.now(UTC).isoformat())
            driver.execute("INSERT INTO damaged_rows VALUES (?, ?, ?, ?)", aside)
    driver.execute(f"DELETE FROM {one.table} WHERE {where}", key)
