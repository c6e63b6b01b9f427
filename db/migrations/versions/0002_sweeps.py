"""Sweeps and their trials; runs know which they were made for."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_STATES = "state IN ('pending', 'running', 'completed', 'diverged', 'failed', 'pruned', 'interrupted')"

# New, changed, or built on one that is.
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
    runs.tag, runs.run_group, runs.spec_id, runs.created_at, runs.finished_at, runs.error,
    runs.sweep_id, runs.trial_id
FROM runs""",
    "v_best": """
SELECT task, preset, dataset, optimizer, n, diverged, best_val_loss, test_loss, id AS run_id, name AS run FROM (
    SELECT v_runs.*, count(*) OVER (PARTITION BY task, preset, dataset, optimizer) AS n,
        sum(CASE WHEN status = 'diverged' THEN 1 ELSE 0 END)
            OVER (PARTITION BY task, preset, dataset, optimizer) AS diverged,
        row_number() OVER (PARTITION BY task, preset, dataset, optimizer
            ORDER BY best_val_loss IS NULL, best_val_loss, id) AS place
    FROM v_runs WHERE status IN ('completed', 'diverged')
) AS ranked WHERE place = 1""",
    "v_trials": """
SELECT trials.id, trials.sweep_id, sweeps.name AS sweep, sweeps.task, sweeps.preset, sweeps.dataset, trials.optimizer,
    trials.number, trials.state, trials.value, coalesce(trials.kind, CAST(trials.value AS VARCHAR)) AS shown,
    trials.params, trials.epochs, trials.attempt,
    (SELECT max(runs.id) FROM runs WHERE runs.trial_id = trials.id) AS run_id,
    trials.started_at, trials.finished_at, trials.error
FROM trials JOIN sweeps ON sweeps.id = trials.sweep_id""",
}


def upgrade() -> None:
    op.execute("DROP VIEW v_best")
    op.execute("DROP VIEW v_runs")
    _create_sweeps()
    _create_trials()
    for column, table in {"sweep_id": "sweeps", "trial_id": "trials"}.items():
        # Plain SQL, which SQLite and PostgreSQL share: Alembic would rebuild SQLite's table for a reference.
        reference = f"CONSTRAINT fk_runs_{column} REFERENCES {table} (id) ON DELETE SET NULL"
        op.execute(f"ALTER TABLE runs ADD COLUMN {column} INTEGER {reference}")
        op.create_index(f"ix_runs_{column}", "runs", [column])
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def _create_sweeps() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("uuid", sa.String(32), nullable=False, unique=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("definition_key", sa.String(64), nullable=False, unique=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("task", sa.String(255), nullable=False),
        sa.Column("preset", sa.String(255)),
        sa.Column("dataset", sa.Text),
        sa.Column("dataset_fingerprint", sa.String(255)),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("trials", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("process", sa.String(255), nullable=False),
        sa.CheckConstraint("status IN ('running', 'completed', 'interrupted', 'stopped')", name="status"),
        sa.CheckConstraint("trials > 0", name="trials"),
        sqlite_autoincrement=True,
    )


def _create_trials() -> None:
    op.create_table(
        "trials",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("uuid", sa.String(32), nullable=False, unique=True),
        sa.Column("sweep_id", sa.Integer, sa.ForeignKey("sweeps.id", ondelete="CASCADE"), nullable=False),
        sa.Column("optimizer", sa.String(255), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("value", sa.Float(53)),
        sa.Column("kind", sa.String(4)),
        sa.Column("epochs", sa.Integer),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("started_at", sa.DateTime),
        sa.Column("heartbeat_at", sa.DateTime),
        sa.Column("finished_at", sa.DateTime),
        sa.Column("host", sa.String(255)),
        sa.Column("pid", sa.Integer),
        sa.Column("process", sa.String(255)),
        sa.Column("error", sa.Text),
        sa.UniqueConstraint("sweep_id", "optimizer", "number"),
        sa.CheckConstraint(_STATES, name="state"),
        sa.CheckConstraint("kind IS NULL OR (value IS NULL AND kind IN ('nan', 'inf', '-inf'))", name="kind"),
        sa.CheckConstraint("number >= 0", name="number"),
        sqlite_autoincrement=True,
    )
