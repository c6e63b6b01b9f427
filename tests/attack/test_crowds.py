"""Many processes at one database: writers beside readers, and pairs that create or upgrade it in the same moment."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from vrcli.db.store import Store

ROOT = Path(__file__).parents[1]
OLD = ROOT / "db" / "assets" / "schema_0001.db"

#: Stores one run after the other until its time is over, and prints by run the steps that were committed.
_WRITER = """
import json, sys, time
from vrcli.db.store import Store
number, seconds = int(sys.argv[1]), float(sys.argv[2])
written, end = {}, time.monotonic() + seconds
with Store.open("vr.db") as store:
    while not written or time.monotonic() < end:
        spec = {"task": "cnn", "optimizer": "sgd", "seed": 1000 * number + len(written)}
        run = store.runs.begin(spec, spec_id=f"{number}-{len(written)}", provenance={})
        for step in range(0, 40, 2):
            store.curves.add(run.id, {"loss": ([step, step + 1], [number, step])})
        store.runs.finish(run.id, "completed", results={"steps": 40})
        written[run.id] = 40
print(json.dumps(written))
"""
#: Reads all until its time is over: what is completed is whole, and nothing that was there goes away.
_READER = """
import json, sys, time
from vrcli.db.store import Store
seconds, seen, reads = float(sys.argv[1]), set(), 0
end = time.monotonic() + seconds
while not reads or time.monotonic() < end:
    with Store.open("vr.db", mode="read") as store:
        done = [run.id for run in store.runs.select(status="completed")]
        assert seen <= set(done), sorted(seen - set(done))
        curves = store.curves.read(done[:20])
        assert all(len(curves[run, "loss"]) == 40 for run in done[:20])
    seen, reads = set(done), reads + 1
print(json.dumps(reads))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begin Python in the test's folder; none outlives the test."""
    begun: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT.parent), str(ROOT / "plugins")))}
        pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        begun.append(subprocess.Popen([sys.executable, *words], cwd=tmp_path, env=env, text=True, **pipes))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> str:
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return said


def written_and_read(start: Callable[..., Any], folder: Path, writers: int, seconds: float) -> tuple[int, int]:
    """Let them write and read at once; how many runs were written and how often all was read."""
    Store.open(folder / "vr.db").close()
    begun = [start("-c", _WRITER, str(number), str(seconds)) for number in range(writers)]
    readers = [start("-c", _READER, str(seconds)) for _ in range(2)]
    written = [json.loads(ended(process)) for process in begun]
    reads = [json.loads(ended(process)) for process in readers]
    ids = sorted(int(run) for own in written for run in own)
    assert len(set(ids)) == len(ids)
    with Store.open(folder / "vr.db", mode="read") as store:
        assert sorted(run.id for run in store.runs.select(status="completed")) == ids
        assert {len(curve) for curve in store.curves.read(ids).values()} == {40}
        assert store.check() == []
    return len(ids), sum(reads)


def test_three_writers_and_two_readers(start: Callable[..., Any], tmp_path: Path) -> None:
    written_and_read(start, tmp_path, 3, 1.0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_eight_writers_for_two_minutes(start: Callable[..., Any], tmp_path: Path) -> None:
    runs, reads = written_and_read(start, tmp_path, 8, 120.0)
    print(f"\neight writers, 120 s: {runs} runs, read {reads} times by two readers")


def rows(path: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(path)) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        wanted = {"runs": "spec_id, seed, status", "points": "run_id, metric_id, step, value"}
        return {table: sorted(plain.execute(f"SELECT {what} FROM {table}")) for table, what in wanted.items()}


def created_at_once(start: Callable[..., Any], folder: Path) -> None:
    words = ("-m", "vrcli", "run", "valley:Valley", "--epochs", "2", "--threads", "1", "--quiet", "--db", "vr.db")
    for process in [start(*words, "--seed", str(seed)) for seed in range(2)]:
        ended(process)
    with Store.open(folder / "vr.db", mode="read") as store:
        assert sorted(run.seed or 0 for run in store.runs.select(status="completed")) == [0, 1]
        assert store.check() == []


def upgraded_at_once(start: Callable[..., Any], folder: Path, reference: dict[str, list[Any]]) -> None:
    shutil.copy(OLD, folder / "vr.db")
    for process in [start("-m", "vrcli", "db", "upgrade", "--db", "vr.db") for _ in range(2)]:
        ended(process)
    assert rows(folder / "vr.db") == reference
    backups = [path.name for path in folder.iterdir() if path.name != "vr.db"]
    assert len(backups) == 1, backups
    for path in folder.iterdir():
        path.unlink()


def pairs(start: Callable[..., Any], folder: Path, count: int) -> None:
    shutil.copy(OLD, folder / "reference.db")
    Store.upgrade(folder / "reference.db")
    reference = rows(folder / "reference.db")
    for path in [*folder.iterdir()]:
        path.unlink()
    for _ in range(count):
        upgraded_at_once(start, folder, reference)
        created_at_once(start, folder)
        for path in [*folder.iterdir()]:
            path.unlink()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_pairs_upgrade_and_create_at_once(start: Callable[..., Any], tmp_path: Path) -> None:
    pairs(start, tmp_path, 10)
