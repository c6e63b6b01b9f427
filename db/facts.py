"""What tasks say of their results: whether less or more is better, in which unit, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Literal, Protocol

from sqlalchemy import Connection, delete, insert, select

from vrcli.db import schema
from vrcli.db.records import MetricFact
from vrcli.db.versions import lock

#: What a metric is called as a result or a curve, by where it is measured.
PREFIXES = ("train", "val", "best_val", "final_val", "test")
_COLUMNS = tuple(schema.metric_facts.c[field.name] for field in fields(MetricFact))


class Metric(Protocol):
    """A metric that a task declares."""

    @property
    def name(self) -> str: ...
    @property
    def direction(self) -> Literal["min", "max"] | None: ...
    @property
    def unit(self) -> str: ...
    @property
    def percent(self) -> bool: ...
    @property
    def shown(self) -> bool: ...


def objective(metrics: Sequence[Metric]) -> str:
    """The result by which runs are chosen: the best validation value of the first metric."""
    return f"best_val_{metrics[0].name if metrics else 'loss'}"


def read(connection: Connection, task: str | None = None) -> dict[tuple[str, str], MetricFact]:
    """The facts of a task, or of all, by task and result."""
    query = select(*_COLUMNS).order_by(schema.metric_facts.c.task, schema.metric_facts.c.metric)
    if task is not None:
        query = query.where(schema.metric_facts.c.task == task)
    found = [MetricFact(*row) for row in connection.execute(query)]
    return {(fact.task, fact.metric): fact for fact in found}


def write(connection: Connection, task: str, metrics: Sequence[Metric]) -> None:
    """Keep what a task says of its metrics, in place of what it said before."""
    said = [
        MetricFact(task, f"{prefix}_{metric.name}", metric.direction, metric.unit, metric.percent, metric.shown)
        for metric in metrics
        for prefix in PREFIXES
    ]
    add(connection, said, replacing=True)


def add(connection: Connection, said: Sequence[MetricFact], *, replacing: bool = False) -> None:
    """Keep facts that are not there yet.

    Args:
        replacing: also those that say something else of a result than is there.
    """

    def missing() -> list[MetricFact]:
        there = read(connection)
        return [f for f in said if (known := there.get((f.task, f.metric))) is None or (replacing and known != f)]

    if not said or not missing():
        return
    lock(connection)  # two writers that add the same facts would stumble over each other
    table = schema.metric_facts
    for fact in missing():
        connection.execute(delete(table).where(table.c.task == fact.task, table.c.metric == fact.metric))
        connection.execute(insert(table).values({field.name: getattr(fact, field.name) for field in fields(fact)}))
