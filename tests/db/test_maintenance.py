"""Copies are whole, checks find what is wrong, figures are right."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from vrcli.db import schema
from vrcli.db.records import RunRecord
from vrcli.db.store import Store, StoreError

Begin = Callable[..., RunRecord]


@pytest.fixture
def file_store(tmp_path: Path) -> Store:
    """An SQLite store with two runs, one of them running."""
    store = Store.open(tmp_path / "vr.db")
    for seed in range(2):
        run = store.runs.begin({"task": "cnn", "optimizer": "sgd", "seed": seed}, spec_id="s", provenance={})
        store.curves.add(run.id, {"loss": (range(100), [0.5] * 100)})
        store.artifacts.add(run.id, "note", b"abc", media_type="text/plain")
    store.runs.finish(run.id, "completed", results={"best_val_loss": 0.5})
    return store


def test_a_backup_holds_everything(file_store: Store, tmp_path: Path) -> None:
    assert file_store.backup(tmp_path / "copy.db") == tmp_path / "copy.db"
    with Store.open(tmp_path / "copy.db", mode="read") as copy:
        assert copy.runs.select() == file_store.runs.select()
        assert copy.curves.read([1, 2]) == file_store.curves.read([1, 2])
        assert copy.artifacts.read(1, "note") == b"abc"
        assert copy.check() == []


def _runs_in_the_file_alone(path: Path) -> int:
    """Runs that a copy of the file has, which was made without the journal beside it."""
    alone = path.read_bytes()
    copy = path.with_name("alone.db")
    copy.write_bytes(alone)
    with Store.open(copy, mode="read") as store:
        return len(store.runs.select())


def test_closing_folds_the_journal_though_another_connection_stays(file_store: Store, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "vr.db")) as idle:
        idle.execute("SELECT count(*) FROM runs").fetchall()
        file_store.close()
        file_store.close()
        assert _runs_in_the_file_alone(tmp_path / "vr.db") == 2


def test_closing_waits_for_nobody_and_the_last_one_folds_the_journal(file_store: Store, tmp_path: Path) -> None:
    path = tmp_path / "vr.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as busy:
        busy.execute("BEGIN IMMEDIATE")
        busy.execute("UPDATE runs SET tag = 'late'")
        file_store.close()
        busy.execute("COMMIT")
    assert not path.with_name("vr.db-wal").exists()
    with Store.open(path, mode="read") as store:
        assert [(run.tag, len(store.curves.read(run.id)[run.id, "loss"])) for run in store.runs.select()] == [
            ("late", 100)
        ] * 2


def test_closing_makes_no_file_where_the_database_was(file_store: Store, tmp_path: Path) -> None:
    file_store.close()
    (tmp_path / "vr.db").unlink()
    file_store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_backup_never_overwrites_and_leaves_nothing_half_done(file_store: Store, tmp_path: Path) -> None:
    (tmp_path / "there.db").write_text("precious")
    with pytest.raises(StoreError, match=r"there\.db is there already; nothing was changed"):
        file_store.backup(tmp_path / "there.db")
    with pytest.raises(StoreError, match=r"no directory .*/none for the backup x\.db"):
        file_store.backup(tmp_path / "none" / "x.db")
    with pytest.raises(StoreError, match=r"/proc/copy\.db cannot be written: "):
        file_store.backup("/proc/copy.db")
    assert (tmp_path / "there.db").read_text() == "precious"
    assert not list(tmp_path.glob("*.part"))


def test_a_backup_under_writing_is_one_state_of_the_database(file_store: Store, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        step = 1000
        while not stop.is_set():
            file_store.curves.add(1, {"a": ([step], [1.0]), "b": ([step], [1.0])})
            step += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for n in range(5):
            file_store.backup(tmp_path / f"copy{n}.db")
    finally:
        stop.set()
        writer.join()
    for n in range(5):
        with Store.open(tmp_path / f"copy{n}.db", mode="read") as copy:
            curves = copy.curves.read(1, ["a", "b"])
            assert len({tuple(curve.steps) for curve in curves.values()}) <= 1
            assert copy.check() == []


@pytest.mark.postgres
def test_postgres_is_left_to_its_own_tool(postgres_url: str, tmp_path: Path) -> None:
    with Store.open(postgres_url) as store, pytest.raises(StoreError, match="pg_dump"):
        store.backup(tmp_path / "copy.db")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("INSERT INTO points VALUES (77, 1, 1, 0.5, NULL)", "points: 1 rows whose run_id is not in runs"),
        ("INSERT INTO results VALUES (1, 99, 0.5, NULL)", "results: 1 rows whose metric_id is not in metrics"),
        ("DELETE FROM runs WHERE id = 2", "points: 100 rows whose run_id is not in runs"),
        ("UPDATE artifacts SET data = x'00' WHERE run_id = 1", "artifacts: 1 of another size than recorded"),
        ("UPDATE runs SET pid = 4194305 WHERE id = 1", "run 1: recorded as running, but its process is gone"),
        ("DROP INDEX ix_runs_task", "index ix_runs_task is missing"),
        ("DROP VIEW v_best", "view v_best is missing"),
    ],
)
def test_a_check_finds_what_is_wrong(file_store: Store, tmp_path: Path, damage: str, problem: str) -> None:
    assert file_store.check() == []
    with closing(sqlite3.connect(tmp_path / "vr.db")) as database:
        database.execute(damage)
        database.commit()
    assert any(line.startswith(problem) for line in file_store.check())


def test_a_check_finds_a_damaged_page(file_store: Store, tmp_path: Path) -> None:
    file_store.close()
    path = tmp_path / "vr.db"
    content = bytearray(path.read_bytes())
    content[-4096:-3000] = b"\xff" * 1096
    path.write_bytes(content)
    with Store.open(path, mode="read") as store:
        assert any(line.startswith("integrity: ") for line in store.check())


def test_figures_of_a_database(begin: Begin, store: Store) -> None:
    runs = [begin(seed=seed) for seed in range(3)]
    store.curves.add(runs[0].id, {"loss": ([1, 2], [1.0, 2.0]), "acc": ([1], [0.5])})
    store.artifacts.add(runs[0].id, "note", b"abc", media_type="text/plain")
    store.runs.finish(runs[0].id, "completed", results={"steps": 2})
    info = store.info()
    assert info["runs"] == 3
    assert info["runs_by_status"] == {"completed": 1, "running": 2}
    assert (info["points"], info["metrics"], info["artifacts"]) == (3, 3, 1)
    assert info["schema"] == int(schema.SCHEMA)
    assert info["size_bytes"] > 10_000
    assert info["kind"] in ("sqlite", "postgresql")


def test_a_full_disk_is_said_and_loses_nothing_that_was_recorded(file_store: Store) -> None:
    with file_store._database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    event.listen(file_store._database.engine, "checkout", limit)
    with pytest.raises(StoreError, match=r"vr\.db: database or disk is full"):
        file_store.curves.add(1, {"loss": (range(1000, 20_000), [0.5] * 19_000)})
    event.remove(file_store._database.engine, "checkout", limit)
    assert len(file_store.curves.read(1)[1, "loss"]) == 100
    assert file_store.check() == []


def test_a_lock_that_is_never_released_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrcli.db.location._BUSY_S", 0.1)
    with Store.open(tmp_path / "vr.db") as store, closing(sqlite3.connect(tmp_path / "vr.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"vr\.db: database is locked"):
            store.runs.begin({"task": "cnn", "optimizer": "sgd"}, spec_id="s", provenance={})
        assert store.runs.select() == []  # readers do not wait
        other.rollback()
        store.runs.begin({"task": "cnn", "optimizer": "sgd"}, spec_id="s", provenance={})
