"""The portable database: read by vr and by sqlite3 alone."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from vrcli.db.store import Store
from vrcli.errors import UsageError

Export = Callable[..., Path]


def test_a_part_of_a_database_is_a_database(export: Export, store: Store) -> None:
    path = export("sqlite", "part.db", ids=[1, 3, 4])
    assert [file.name for file in path.parent.iterdir() if "part" in file.name] == ["part.db"]
    with Store.open(path, mode="read") as part:
        assert part.check() == []
        found = sorted(part.runs.select(), key=lambda run: run.id)
        assert [run.uuid for run in found] == [store.runs.get(1).uuid, store.runs.get(3).uuid]  # 4 is still running
        for run, original in zip(found, (1, 3), strict=True):
            for (_, metric), curve in part.curves.read(run.id).items():
                np.testing.assert_array_equal(curve.values, store.curves.read(original)[original, metric].values)
        (sweep,) = part.sweeps.select()
        assert [trial.run_id for trial in part.searches.trials(sweep.id)] == [found[1].id]
        assert len(part.artifacts.select(found[0].id)) == 1
    with closing(sqlite3.connect(path.as_uri() + "?mode=ro", uri=True)) as plain:
        assert plain.execute("SELECT optimizer, best_val_loss FROM v_best ORDER BY 1").fetchall() == [
            ("adamw", 1.0),
            ("vradam", 1.0),
        ]


def test_a_run_has_all_its_curves(export: Export, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--metric does not go with --to sqlite"):
        export("sqlite", "part.db", metrics=["val_loss"])
    assert not (tmp_path / "part.db").exists()


def _uuids(path: Path) -> list[str]:
    with Store.open(path, mode="read") as part:
        return [run.uuid for run in sorted(part.runs.select(), key=lambda run: run.id)]


#: Makes a database and is killed, with all that it wrote only in the journal beside it.
_KILLED = """
import os, sys
from vrcli.db.store import Store
Store.open(sys.argv[1]).runs.begin({"task": "cnn", "optimizer": "sgd"}, spec_id="x", provenance={})
os._exit(0)
"""


def test_journals_of_the_replaced_database_do_not_come_back(export: Export, store: Store, tmp_path: Path) -> None:
    path, root = tmp_path / "part.db", Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", _KILLED, path], cwd=root, check=True)
    assert path.with_name("part.db-wal").stat().st_size > 0
    with pytest.raises(UsageError, match=r"part\.db is there already; --force replaces it, vr db merge"):
        export("sqlite", "part.db", ids=[1])
    export("sqlite", "part.db", ids=[1], force=True)
    assert sorted(file.name for file in tmp_path.glob("part*")) == ["part.db"]
    assert _uuids(path) == [store.runs.get(1).uuid]


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_journal_without_its_database_is_only_removed_when_told(
    export: Export, store: Store, tmp_path: Path, suffix: str
) -> None:
    left = tmp_path / f"part.db{suffix}"
    left.write_bytes(b"left over")
    with pytest.raises(UsageError, match=f"part.db{suffix} is there already; --force replaces it$"):
        export("sqlite", "part.db", ids=[1])
    assert left.read_bytes() == b"left over"
    assert _uuids(export("sqlite", "part.db", ids=[1], force=True)) == [store.runs.get(1).uuid]
    assert sorted(file.name for file in tmp_path.glob("part*")) == ["part.db"]


def test_a_database_in_use_is_not_replaced(export: Export, store: Store, tmp_path: Path) -> None:
    path = export("sqlite", "part.db", ids=[1])
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("SELECT count(*) FROM runs").fetchall()
        with pytest.raises(UsageError, match=r"part\.db is open in another program"):
            export("sqlite", "part.db", ids=[3], force=True)
    assert _uuids(path) == [store.runs.get(1).uuid]
    assert [file.name for file in tmp_path.glob(".part*")] == []
    export("sqlite", "part.db", ids=[3], force=True)
    assert _uuids(path) == [store.runs.get(3).uuid]


def test_any_file_is_replaced_when_told(export: Export, store: Store, tmp_path: Path) -> None:
    (tmp_path / "part.db").write_text("no database")
    assert _uuids(export("sqlite", "part.db", ids=[1], force=True)) == [store.runs.get(1).uuid]
