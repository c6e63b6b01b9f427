"""A disk that is full where a command writes its file: one line, nothing half-written, and what was there stays."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vrcli.db.store import Store

#: What SQLite needs to read, and less than any of these files.
ROOM = 34_000


@pytest.fixture
def full(vr: Callable[..., Any], stored: Callable[..., int]) -> Callable[..., Any]:
    """Call `vr` while no file of this process grows beyond a few kilobytes; there are runs with long curves."""
    for seed in range(2):
        stored("adamw", seed=seed, epochs=300)
        stored("sgd", seed=seed, epochs=300, loss=0.3)

    def call(*words: str) -> Any:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
        try:
            return vr(*words)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return call


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


@pytest.mark.parametrize(
    "words",
    [
        "report --format html --output out.html",
        "plot curves --output out.png",
        "plot curves --data out.csv --output out.svg",
        "runs export --to csv --output out.csv",
        "runs export --to json --output out.json",
        "runs export --to sqlite --output out.db",
        "db backup out.db",
    ],
)
def test_what_cannot_be_written_leaves_nothing(full: Callable[..., Any], tmp_path: Path, words: str) -> None:
    before = _files(tmp_path)
    done = full(*words.split())
    assert done.code in (1, 2), done
    assert done.out == ""
    last = done.err.splitlines()[-1]
    assert last.startswith("vr: ")
    assert "Traceback" not in done.err
    assert "unexpected" not in done.err
    assert _files(tmp_path) == before


def test_a_merge_into_a_full_disk_brings_in_nothing(full: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "vr.db").rename(tmp_path / "other.db")
    with Store.open(tmp_path / "vr.db"):
        pass
    done = full("db", "merge", "other.db")
    assert done.code in (1, 2)
    assert len(done.err.splitlines()) == 1
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        assert store.runs.select() == []
        assert store.check() == []
