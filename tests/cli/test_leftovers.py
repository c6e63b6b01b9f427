"""What a command that is ended leaves of files and folders: nothing, or what the next one removes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from vrcli import leftovers

#: A `vr` that kills itself where the tables of an old database are being rebuilt.
DIES_UPGRADING = """
import os, signal
from vrcli.db import versions
versions._run_migrations = lambda *_: os.kill(os.getpid(), signal.SIG{name})
from vrcli.cli.app import main
main()
"""
OLD = sorted((Path(__file__).parents[1] / "db/assets").glob("*.db"))[0]


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture
def start(begin: Callable[..., subprocess.Popen[str]], scratch: Path) -> Callable[..., subprocess.Popen[str]]:
    """Begin a `vr` of its own, whose temporary folder is `scratch`."""
    return partial(begin, env={"TMPDIR": str(scratch)})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, 130), (signal.SIGKILL, -9)]
)
def test_a_report_that_is_ended_while_nobody_reads_it(
    start: Callable[..., Any], stored: Callable[..., int], tmp_path: Path, scratch: Path, number: int, code: int
) -> None:
    """It is written whole, and then waits for whoever opens the other end."""
    stored()
    os.mkfifo(tmp_path / "pipe")
    words = ("report", "--format", "csv", "--output", "pipe")
    process = start(*words)
    while not list(scratch.iterdir()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    for _ in range(5):  # python drops an interrupt that arrives while it cleans up after itself
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=20)
            break
    assert process.returncode == code
    assert len(list(scratch.iterdir())) == (number == signal.SIGKILL)
    again = start(*words)
    assert "adamw" in (tmp_path / "pipe").read_text()
    assert again.wait(timeout=100) == 0
    assert list(scratch.iterdir()) == []


def test_a_killed_upgrade_leaves_no_second_copy(
    start: Callable[..., Any], vr: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "vr.db").write_bytes(OLD.read_bytes())
    for name, code in (("KILL", -9), ("TERM", 130)):
        process = start("-c", DIES_UPGRADING.format(name=name), "db", "upgrade")
        process.communicate(timeout=100)
        assert process.returncode == code
        left = [path for path in tmp_path.iterdir() if ".part" in path.name]
        assert len(left) == (name == "KILL")
    assert vr("db", "upgrade").code == 0
    assert len(list(tmp_path.glob("vr.schema*.db"))) == 1
    assert [path.name for path in tmp_path.iterdir() if ".part" in path.name] == []
    assert vr("runs", "list").code == 0


def test_what_a_killed_command_left_is_told_from_what_others_write(
    vr: Callable[..., Any], stored: Callable[..., int], tmp_path: Path
) -> None:
    """Of a process that is gone it is listed and removed; of one that lives, or of another machine, it stays."""
    stored()
    mine = leftovers.part_name(".csv")
    machine, number, begin, rest = mine.removeprefix(".vr-").split("-")
    dead = [f".vr-{machine}-{number}-{int(begin) - 1}-{rest}", f".vr-{machine}-{2**22 + 1}-5-aa.part.db-wal"]
    there, long_ago = ".vr-00000000-1-2-aa.part.csv", ".vr-00000000-1-2-bb.part"
    others = ["vr-1.part", ".vr-part", "vr.db.1234.part", "notes.part.csv"]
    for name in (mine, *dead, there, *others):
        (tmp_path / name).write_text("x")
    (tmp_path / long_ago).mkdir()
    (tmp_path / long_ago / "inner").touch()
    os.utime(tmp_path / long_ago, (0, 0))
    done = vr("db", "check")
    assert done.code == 0
    assert sorted(line.split()[1] for line in done.err.splitlines()) == sorted(
        str(tmp_path / name) for name in (*dead, long_ago)
    )
    assert vr("report", "--format", "csv", "--output", "a.csv").code == 0
    stay = {mine, there, *others, "a.csv"}
    assert {path.name for path in tmp_path.iterdir()} - {"vr.db", "vr.db-wal", "vr.db-shm"} == stay
