"""`vr db merge`: what comes in, what is known, and that the other database stays as it is."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from vrcli.db.store import Store

OLD = Path(__file__).parents[1] / "db" / "assets" / "schema_0001.db"


@pytest.fixture
def other(stored, tmp_path: Path) -> Path:
    """Another database with three runs, one of which is still running; `vr.db` is gone afterwards."""
    stored("adamw", loss=0.2)
    stored("vradam", loss=0.1)
    with Store.open(tmp_path / "vr.db") as store:
        store.runs.begin({"task": "cnn", "optimizer": "sgd", "seed": 0}, spec_id="r", provenance={})
    (tmp_path / "vr.db").rename(tmp_path / "other.db")
    return tmp_path / "other.db"


def _count(path: Path, table: str = "runs") -> int:
    with closing(sqlite3.connect(path)) as plain:
        return plain.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_runs_come_in_once(vr, stored, other, tmp_path):
    stored("adamw", loss=0.2)  # the same settings and seed, made here
    before = other.read_bytes()
    points = _count(other, "points")
    done = vr("db", "merge", "other.db")
    assert done.code == 0
    assert done.out.splitlines() == [
        f"other.db: brought in 2 runs ({points} points); 0 known already",
        "  new here: runs 2-3",
        "  same settings and seed as a run that is here: run 2 (reports count one)",
        "  left out: 1 still running there",
    ]
    assert _count(tmp_path / "vr.db") == 3
    again = vr("db", "merge", "other.db", "--format", "json")
    (report,) = json.loads(again.out)["merged"]
    assert (report["added"], report["known"], report["running"]) == ([], 2, 1)
    assert _count(tmp_path / "vr.db") == 3
    assert other.read_bytes() == before


def test_a_database_is_made_where_there_is_none(vr, other, tmp_path):
    assert vr("db", "merge", "other.db", "--db", "new.db").code == 0
    assert _count(tmp_path / "new.db") == 2


@pytest.mark.parametrize("there", [True, False])
def test_a_dry_run_says_the_same_and_changes_nothing(vr, stored, other, tmp_path, there):
    if there:
        stored("sgd")
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    rehearsed = vr("db", "merge", "other.db", "--dry-run")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    done = vr("db", "merge", "other.db")
    numbered = [line for line in done.out.splitlines() if "new here" not in line]
    assert rehearsed.out.replace("would bring in", "brought in").splitlines() == numbered


def test_a_dry_run_does_not_upgrade(vr, other, tmp_path):
    shutil.copy(OLD, tmp_path / "vr.db")
    before = (tmp_path / "vr.db").read_bytes()
    done = vr("db", "merge", "other.db", "--dry-run")
    assert done.code == 2
    assert "upgrade it with `vr db upgrade`" in done.err
    assert (tmp_path / "vr.db").read_bytes() == before


def test_an_older_database_is_read_from_a_copy(vr, tmp_path):
    shutil.copy(OLD, tmp_path / "old.db")
    before = (tmp_path / "old.db").read_bytes()
    done = vr("db", "merge", "old.db", "--format", "json")
    assert done.code == 0, done.err
    (report,) = json.loads(done.out)["merged"]
    ended = _count(tmp_path / "old.db", "runs WHERE status <> 'running'")
    assert len(report["added"]) == ended > 0
    assert (tmp_path / "old.db").read_bytes() == before


def test_what_cannot_be_merged_is_refused(vr, stored, tmp_path):
    stored("sgd")
    (tmp_path / "text.db").write_text("no database at all")
    Path(tmp_path / "void.db").touch()
    for other, words in (
        ("nowhere.db", "there is no database nowhere.db"),
        ("vr.db", "is the database that it would be merged into"),
        ("text.db", "is not an SQLite database"),
        ("void.db", "is an empty database"),
    ):
        done = vr("db", "merge", other)
        assert done.code == 2, other
        assert words in done.err
        assert len(done.err.splitlines()) == 1
    assert _count(tmp_path / "vr.db") == 1


def test_all_are_looked_at_before_the_first_comes_in(vr, other, tmp_path):
    done = vr("db", "merge", "other.db", "nosuch.db")
    assert (done.code, done.out) == (2, "")
    assert "there is no database nosuch.db" in done.err
    assert not (tmp_path / "vr.db").exists()


def test_a_database_comes_in_whole_or_not_at_all(vr, stored, other, tmp_path):
    stored("sgd")
    shutil.copy(other, tmp_path / "broken.db")
    with closing(sqlite3.connect(tmp_path / "broken.db")) as plain, plain:
        plain.execute("UPDATE runs SET uuid = uuid || 'x', seed = 7")  # other runs than those of other.db
        columns = "run_id, name, media_type, size, created_at, data"
        plain.execute(f"INSERT INTO artifacts ({columns}) VALUES (2, CAST(x'ff' AS TEXT), '', 0, '2026-01-01', x'')")
    done = vr("db", "merge", "other.db", "broken.db")
    assert done.code == 1
    assert done.err.endswith("; came in before it: other.db\n")
    assert len(done.err.splitlines()) == 1
    assert _count(tmp_path / "vr.db") == 3
