"""The tables of the store. Tables only: who reads and writes them is `db.store`, how they came about `db.migrations`.

Numbers that may be NaN or infinite take two columns, since SQLite stores NaN as NULL: `value`, and beside it `kind`,
which is NULL for an ordinary number and 'nan', 'inf' or '-inf' where `value` is NULL.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

SCHEMA = "0001"  # the newest revision in db/migrations/versions
VERSION_TABLE = "vr_schema"  # private, so that other users of the same database keep their own alembic_version

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

_RUNNING = text("status = 'running'")
_KIND = "(kind IS NULL) = (value IS NOT NULL) AND (kind IS NULL OR kind IN ('nan', 'inf', '-inf'))"


class Utc(TypeDecorator[datetime]):
    """A time, kept as UTC without a zone, which every database can store and sort."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value and value.replace(tzinfo=UTC)


runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", String(32), nullable=False, unique=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("status", String(16), nullable=False),
    Column("task", String(255), nullable=False),
    Column("preset", String(255)),
    Column("dataset", Text),
    Column("dataset_fingerprint", String(255)),
    Column("optimizer", String(255), nullable=False),
    Column("seed", BigInteger),
    Column("spec_id", String(64), nullable=False),
    Column("tag", String(255)),
    Column("run_group", String(255)),  # `group` alone would have to be quoted in every query
    Column("created_at", Utc, nullable=False),
    Column("heartbeat_at", Utc, nullable=False),
    Column("finished_at", Utc),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process", String(255), nullable=False),
    Column("error", Text),
    Column("spec", Text, nullable=False),
    Column("provenance", Text, nullable=False),
    CheckConstraint("status IN ('running', 'completed', 'diverged', 'failed', 'interrupted')", name="status"),
    CheckConstraint("(status = 'running') = (finished_at IS NULL)", name="finished"),
    Index(None, "task", "optimizer"),
    Index(None, "spec_id"),
    Index(None, "created_at"),
    Index(
        "ix_runs_running",
        "status",
        sqlite_where=text("status = 'running'"),
        postgresql_where=text("status = 'running'"),
    ),
    sqlite_autoincrement=True,  # the number of a deleted run is never given to another
)

# Names of curves and of results; rows of curves carry the small id.
metrics = Table(
    "metrics",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
)

results = Table(
    "results",
    metadata,
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("metric_id", ForeignKey("metrics.id"), primary_key=True),
    Column("value", Float(53)),
    Column("kind", String(4)),
    CheckConstraint(_KIND, name="kind"),
    sqlite_with_rowid=False,
)

# Clustered by its key, so that a curve is one range read in order of its steps.
points = Table(
    "points",
    metadata,
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("metric_id", ForeignKey("metrics.id"), primary_key=True),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Float(53)),
    Column("kind", String(4)),
    CheckConstraint(_KIND, name="kind"),
    sqlite_with_rowid=False,
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("step", BigInteger),
    Column("media_type", String(255), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("data", LargeBinary, nullable=False),
    # NULL would not equal NULL here, hence the coalesce: one file per name and step.
    Index("uq_artifacts_name", "run_id", "name", text("coalesce(step, -1)"), unique=True),
)

VIEWS: dict[str, str] = {}
