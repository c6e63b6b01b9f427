"""Curves: many points, written fast and read fast."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from math import isfinite
from typing import Any

from sqlalchemy import Connection, exists, select

from vrcli.db import schema
from vrcli.db.connection import Database, among, fetch
from vrcli.db.errors import StoreError
from vrcli.db.records import Curve, join_value
from vrcli.db.rows import many, metric_ids
from vrcli.db.runs import touch

_SQLITE_INSERT = """
INSERT INTO points (run_id, metric_id, step, value, kind) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (run_id, metric_id, step) DO UPDATE SET value = excluded.value, kind = excluded.kind"""
_POSTGRES_INSERT = """
INSERT INTO points (run_id, metric_id, step, value, kind)
SELECT * FROM unnest(%s::integer[], %s::integer[], %s::bigint[], %s::float8[], %s::text[])
ON CONFLICT (run_id, metric_id, step) DO UPDATE SET value = excluded.value, kind = excluded.kind"""


class Curves:
    """The curves of a database's runs.

    Args:
        database: open.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run_id: int, points: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> None:
        """Append to the curves of a run that is running, in one transaction, and set its heartbeat.

        A step that is there already is replaced: a resumed run writes again what it had recorded after its
        checkpoint.

        Args:
            points: (steps, values) by metric, any sequences of numbers of equal length.
        """
        columns = {metric: _columns(metric, *series) for metric, series in points.items()}
        with self._database.writing() as connection:
            touch(self._database, connection, run_id)
            insert_curves(connection, run_id, columns)

    def read(
        self, run_ids: Iterable[int] | int, metrics: Iterable[str] | str | None = None
    ) -> dict[tuple[int, str], Curve]:
        """Whole curves by (run id, metric); a metric that a run does not have is left out.

        Args:
            metrics: all of them where None.
        """
        sql = "SELECT step, value, kind FROM points WHERE run_id = ? AND metric_id = ? ORDER BY step"
        wanted = None if metrics is None else set(many(metrics))
        found: dict[tuple[int, str], Curve] = {}
        with self._database.reading() as connection:
            names = dict(fetch(connection, "SELECT id, name FROM metrics ORDER BY id", ()))
            for run_id in dict.fromkeys(many(run_ids)):
                for metric_id, name in names.items():
                    if wanted is not None and name not in wanted:
                        continue
                    if rows := fetch(connection, sql, (run_id, metric_id)):
                        found[run_id, name] = _curve(run_id, name, rows)
        return found

    def metrics(self, run_ids: Iterable[int] | int) -> list[str]:
        """The names of the curves that any of these runs has, in the order in which they first came up."""
        points, metrics = schema.points.c, schema.metrics.c
        with self._database.reading() as connection:
            drawn = exists().where(points.metric_id == metrics.id, among(connection, points.run_id, many(run_ids)))
            return list(connection.scalars(select(metrics.name).where(drawn).order_by(metrics.id)))

    def beginning(self, prefix: str, run_ids: Iterable[int] | int) -> set[int]:
        """Those of these runs that have a curve whose name begins so."""
        points, metrics, runs = schema.points.c, schema.metrics.c, schema.runs.c
        with self._database.reading() as connection:
            named = select(metrics.id).where(metrics.name.startswith(prefix, autoescape=True))
            drawn = exists().where(points.run_id == runs.id, points.metric_id.in_(named))
            return set(connection.scalars(select(runs.id).where(among(connection, runs.id, many(run_ids)), drawn)))

    def last_step(self, run_id: int) -> int:
        """The last step that any curve of a run has a point of; 0 where none has."""
        sql = "SELECT coalesce(max(step), 0) FROM points WHERE run_id = ?"
        with self._database.reading() as connection:
            return int(fetch(connection, sql, (run_id,))[0][0])

    def count(self, run_ids: Iterable[int] | int) -> int:
        """How many points the curves of some runs have together; the curves themselves are not read."""
        sql = "SELECT count(*) FROM points WHERE run_id = ?"
        with self._database.reading() as connection:
            return sum(int(fetch(connection, sql, (run_id,))[0][0]) for run_id in many(run_ids))


def insert_curves(
    connection: Connection, run_id: int, columns: Mapping[str, tuple[Sequence[int], Sequence[float]]]
) -> None:
    """Write points, (steps, values) by metric; a step that is there already is replaced."""
    ids = metric_ids(connection, columns)
    rows: list[tuple[int, int, int, float | None, str | None]] = []
    for metric, (steps, values) in sorted(columns.items(), key=lambda item: ids[item[0]]):
        id = ids[metric]
        rows += [
            (run_id, id, step, value, None) if isfinite(value) else (run_id, id, step, None, str(value))
            for step, value in zip(steps, values, strict=True)
        ]
    if not rows:
        return
    with closing(connection.connection.cursor()) as cursor:
        if connection.dialect.name == "sqlite":
            cursor.executemany(_SQLITE_INSERT, rows)
        else:
            cursor.execute(_POSTGRES_INSERT, [list(column) for column in zip(*rows, strict=True)])


def _columns(metric: str, steps: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
    """Python's own numbers, which is all that the drivers take."""
    listed = [series.tolist() if hasattr(series, "tolist") else series for series in (steps, values)]
    columns = [int(step) for step in listed[0]], [float(value) for value in listed[1]]
    if len(columns[0]) != len(columns[1]):
        raise StoreError(f"{metric} has {len(columns[0])} steps but {len(columns[1])} values")
    return columns


def _curve(run_id: int, name: str, rows: Sequence[tuple[Any, ...]]) -> Curve:
    steps, values, kinds = zip(*rows, strict=True) if rows else ((), (), ())
    try:
        at = array("q", steps)
    except TypeError:  # damaged
        return _curve(run_id, name, [row for row in rows if isinstance(row[0], int)])
    try:
        return Curve(run_id, name, at, array("d", values))
    except TypeError:  # a None among them: not all are ordinary numbers
        return Curve(run_id, name, at, array("d", map(join_value, values, kinds)))
