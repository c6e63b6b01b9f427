"""What runs, sweeps, curves and merges share: writing rows, and reading them by number or name."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Column, Connection, insert, select
from sqlalchemy.exc import IntegrityError

from vrcli.db import liveness, names, schema
from vrcli.db.connection import MOST_PARAMETERS, Database, fetch, stream
from vrcli.db.errors import StoreError
from vrcli.db.records import join_value, split_value
from vrcli.db.versions import lock


def many(value: Any) -> list[Any]:
    """One value or several as a list; a string is one value."""
    return [value] if isinstance(value, (str, int)) else list(value)


def as_json(what: str, value: Mapping[str, Any]) -> str:
    """JSON that SQL can read, too: no NaN in it."""
    try:
        readable = json.dumps(value, allow_nan=False, ensure_ascii=False)
        # A command line may hold bytes that are not text, which only the escaped form can carry.
        return readable if _is_text(readable) else json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{what} cannot be stored as JSON: {error}") from None


def _is_text(text: str) -> bool:
    """False where a string holds half characters, which no database stores."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def this_process() -> dict[str, Any]:
    """The columns that say which process writes a row."""
    process = liveness.current()
    return {"host": process.host, "pid": process.pid, "process": process.token}


def known(database: Database, connection: Connection, column: Column[int], what: str, id: int) -> int:
    """This column of the row of this id.

    Raises:
        StoreError: there is no such row.
    """
    found = connection.scalar(select(column).where(column.table.c.id == id))
    if found is None:
        raise StoreError(f"{database.label} has no {what} {id}")
    return int(found)


def insert_named(connection: Connection, table: Any, row: Mapping[str, Any], *, wanted: str | None = None) -> int:
    """Insert a row under a two-word name that no other has, the wanted one if it is free, and return its id."""
    attempt = 0
    while True:
        name = wanted if wanted and not attempt else names.propose(attempt)
        try:
            with connection.begin_nested():
                return int(connection.scalars(insert(table).returning(table.c.id), {**row, "name": name}).one())
        except IntegrityError:
            if connection.scalar(select(table.c.id).where(table.c.name == name)) is None:
                raise
            attempt += 1


def insert_sweep(connection: Connection, facts: Mapping[str, Any], shared_key: str | None) -> int:
    """Insert a sweep, and return its id.

    Args:
        facts: task, preset, dataset and dataset_fingerprint; others are left out.
    """
    row = {name: facts.get(name) for name in ("task", "preset", "dataset", "dataset_fingerprint")}
    row |= {"uuid": uuid4().hex, "shared_key": shared_key, "created_at": datetime.now(UTC)}
    return insert_named(connection, schema.sweeps, row)


def read_results(
    connection: Connection, run_ids: Sequence[int], wanted: Iterable[str] | None = None
) -> Mapping[int, dict[str, float]]:
    """Results by run: one query, whatever the number of runs."""
    names = dict(fetch(connection, "SELECT id, name FROM metrics", ()))
    if wanted is not None:
        chosen = set(many(wanted))
        names = {id: name for id, name in names.items() if name in chosen}
    found: dict[int, dict[str, float]] = defaultdict(dict)
    if not run_ids or not names:
        return found
    sql = "SELECT run_id, metric_id, value, kind FROM results WHERE run_id "
    if len(run_ids) <= MOST_PARAMETERS:
        sql, parameters = f"{sql} IN ({', '.join('?' * len(run_ids))})", list(run_ids)
    else:
        sql, parameters = f"{sql} BETWEEN ? AND ?", [min(run_ids), max(run_ids)]
    if wanted is not None:
        sql = f"{sql} AND metric_id IN ({', '.join(map(str, names))})"
    for run_id, metric_id, value, kind in stream(connection, sql, parameters):
        found[run_id][names[metric_id]] = join_value(value, kind)
    return found


def insert_results(connection: Connection, run_id: int, results: Mapping[str, float]) -> None:
    """Write the figures of a run."""
    ids = metric_ids(connection, results)
    values = [(ids[name], *split_value(float(value))) for name, value in results.items()]
    rows = [{"run_id": run_id, "metric_id": id, "value": value, "kind": kind} for id, value, kind in values]
    if rows:
        connection.execute(insert(schema.results), rows)


def metric_ids(connection: Connection, wanted: Collection[str]) -> dict[str, int]:
    """The small ids of metric names; new names get one."""
    query = "SELECT name, id FROM metrics"
    ids: dict[str, int] = dict(fetch(connection, query, ()))
    if all(name in ids for name in wanted):
        return ids
    lock(connection)  # two writers that add the same names in another order would wait for each other
    ids = dict(fetch(connection, query, ()))
    for name in wanted:
        if name not in ids:
            connection.execute(insert(schema.metrics).values(name=name))
    return dict(fetch(connection, query, ()))
