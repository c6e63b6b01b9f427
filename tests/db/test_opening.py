"""What can be opened is opened; what cannot is refused in one line and left exactly as it was."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from vrcli.db import schema
from vrcli.db.store import Store, StoreError


def _snapshot(folder: Path) -> dict[str, str]:
    """Every file below a folder with the hash of its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _with_tables(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return path


def _stamped(path: Path, revision: str) -> Path:
    """A database of vr that says it has another schema."""
    Store.open(path).close()
    return _with_tables(path, f"UPDATE {schema.VERSION_TABLE} SET version_num = '{revision}'")


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _read_only(path: Path) -> Path:
    Store.open(path).close()
    path.chmod(0o444)
    return path


REFUSED: dict[str, tuple[Callable[[Path], object], tuple[str, ...], str]] = {
    "a directory": (lambda f: f, ("create", "write", "read"), "is a directory; the database is a file"),
    "text": (
        lambda f: _file(f / "a.db", b"hello"),
        ("create", "write", "read"),
        "is not an SQLite database; nothing was",
    ),
    "damaged": (
        lambda f: _file(f / "a.db", b"SQLite format 3\x00" + bytes(range(256)) * 20),
        ("create", "write", "read"),
        r"a\.db cannot be opened: (file is not a database|database disk image is malformed)",
    ),
    "another program's": (
        lambda f: _with_tables(f / "a.db", "CREATE TABLE bookmarks (url TEXT)"),
        ("create", "write", "read"),
        r"is the database of another program \(table bookmarks\); nothing was changed",
    ),
    "newer": (
        lambda f: _stamped(f / "a.db", "0099"),
        ("create", "write", "read"),
        rf"a\.db was written by a newer vr \(schema 99, this is {int(schema.SCHEMA)}\); nothing was changed",
    ),
    "strange schema": (lambda f: _stamped(f / "a.db", "c0ffee"), ("create", "write", "read"), "no vr has written"),
    "missing": (lambda f: f / "a.db", ("write", "read"), r"there is no database .*a\.db; `vr run` creates it"),
    "missing folder": (
        lambda f: f / "no" / "a.db",
        ("create", "write", "read"),
        r"no directory .*/no for the database a\.db",
    ),
    "below a file": (lambda f: _file(f / "x", b"") / "a.db", ("create", "write", "read"), "no directory"),
    "empty": (lambda f: _file(f / "a.db", b""), ("write", "read"), "is an empty database"),
    "read-only": (lambda f: _read_only(f / "a.db"), ("create", "write"), r"a\.db is read-only"),
    "in memory": (lambda f: ":memory:", ("create", "write", "read"), "give the path of a file"),
    "memory URL": (lambda f: "sqlite://", ("create", "write", "read"), "kept in memory only"),
    "no name": (lambda f: "", ("create", "write", "read"), "is not a database"),
    "other kind": (lambda f: "mysql://u:secret@h/d", ("create", "read"), "^mysql is not a database vr knows"),
    "unknown kind": (lambda f: "oracel://u@h/d", ("create", "read"), "^oracel is not a database vr knows"),
    "no driver": (lambda f: "postgresql+nope://u:secret@h/d", ("create",), r"no driver postgresql\+nope"),
    "driver not installed": (lambda f: "postgresql+pg8000://h/d", ("create",), "pg8000 is not installed: pip install"),
    "broken URL": (lambda f: "postgresql://u:secret@h:port/d", ("create",), "the database URL cannot be read"),
    "nobody there": (
        lambda f: f"postgresql://u:secret@/d?host={f}",
        ("create", "write", "read"),
        r"postgresql://u:\*\*\*@/d\?host=.* cannot be opened: ",
    ),
}


@pytest.mark.parametrize(("case", "mode"), [(case, mode) for case, (_, modes, _) in REFUSED.items() for mode in modes])
def test_what_cannot_be_used_is_refused_and_not_touched(tmp_path: Path, case: str, mode: str) -> None:
    make, _, message = REFUSED[case]
    where = make(tmp_path)
    before = _snapshot(tmp_path)
    with pytest.raises(StoreError, match=message) as caught:
        Store.open(where, mode=mode)  # type: ignore[arg-type]
    assert _snapshot(tmp_path) == before
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_psycopg_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"psycopg is not installed: pip install 'vrcli\[postgres\]'"):
        Store.open("postgresql://u@h/d")


def test_a_store_opened_for_reading_never_writes(tmp_path: Path) -> None:
    with Store.open(tmp_path / "vr.db") as store:
        run = store.runs.begin({"task": "cnn", "optimizer": "sgd"}, spec_id="s", provenance={})
        store.curves.add(run.id, {"loss": ([1], [2.0])})
    before = _snapshot(tmp_path)
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        assert [found.id for found in store.runs.select()] == [run.id]
        assert store.curves.read(run.id)[run.id, "loss"].values[0] == 2.0
        with pytest.raises(StoreError, match="opened for reading only"):
            store.runs.heartbeat(run.id)
    assert _snapshot(tmp_path) == before


def test_a_read_only_file_in_a_read_only_folder_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "100% 日本 ?#"
    folder.mkdir()
    _read_only(folder / "vr.db")
    folder.chmod(0o555)
    try:
        with Store.open(folder / "vr.db", mode="read") as store:
            assert store.runs.select() == []
            assert store.check() == []
    finally:
        folder.chmod(0o755)
    assert [path.name for path in folder.iterdir()] == ["vr.db"]


@pytest.mark.parametrize("make", [lambda path: path, str, lambda path: f"sqlite:///{path}"])
def test_a_path_and_its_url_are_the_same_database(tmp_path: Path, make: Callable[[Path], object]) -> None:
    with Store.open(make(tmp_path / "x y ü.db")) as store:  # type: ignore[arg-type]
        store.runs.begin({"task": "cnn", "optimizer": "sgd"}, spec_id="s", provenance={})
    assert [path.name for path in tmp_path.iterdir()] == ["x y ü.db"]
    with Store.open(tmp_path / "x y ü.db", mode="read") as store:
        assert len(store.runs.select()) == 1


def test_a_path_is_taken_to_the_letter(tmp_path: Path) -> None:
    names = ["a%20b.db", "a?mode=ro", "a#b", "file:a.db"]
    for name in names:
        Store.open(tmp_path / name).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_relative_path_and_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Store.open("vr.db").close()
    Store.open("~/home.db").close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home.db", "vr.db"]


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    path = _file(tmp_path / "vr.db", b"")
    with Store.open(path) as store:
        assert store.runs.select() == []
        assert store.info()["journal_mode"] == "wal"


def test_an_open_of_a_current_database_imports_no_alembic(tmp_path: Path) -> None:
    program = """
import sys
from vrcli.db.store import Store
for _ in range(2):
    with Store.open(sys.argv[1]) as store:
        store.runs.select()
heavy = {"alembic", "numpy", "torch", "pydantic", "vrcli.tasks"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program, tmp_path / "vr.db"], check=True, cwd=root)


@pytest.mark.postgres
def test_tables_of_others_in_the_same_postgres_database(postgres_url: str) -> None:
    engine = create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE bookmarks (url TEXT)"))
    with Store.open(postgres_url) as store:
        assert store.runs.select() == []
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {schema.VERSION_TABLE}"))
    with pytest.raises(StoreError, match="another program"):
        Store.open(postgres_url)
    engine.dispose()


@pytest.mark.postgres
def test_postgres_opened_for_reading_refuses_in_the_server_too(postgres_url: str) -> None:
    Store.open(postgres_url.replace("postgresql:", "postgres:")).close()
    with Store.open(postgres_url, mode="read") as store:
        store._database.read_only = False
        with pytest.raises(StoreError, match="read-only transaction"):
            store.runs.begin({"task": "cnn", "optimizer": "sgd"}, spec_id="s", provenance={})
