"""Searches say which values of their trials are better, and views go by it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

VIEWS = {
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


def upgrade() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
    op.add_column("searches", sa.Column("direction", sa.String(3), nullable=False, server_default="min"))
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")
