"""A script that falls down a slope, and what is asked of its runs."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from vrcli.db.store import Store

#: Falls down a slope, at a rate that depends on the optimizer; what goes wrong is its last word.
SCRIPT = """
import json, os, random, signal, sys, time

lr, optimizer, seed, trouble = float(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
random.seed(seed)
x = 5.0 + random.random()
print("not JSON", {"a": 1})
print(json.dumps({"config": {"lr": lr}, "note": "no number"}))
with open("pid", "w") as file:
    file.write(str(os.getpid()))
if trouble == "silent":
    sys.exit(0)
if trouble == "tidy":
    def tidied(number, frame):
        open("tidied", "w").close()
        sys.exit(0)
    signal.signal(signal.SIGTERM, tidied)
if trouble == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
for step in range(1, 10**6 if trouble in ("deaf", "endless", "tidy") else 21):
    x -= lr * (2 if optimizer == "fast" else 1) * x + random.gauss(0, 0.01)
    row = {"step": step, "train_loss": x * x}
    if trouble in ("null", "word") and step == 7:
        row["val_loss"] = None if trouble == "null" else "0.3"
    if trouble in ("nan", "tidy") and step == 7:
        row["train_loss"] = float("nan")
    if trouble == "twice" and step == 7:
        print(json.dumps(row))
    if trouble == "back" and step == 7:
        row["step"] = 3
    if trouble == "stepless" and step == 7:
        del row["step"]
    if trouble == "text" and step == 7:
        row["step"] = "seven"
    if trouble == "fail" and step == 7:
        print("all is lost", file=sys.stderr)
        sys.exit(5)
    if trouble == "long" and step == 7:
        sys.exit("begin " + "x" * 5000 + " end")
    if step % 5 == 0 and trouble != "unmeasured":
        row |= {"val_loss": x * x + 0.01, "val_depth": x}
    print(json.dumps(row), flush=True)
    if trouble in ("deaf", "endless", "slow", "tidy"):
        time.sleep(0.02)
print(json.dumps({"test_loss": x * x + 0.02}), end="" if trouble == "unended" else None)
"""
COMMAND = f"{sys.executable} train.py {{lr}} {{opt}} {{seed}} {{trouble}}"


def stored(folder: Path) -> list[Any]:
    with Store.open(folder / "vr.db") as store:
        return store.runs.select()


def curve(folder: Path, run: int, metric: str) -> tuple[list[int], list[float]]:
    with Store.open(folder / "vr.db") as store:
        found = store.curves.read([run], [metric])[run, metric]
        return list(found.steps), list(found.values)


def words(*more: str, verb: str = "run", trouble: str = "none") -> tuple[str, ...]:
    given = ("--lr", "0.05", "--trouble", trouble) if verb == "run" else ("--fix", f"trouble={trouble}")
    return (verb, "--command", COMMAND, "--threads", "1", *given, *more)


def begun(folder: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "vrcli", *more], cwd=folder, env={**os.environ, "VR_DB": str(folder / "vr.db")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def until(condition: Callable[[], bool], timeout_s: float = 180.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def completed(folder: Path) -> int:
    """How many runs are, without opening the database as `vr` does, which looks after it."""
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(f"file:{folder}/vr.db?mode=ro", uri=True)) as plain,
    ):
        return int(plain.execute("SELECT count(*) FROM runs WHERE status = 'completed'").fetchone()[0])
    return 0


def alive(folder: Path) -> bool:
    """Whether the script is, which wrote its number down."""
    try:
        os.kill(int((folder / "pid").read_text()), 0)
    except ProcessLookupError:
        return False
    return True
