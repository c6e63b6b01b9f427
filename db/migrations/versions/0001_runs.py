"""Runs, their results, curves and artifacts.

A migration is a record of its time: it repeats what `vrcli.db.schema` held then, and does not change with it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_RUNNING = sa.text("status = 'running'")
_STATUS = "status IN ('running', 'completed', 'diverged', 'failed', 'interrupted')"
_KIND = "(kind IS NULL) = (value IS NOT NULL) AND (kind IS NULL OR kind IN ('nan', 'inf', '-inf'))"

VIEWS = {
    "v_runs": """
SELECT runs.id, runs.name, runs.status, runs.task, runs.preset, runs.dataset, runs.optimizer, runs.seed,
    (SELECT results.value FROM results JOIN metrics ON metrics.id = results.metric_id
    WHERE results.run_id = runs.id AND metrics.name = 'best_val_loss') AS best_val_loss,
    (SELECT results.value FROM results JOIN metrics ON metrics.id = results.metric_id
    WHERE results.run_id = runs.id AND metrics.name = 'best_epoch') AS best_epoch,
    (SELECT results.value FROM results JOIN metrics ON metrics.id = results.metric_id
    WHERE results.run_id = runs.id AND metrics.name = 'test_loss') AS test_loss,
    (SELECT results.value FROM results JOIN metrics ON metrics.id = results.metric_id
    WHERE results.run_id = runs.id AND metrics.name = 'final_train_loss') AS final_train_loss,
    (SELECT results.value FROM results JOIN metrics ON metrics.id = results.metric_id
    WHERE results.run_id = runs.id AND metrics.name = 'final_val_loss') AS final_val_loss,
    (SELECT results.value FROM results JOIN metrics ON metrics.id = results.metric_id
    WHERE results.run_id = runs.id AND metrics.name = 'epochs') AS epochs,
    (SELECT results.value FROM results JOIN metrics ON metrics.id = results.metric_id
    WHERE results.run_id = runs.id AND metrics.name = 'steps') AS steps,
    (SELECT results.value FROM results JOIN metrics ON metrics.id = results.metric_id
    WHERE results.run_id = runs.id AND metrics.name = 'wall_s') AS wall_s,
    runs.tag, runs.run_group, runs.spec_id, runs.created_at, runs.finished_at, runs.error
FROM runs""",
    "v_results": """
SELECT results.run_id, runs.name AS run, runs.task, runs.preset, runs.dataset, runs.optimizer, runs.seed, runs.status,
    metrics.name AS metric, results.value, results.kind, coalesce(results.kind, CAST(results.value AS VARCHAR)) AS shown
FROM results JOIN runs ON runs.id = results.run_id JOIN metrics ON metrics.id = results.metric_id""",
    "v_curves": """
SELECT points.run_id, runs.name AS run, runs.task, runs.preset, runs.dataset, runs.optimizer, runs.seed,
    metrics.name AS metric, points.step, points.value, points.kind,
    coalesce(points.kind, CAST(points.value AS VARCHAR)) AS shown
FROM points JOIN runs ON runs.id = points.run_id JOIN metrics ON metrics.id = points.metric_id""",
    "v_best": """
SELECT task, preset, dataset, optimizer, n, diverged, best_val_loss, test_loss, id AS run_id, name AS run FROM (
    SELECT v_runs.*, count(*) OVER (PARTITION BY task, preset, dataset, optimizer) AS n,
        sum(CASE WHEN status = 'diverged' THEN 1 ELSE 0 END)
            OVER (PARTITION BY task, preset, dataset, optimizer) AS diverged,
        row_number() OVER (PARTITION BY task, preset, dataset, optimizer
            ORDER BY best_val_loss IS NULL, best_val_loss, id) AS place
    FROM v_runs WHERE status IN ('completed', 'diverged')
) AS ranked WHERE place = 1""",
}


def upgrade() -> None:
    _create_runs()
    op.create_table(
        "metrics",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(255), nullable=False, unique=True),
    )
    _create_numbers("results")
    _create_numbers("points", sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False))
    _create_artifacts()
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("uuid", sa.String(32), nullable=False, unique=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("task", sa.String(255), nullable=False),
        sa.Column("preset", sa.String(255)),
        sa.Column("dataset", sa.Text),
        sa.Column("dataset_fingerprint", sa.String(255)),
        sa.Column("optimizer", sa.String(255), nullable=False),
        sa.Column("seed", sa.BigInteger),
        sa.Column("spec_id", sa.String(64), nullable=False),
        sa.Column("tag", sa.String(255)),
        sa.Column("run_group", sa.String(255)),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("heartbeat_at", sa.DateTime, nullable=False),
        sa.Column("finished_at", sa.DateTime),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("process", sa.String(255), nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("provenance", sa.Text, nullable=False),
        sa.CheckConstraint(_STATUS, name="status"),
        sa.CheckConstraint("(status = 'running') = (finished_at IS NULL)", name="finished"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_runs_task", "runs", ["task", "optimizer"])
    op.create_index("ix_runs_spec_id", "runs", ["spec_id"])
    op.create_index("ix_runs_created_at", "runs", ["created_at"])
    op.create_index("ix_runs_running", "runs", ["status"], sqlite_where=_RUNNING, postgresql_where=_RUNNING)


def _create_numbers(table: str, *step: sa.Column[int]) -> None:
    """Results and points: numbers of a run by metric, points by step as well."""
    op.create_table(
        table,
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("metric_id", sa.Integer, sa.ForeignKey("metrics.id"), primary_key=True),
        *step,
        sa.Column("value", sa.Float(53)),
        sa.Column("kind", sa.String(4)),
        sa.CheckConstraint(_KIND, name="kind"),
        sqlite_with_rowid=False,
    )


def _create_artifacts() -> None:
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("step", sa.BigInteger),
        sa.Column("media_type", sa.String(255), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    step = sa.text("coalesce(step, -1)")
    op.create_index("uq_artifacts_name", "artifacts", ["run_id", "name", step], unique=True)
