"""Facts of metrics say which of them tables show; the tasks of vr say it of runs from before, too."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_PREFIXES = ("train", "val", "best_val", "final_val", "test")
#: What the only task with metrics of its own said of them when this was written: direction, unit, shown.
_GFLOWNET = {
    "loss": ("min", "", False),
    "loss_se": ("min", "", False),
    "reward": ("max", "", False),
    "reward_max": ("max", "", False),
    "diversity": ("max", "cells", True),
    "length": ("max", "moves", True),
    "distinct": ("max", "grids", True),
}


def upgrade() -> None:
    op.add_column("metric_facts", sa.Column("shown", sa.Boolean, nullable=False, server_default=sa.false()))
    connection = op.get_bind()
    if not connection.execute(sa.text("SELECT count(*) FROM runs WHERE task = 'gflownet'")).scalar():
        return
    texts = [sa.column(name, sa.String) for name in ("task", "metric", "direction", "unit")]
    facts = sa.table("metric_facts", *texts, *(sa.column(name, sa.Boolean) for name in ("percent", "shown")))
    connection.execute(sa.delete(facts).where(facts.c.task == "gflownet"))
    rows = [
        ("gflownet", f"{prefix}_{name}", direction, unit, False, shown)
        for name, (direction, unit, shown) in _GFLOWNET.items()
        for prefix in _PREFIXES
    ]
    op.bulk_insert(facts, [dict(zip(facts.c.keys(), row, strict=True)) for row in rows])
