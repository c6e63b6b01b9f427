"""Whoever copies `vr.db` alone has everything: every orderly end folds the journal beside it into the file."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vrcli.cli.lazy import COMMANDS
from vrcli.db.store import Store

PLUGINS = Path(__file__).parents[1] / "plugins"
OLD = PLUGINS.parent / "db" / "assets" / "schema_0001.db"
pytestmark = pytest.mark.usefixtures("valley")
VALLEY = ("valley:Valley", "--preset", "smoke", "--threads", "1", "--device", "cpu")
#: Commands that write to a database, in the order of the story below; the others with --db only read.
WRITERS = [
    "run", "runs tag", "runs rerun", "runs path", "runs plane", "runs retry", "runs resume", "sweep", "sweeps resume",
    "sweeps stop", "compare", "runs rm", "db merge", "db upgrade",
]  # fmt: skip
READERS = {
    "report", "runs list", "runs show", "runs diff", "runs export", "sweeps list", "sweeps show", "sweeps export",
    "db info", "db check", "db backup", "study plan", "study report", "study run",
}  # fmt: skip


def _facts(database: Path) -> dict[str, Any]:
    with Store.open(database, mode="read") as store:
        found = store.info()
        tags = [(run.id, run.tag, run.status) for run in store.runs.select()]
        files = [len(store.artifacts.select(id)) for id, *_ in tags]
        return {
            **found,
            "tags": tags,
            "files": files,
            "sweeps": [(s.id, s.status) for s in store.searches.select()],
            "database": None,
        }


def _copied(database: Path) -> dict[str, Any]:
    """What is in a copy of the file alone; looked at before anything else opens the database."""
    copy = database.with_name("copy.db")
    shutil.copy(database, copy)
    try:
        return _facts(copy)
    finally:
        copy.unlink()


def test_the_story_has_every_command_that_writes() -> None:
    found = {
        name if one.name == name else f"{name} {one.name}"
        for name in COMMANDS.keys() - {"plot"}
        for one in importlib.import_module(f"vrcli.cli.{name}").app.registered_commands
        if "database" in inspect.signature(one.callback).parameters
    }
    assert found == {*WRITERS, *READERS}


@pytest.mark.slow
def test_a_copy_of_the_file_alone_has_everything(
    vr: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, done = tmp_path / "vr.db", []

    def write(*words: object, code: int = 0) -> None:
        found = vr(*words)
        assert found.code == code, found.err
        copy = _copied(database)
        assert copy == _facts(database), words
        assert not database.with_name("vr.db-wal").exists(), words
        name = next(name for name in WRITERS if " ".join(map(str, words)).startswith(f"{name} "))
        assert copy not in done, f"{words} wrote nothing"
        done.append(copy)
        told.append(name)

    told: list[str] = []
    write("run", *VALLEY, "--keep-weights", "best")
    write("runs", "tag", 1, "first")
    write("runs", "rerun", 1)
    write("run", *VALLEY, "--keep-weights", "best", "--seed", 9)
    write("runs", "path", 1, 3)
    write("runs", "plane", 1, "--points", 3)
    write("run", *VALLEY, "--trouble", "raise", code=1)
    write("run", *VALLEY, "--trouble", "raise", "--seed", 1, code=1)
    monkeypatch.setenv("VALLEY_MENDED", "1")
    write("runs", "retry", 4)
    write("runs", "resume", 5)
    write("sweep", *VALLEY, "--trials", 2, "--jobs", 2, "--search", "sobol")
    write("sweeps", "resume", 1, "--trials", 3)
    with Store.open(database) as store:
        store.searches.resume(1, trials=4)
    write("sweeps", "stop", 1)
    write("compare", *VALLEY, "--opt", "adamw", "--opt", "sgd", "--seeds", 2)
    write("runs", "rm", 1, "--yes")
    shutil.copy(database, tmp_path / "other.db")
    write("runs", "rm", 2, "--yes")
    write("db", "merge", "other.db", "--db", "vr.db")
    shutil.copy(OLD, database)
    write("db", "upgrade", "--db", "vr.db")
    assert dict.fromkeys(told).keys() == set(WRITERS)
    assert vr("db", "backup", "backup.db").code == 0
    assert vr("runs", "export", "-o", "export.db").code == 0
    assert _facts(tmp_path / "backup.db") == done[-1]
    with Store.open(tmp_path / "export.db", mode="read") as store:
        assert store.info()["runs"] == done[-1]["runs"] - done[-1]["runs_by_status"].get("running", 0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_sweep_that_is_told_to_stop_folds_the_journal(tmp_path: Path, number: int) -> None:
    database = tmp_path / "vr.db"
    words = ["sweep", *VALLEY, "--trials", "500", "--search", "sobol", "--sleep-s", "0.05"]
    path = f"{PLUGINS}:{PLUGINS.parents[1]}"
    with subprocess.Popen(
        [sys.executable, "-m", "vrcli", *words, "--db", str(database)], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
    ) as sweep:  # fmt: skip
        assert sweep.stderr
        while _trials(database) < 3:
            assert sweep.poll() is None, sweep.stderr.read()
            time.sleep(0.2)
        os.killpg(sweep.pid, number)  # as a terminal, `timeout` and a service manager do
        _, errors = sweep.communicate(timeout=120)
    assert sweep.returncode == 130, errors
    copy = _copied(database)
    assert copy == _facts(database)
    assert not database.with_name("vr.db-wal").exists()
    assert copy["trials"] >= 3
    assert not copy["runs_by_status"].get("running"), json.dumps(copy["runs_by_status"])


def _trials(database: Path) -> int:
    from vrcli.db.errors import StoreError

    try:
        with Store.open(database, mode="read") as store:
            return len([run for run in store.runs.select() if run.status == "completed"])
    except StoreError:
        return 0
