"""The portable database: read by vr and by sqlite3 alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from db.store import Store
from vrcli.errors import UsageError

Export = Callable[..., Path]


def test_a_part_of_a_database_is_a_database(export: Export, store: Store) -> None:
    path = export("sqlite", "part.db", ids=[1, 3, 4])
    assert [file.name for file in path.parent.iterdir() if "part" in file.name] == ["part.db"]
    with Store.open(path, mode="read") as part:
        assert part.check() == []
        found = sorted(part.runs(), key=lambda run: run.id)
        assert [run.uuid for run in found] == [store.run(1).uuid, store.run(3).uuid]  # 4 is still running
        for run, original in zip(found, (1, 3), strict=True):
            for (_, metric), curve in part.curves(run.id).items():
                np.testing.assert_array_equal(curve.values, store.curves(original)[original, metric].values)
        (sweep,) = part.sweeps()
        assert [trial.run_id for trial in part.trials(sweep.id)] == [found[1].id]
        assert len(part.artifacts(found[0].id)) == 1
    with closing(sqlite3.connect(path.as_uri() + "?mode=ro", uri=True)) as plain:
        assert plain.execute("SELECT optimizer, best_val_loss FROM v_best ORDER BY 1").fetchall() == [
            ("adamw", 1.0),
            ("vradam", 1.0),
        ]


def test_a_run_has_all_its_curves(export: Export, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--metric does not go with --to sqlite"):
        export("sqlite", "part.db", metrics=["val_loss"])
    assert not (tmp_path / "part.db").exists()
