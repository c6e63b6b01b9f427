"""The tables of the store. Tables only: `vrcli.db.store` reads and writes them, `vrcli.db.migrations` made them.

Numbers that may be NaN or infinite take two columns, since SQLite stores NaN as NULL: `value`, and beside it `kind`,
which is NULL for an ordinary number and 'nan', 'inf' or '-inf' where `value` is NULL.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
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
    UniqueConstraint,
    false,
    text,
)

SCHEMA = "0006"  # the newest revision in db/migrations/versions
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

# Of a trial that has not ended, both are NULL.
_KIND_OR_NONE = "kind IS NULL OR (value IS NULL AND kind IN ('nan', 'inf', '-inf'))"
_RUNNING = text("status = 'running'")
_KIND = "(kind IS NULL) = (value IS NOT NULL) AND (kind IS NULL OR kind IN ('nan', 'inf', '-inf'))"


class Utc(TypeDecorator[datetime]):
    """A time, kept as UTC without a zone, which every database can store and sort."""

    impl = DateTime
    cache_ok = True
    python_type = datetime

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None]:
        # SQLite gives text; SQLAlchemy's own way from there takes ten times as long, which long lists feel.
        return _from_text if dialect.name == "sqlite" else _with_zone


def _from_text(value: str | None) -> datetime | None:
    try:
        return None if value is None else datetime.fromisoformat(f"{value}+00:00")
    except ValueError:
        return value  # type: ignore[return-value]  # for `vrcli.db.damage` to find


def _with_zone(value: datetime | None) -> datetime | None:
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
    Column("sweep_id", ForeignKey("sweeps.id", ondelete="SET NULL")),
    Column("trial_id", ForeignKey("trials.id", ondelete="SET NULL")),
    Column("search_id", ForeignKey("searches.id", ondelete="SET NULL")),
    Column("objective", String(255)),  # the result by which runs are chosen
    Column("configuration", String(16), nullable=False, server_default=""),  # digest of all but the seed
    CheckConstraint("status IN ('running', 'completed', 'diverged', 'failed', 'interrupted')", name="status"),
    CheckConstraint("(status = 'running') = (finished_at IS NULL)", name="finished"),
    Index(None, "task", "optimizer"),
    Index(None, "spec_id"),
    Index(None, "created_at"),
    Index(None, "sweep_id"),
    Index(None, "trial_id"),
    Index(None, "search_id"),
    Index(None, "configuration"),
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

# What a task says of its results; of an old task, what their names say.
metric_facts = Table(
    "metric_facts",
    metadata,
    Column("task", String(255), primary_key=True),
    Column("metric", String(255), primary_key=True),  # name of a result or curve
    Column("direction", String(3)),
    Column("unit", String(64), nullable=False),
    Column("percent", Boolean, nullable=False),
    CheckConstraint("direction IN ('min', 'max')", name="direction"),
    Column("shown", Boolean, nullable=False, server_default=false()),
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

# What several searches have in common, so that their results can be compared.
sweeps = Table(
    "sweeps",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", String(32), nullable=False, unique=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("shared_key", String(64)),  # digest of what its searches share; NULL where that was never written down
    Column("task", String(255), nullable=False),
    Column("preset", String(255)),
    Column("dataset", Text),
    Column("dataset_fingerprint", String(255)),
    Column("created_at", Utc, nullable=False),
    Index(None, "shared_key"),
    sqlite_autoincrement=True,
)

searches = Table(
    "searches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", String(32), nullable=False, unique=True),
    Column("sweep_id", ForeignKey("sweeps.id", ondelete="CASCADE"), nullable=False),
    Column("optimizer", String(255), nullable=False),
    Column("search_seed", BigInteger),
    Column("definition_key", String(64), nullable=False, unique=True),
    Column("status", String(16), nullable=False),
    Column("settings", Text, nullable=False),
    Column("trials", Integer, nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("updated_at", Utc, nullable=False),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process", String(255), nullable=False),
    Column("direction", String(3), nullable=False, server_default="min"),  # which values of its trials are better
    CheckConstraint("status IN ('running', 'completed', 'interrupted', 'stopped')", name="status"),
    CheckConstraint("trials > 0", name="trials"),
    Index(None, "sweep_id"),
    sqlite_autoincrement=True,
)

# A trial that was interrupted is done again, so it may have several runs: they know their trial, it does not know them.
trials = Table(
    "trials",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", String(32), nullable=False, unique=True),
    Column("search_id", ForeignKey("searches.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("params", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("value", Float(53)),
    Column("kind", String(4)),
    Column("epochs", Integer),
    Column("attempt", Integer, nullable=False),
    Column("created_at", Utc, nullable=False),
    Column("started_at", Utc),
    Column("heartbeat_at", Utc),
    Column("finished_at", Utc),
    Column("host", String(255)),
    Column("pid", Integer),
    Column("process", String(255)),
    Column("error", Text),
    UniqueConstraint("search_id", "number"),
    CheckConstraint(
        "state IN ('pending', 'running', 'completed', 'diverged', 'failed', 'pruned', 'interrupted')", name="state"
    ),
    CheckConstraint(_KIND_OR_NONE, name="kind"),
    CheckConstraint("number >= 0", name="number"),
    sqlite_autoincrement=True,
)


def _result(name: str) -> str:
    """A column of v_runs: one result, NULL where the run has none or it is not an ordinary number."""
    return f"""(SELECT results.value FROM results JOIN metrics ON metrics.id = results.metric_id
    WHERE results.run_id = runs.id AND metrics.name = '{name}') AS {name}"""


# For people with an SQL browser; of these vr itself reads v_searches.
VIEWS = {
    # One row a run, with the results that people look for first.
    "v_runs": f"""
SELECT runs.id, runs.name, runs.status, runs.task, runs.preset, runs.dataset, runs.optimizer, runs.seed,
    {_result("best_val_loss")},
    {_result("best_epoch")},
    {_result("test_loss")},
    {_result("final_train_loss")},
    {_result("final_val_loss")},
    {_result("epochs")},
    {_result("steps")},
    {_result("wall_s")},
    runs.tag, runs.run_group, runs.spec_id, runs.created_at, runs.finished_at, runs.error,
    runs.sweep_id, runs.trial_id, runs.search_id, runs.objective, runs.configuration,
    (SELECT results.value FROM results JOIN metrics ON metrics.id = results.metric_id
    WHERE results.run_id = runs.id AND metrics.name = runs.objective) AS best_value
FROM runs""",
    # One row a result. `value` is NULL for nan, inf and -inf; `shown` is text that says them all.
    "v_results": """
SELECT results.run_id, runs.name AS run, runs.task, runs.preset, runs.dataset, runs.optimizer, runs.seed, runs.status,
    metrics.name AS metric, results.value, results.kind, coalesce(results.kind, CAST(results.value AS VARCHAR)) AS shown
FROM results JOIN runs ON runs.id = results.run_id JOIN metrics ON metrics.id = results.metric_id""",
    # One row a point: WHERE run_id = 17 AND metric = 'train_loss' ORDER BY step. `value` and `shown` as in v_results.
    "v_curves": """
SELECT points.run_id, runs.name AS run, runs.task, runs.preset, runs.dataset, runs.optimizer, runs.seed,
    metrics.name AS metric, points.step, points.value, points.kind,
    coalesce(points.kind, CAST(points.value AS VARCHAR)) AS shown
FROM points JOIN runs ON runs.id = points.run_id JOIN metrics ON metrics.id = points.metric_id""",
    # One row a task, preset, dataset and optimizer: its best run, how many runs ended, how many of them diverged. None
    # for an optimizer whose runs have all diverged.
    "v_best": """
SELECT task, preset, dataset, optimizer, n, diverged, best_val_loss, test_loss, id AS run_id, name AS run,
    objective, best_value, configuration, search_id FROM (
    SELECT directed.*, count(*) OVER (PARTITION BY task, preset, dataset, optimizer) AS n,
        sum(CASE WHEN status = 'diverged' THEN 1 ELSE 0 END)
            OVER (PARTITION BY task, preset, dataset, optimizer) AS diverged,
        row_number() OVER (PARTITION BY task, preset, dataset, optimizer
            ORDER BY status = 'diverged', best_value IS NULL,
                CASE direction WHEN 'max' THEN -best_value ELSE best_value END, id) AS place
    FROM (SELECT v_runs.*, metric_facts.direction FROM v_runs LEFT JOIN metric_facts
        ON metric_facts.task = v_runs.task AND metric_facts.metric = v_runs.objective
        WHERE status IN ('completed', 'diverged')) AS directed
) AS ranked WHERE place = 1 AND status = 'completed'""",
    # One row a trial, with its latest run; `value` is the objective, `shown` says nan and inf, too.
    "v_trials": """
SELECT trials.id, searches.sweep_id, sweeps.name AS sweep, sweeps.task, sweeps.preset, sweeps.dataset,
    searches.optimizer, trials.number, trials.state, trials.value,
    coalesce(trials.kind, CAST(trials.value AS VARCHAR)) AS shown, trials.params, trials.epochs, trials.attempt, run_id,
    trials.started_at, trials.finished_at, trials.error, trials.search_id, searches.search_seed, runs.objective,
    runs.configuration, trials.value AS best_value
FROM (
    SELECT trials.*, (SELECT max(runs.id) FROM runs WHERE runs.trial_id = trials.id) AS run_id FROM trials
) AS trials JOIN searches ON searches.id = trials.search_id JOIN sweeps ON sweeps.id = searches.sweep_id
    LEFT JOIN runs ON runs.id = run_id""",
    # One row a search: its trials that ended, the best of them, and what it came to on `n` fresh seeds, with the
    # settings that were run last. The means are over the runs that did not diverge.
    "v_searches": """
SELECT searches.id, searches.sweep_id, sweeps.name AS sweep, sweeps.task, sweeps.preset, sweeps.dataset,
    searches.optimizer, searches.search_seed, searches.status, searches.trials, coalesce(counted.ended, 0) AS ended,
    best.number AS best_trial, best.value AS best_value, best.params AS best_params, coalesce(fresh.n, 0) AS n,
    coalesce(fresh.diverged, 0) AS diverged, fresh.mean_test_loss, fresh.mean_best_value, fresh.configuration
FROM searches JOIN sweeps ON sweeps.id = searches.sweep_id
    LEFT JOIN (SELECT search_id, count(*) AS ended FROM trials
        WHERE state IN ('completed', 'diverged', 'failed', 'pruned') GROUP BY search_id) AS counted
        ON counted.search_id = searches.id
    LEFT JOIN (SELECT trials.*, row_number() OVER (PARTITION BY search_id
            ORDER BY CASE searches.direction WHEN 'max' THEN -value ELSE value END, number) AS place
        FROM trials JOIN searches ON searches.id = search_id
        WHERE state = 'completed' AND value IS NOT NULL) AS best
        ON best.search_id = searches.id AND best.place = 1
    LEFT JOIN (SELECT search_id, configuration, count(*) AS n,
            sum(CASE WHEN status = 'diverged' THEN 1 ELSE 0 END) AS diverged,
            avg(CASE WHEN status = 'completed' THEN test_loss END) AS mean_test_loss,
            avg(CASE WHEN status = 'completed' THEN best_value END) AS mean_best_value
        FROM (SELECT v_runs.*, first_value(configuration) OVER (PARTITION BY search_id
                ORDER BY created_at DESC, id DESC) AS newest
            FROM v_runs WHERE trial_id IS NULL AND status IN ('completed', 'diverged')) AS own
        WHERE configuration = newest GROUP BY search_id, configuration) AS fresh
        ON fresh.search_id = searches.id""",
}
