"""What reports need stands in the store: facts of metrics, objectives, configurations, and the searches of sweeps.

Each sweep of before becomes a sweep of the same number, uuid and name, with one search of the same number and uuid.
"""

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_STATES = "state IN ('pending', 'running', 'completed', 'diverged', 'failed', 'pruned', 'interrupted')"
_PREFIXES = ("best_val_", "final_val_", "val_", "train_", "test_")
_IDENTITY = ("task", "preset", "dataset", "dataset_fingerprint", "optimizer", "seed")

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
    runs.sweep_id, runs.trial_id, runs.search_id, runs.objective, runs.configuration,
    (SELECT results.value FROM results JOIN metrics ON metrics.id = results.metric_id
    WHERE results.run_id = runs.id AND metrics.name = runs.objective) AS best_value
FROM runs""",
    "v_best": """
SELECT task, preset, dataset, optimizer, n, diverged, best_val_loss, test_loss, id AS run_id, name AS run,
    objective, best_value, configuration, search_id FROM (
    SELECT v_runs.*, count(*) OVER (PARTITION BY task, preset, dataset, optimizer) AS n,
        sum(CASE WHEN status = 'diverged' THEN 1 ELSE 0 END)
            OVER (PARTITION BY task, preset, dataset, optimizer) AS diverged,
        row_number() OVER (PARTITION BY task, preset, dataset, optimizer
            ORDER BY best_value IS NULL, best_value, id) AS place
    FROM v_runs WHERE status IN ('completed', 'diverged')
) AS ranked WHERE place = 1""",
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
}


def upgrade() -> None:
    for view in ("v_best", "v_runs", "v_trials"):
        op.execute(f"DROP VIEW {view}")
    _create_searches()
    _fill_searches()
    if op.get_context().dialect.name == "sqlite":
        _remake_in_sqlite()
    else:
        _alter_in_postgres()
    op.create_index("ix_sweeps_shared_key", "sweeps", ["shared_key"])
    # Plain SQL, which SQLite and PostgreSQL share: Alembic would rebuild SQLite's table for a reference.
    reference = "CONSTRAINT fk_runs_search_id REFERENCES searches (id) ON DELETE SET NULL"
    op.execute(f"ALTER TABLE runs ADD COLUMN search_id INTEGER {reference}")
    op.execute("ALTER TABLE runs ADD COLUMN objective VARCHAR(255)")
    op.execute("ALTER TABLE runs ADD COLUMN configuration VARCHAR(16) DEFAULT '' NOT NULL")
    op.execute("UPDATE runs SET search_id = sweep_id")
    _fill_runs()
    op.create_index("ix_runs_search_id", "runs", ["search_id"])
    op.create_index("ix_runs_configuration", "runs", ["configuration"])
    _create_facts()
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def _create_searches() -> None:
    op.create_table(
        "searches",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("uuid", sa.String(32), nullable=False, unique=True),
        sa.Column("sweep_id", sa.Integer, sa.ForeignKey("sweeps.id", ondelete="CASCADE"), nullable=False),
        sa.Column("optimizer", sa.String(255), nullable=False),
        sa.Column("search_seed", sa.BigInteger),
        sa.Column("definition_key", sa.String(64), nullable=False, unique=True),
        sa.Column("status", sa.String(16), nullable=False),
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
    op.create_index("ix_searches_sweep_id", "searches", ["sweep_id"])


def _fill_searches() -> None:
    """One search of each sweep; its optimizer and seed stand in its settings, else its trials name the optimizer."""
    connection = op.get_bind()
    same = "id, uuid, definition_key, status, settings, trials, created_at, updated_at, host, pid, process"
    op.execute(
        f"INSERT INTO searches (sweep_id, optimizer, {same}) SELECT id, "
        f"coalesce((SELECT min(optimizer) FROM trials WHERE trials.sweep_id = sweeps.id), ''), {same} FROM sweeps"
    )
    update = sa.text(
        "UPDATE searches SET optimizer = coalesce(:optimizer, optimizer), search_seed = :seed WHERE id = :id"
    )
    for id, text in connection.execute(sa.text("SELECT id, settings FROM searches")).all():
        settings = json.loads(text)
        values = {"id": id, "optimizer": settings.get("optimizer"), "seed": settings.get("search_seed")}
        connection.execute(update, values)


def _sweep_columns() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("uuid", sa.String(32), nullable=False, unique=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("shared_key", sa.String(64)),
        sa.Column("task", sa.String(255), nullable=False),
        sa.Column("preset", sa.String(255)),
        sa.Column("dataset", sa.Text),
        sa.Column("dataset_fingerprint", sa.String(255)),
        sa.Column("created_at", sa.DateTime, nullable=False),
    ]


def _trial_columns() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("uuid", sa.String(32), nullable=False, unique=True),
        sa.Column("search_id", sa.Integer, sa.ForeignKey("searches.id", ondelete="CASCADE"), nullable=False),
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
        sa.UniqueConstraint("search_id", "number"),
        sa.CheckConstraint(_STATES, name="state"),
        sa.CheckConstraint("kind IS NULL OR (value IS NULL AND kind IN ('nan', 'inf', '-inf'))", name="kind"),
        sa.CheckConstraint("number >= 0", name="number"),
    ]


def _remake_in_sqlite() -> None:
    """SQLite drops no column that a constraint names, so both tables are made anew."""
    op.execute("PRAGMA legacy_alter_table = ON")  # a table that is renamed takes no references along
    for table, columns in {"sweeps": _sweep_columns(), "trials": _trial_columns()}.items():
        op.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
        op.create_table(table, *columns, sqlite_autoincrement=True)
        kept = [column.name for column in columns if isinstance(column, sa.Column) and column.name != "shared_key"]
        found = ", ".join("sweep_id" if name == "search_id" else str(name) for name in kept)
        op.execute(f"INSERT INTO {table} ({', '.join(map(str, kept))}) SELECT {found} FROM old_{table}")
        # The number of a row that was deleted is never given to another.
        last = f"SELECT seq FROM sqlite_sequence WHERE name = 'old_{table}'"
        op.execute(f"UPDATE sqlite_sequence SET seq = max(seq, ({last})) WHERE name = '{table}'")
        op.execute(f"DROP TABLE old_{table}")
    op.execute("PRAGMA legacy_alter_table = OFF")


def _alter_in_postgres() -> None:
    op.execute("SELECT setval(pg_get_serial_sequence('searches', 'id'), (SELECT max(id) FROM searches))")
    for column in ("definition_key", "status", "settings", "trials", "updated_at", "host", "pid", "process"):
        op.drop_column("sweeps", column)
    op.add_column("sweeps", sa.Column("shared_key", sa.String(64)))
    op.drop_constraint("fk_trials_sweep_id", "trials", type_="foreignkey")
    op.drop_constraint("uq_trials_sweep_id", "trials", type_="unique")
    op.alter_column("trials", "sweep_id", new_column_name="search_id")
    op.drop_column("trials", "optimizer")
    op.create_unique_constraint("uq_trials_search_id", "trials", ["search_id", "number"])
    op.create_foreign_key("fk_trials_search_id", "trials", "searches", ["search_id"], ["id"], ondelete="CASCADE")


def _fill_runs() -> None:
    connection = op.get_bind()
    objectives = connection.execute(
        sa.text(
            "SELECT results.run_id, min(metrics.name) FROM results JOIN metrics ON metrics.id = results.metric_id "
            "WHERE substr(metrics.name, 1, 9) = 'best_val_' GROUP BY results.run_id"
        )
    )
    by_run: dict[int, str] = {row[0]: row[1] for row in objectives}
    rows = connection.execute(sa.text("SELECT id, task, spec FROM runs")).all()
    by_task = {task: by_run[id] for id, task, _ in rows if id in by_run}
    update = sa.text("UPDATE runs SET objective = :objective, configuration = :configuration WHERE id = :id")
    values = [
        {"id": id, "objective": by_run.get(id) or by_task.get(task) or "best_val_loss",
         "configuration": _configuration(json.loads(spec))}
        for id, task, spec in rows
    ]  # fmt: skip
    if values:
        connection.execute(update, values)


def _configuration(spec: dict[str, Any]) -> str:
    """As `vrcli.db.configuration` had it when this was written."""
    flat: dict[str, Any] = {}
    for key, value in spec.items():
        if key in _IDENTITY:
            continue
        if not isinstance(value, dict):
            flat[key] = value
            continue
        for name, inner in value.items():
            if not (name == "dataset" and spec.get("dataset_fingerprint")):
                name = f"{name}_code" if key == "code" else name
                flat[name if name not in flat else f"{key.removesuffix('_settings')}.{name}"] = inner
    body = json.dumps([[spec.get(name) for name in _IDENTITY[:-1]], flat], sort_keys=True, default=str)
    return hashlib.blake2b(body.encode(), digest_size=8).hexdigest()


def _create_facts() -> None:
    """What tasks say of their results; of runs from before, what the results' names say."""
    facts = op.create_table(
        "metric_facts",
        sa.Column("task", sa.String(255), primary_key=True),
        sa.Column("metric", sa.String(255), primary_key=True),
        sa.Column("direction", sa.String(3)),
        sa.Column("unit", sa.String(64), nullable=False),
        sa.Column("percent", sa.Boolean, nullable=False),
        sa.CheckConstraint("direction IN ('min', 'max')", name="direction"),
    )
    query = """SELECT DISTINCT runs.task, metrics.name FROM results JOIN runs ON runs.id = results.run_id
        JOIN metrics ON metrics.id = results.metric_id"""
    quantities = {
        (task, name.removeprefix(prefix))
        for task, name in op.get_bind().execute(sa.text(query)).all()
        for prefix in _PREFIXES
        if name.startswith(prefix)
    }
    rows = []
    for task, quantity in sorted(quantities):
        last = quantity.rsplit("_", 1)[-1]
        direction = "min" if last in ("loss", "perplexity") else "max" if last == "accuracy" else None
        if direction is not None:
            rows += [
                {"task": task, "metric": prefix + quantity, "direction": direction, "unit": "",
                 "percent": last == "accuracy"}
                for prefix in _PREFIXES
            ]  # fmt: skip
    if facts is not None and rows:
        op.bulk_insert(facts, list({(row["task"], row["metric"]): row for row in rows}.values()))
