"""Every command and option, read from the command tree itself, with values that nobody means."""

from __future__ import annotations

import importlib
import itertools
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from vrcli.cli.lazy import COMMANDS

PASSWORD = "hunter2secret"
VALUES = [
    "", " ", "-", "--", "=", "@", "@file", "0", "-1", "1", "2", "0x10", "1_000", "１２", "1e309", "-1e309", "nan",
    "inf", "-inf", "1e-320", "99999999999999999999", "-99999999999999999999", "9223372036854775808", "2147483648",
    "0.5", "50%", "true", "null", "None", "[]", "{}", "[1,2]", "1,2", ",", "1:2", "a=b", "lr=log:0:1", "lr=int:5:1",
    "lr=1", "lr=", "lr=log:1e-5:1e-1", "=,=", "a\nb", "a\r\nb", "\x1b[31mred\x1b[0m", "\x07\x08", "a\x7fb",
    "\u202eabc", "é漢字", "🙂", "\udcff", "..", ".", "/", "../../nowhere/x", "/dev/null", "/dev/full",
    "/proc/self/mem", "x" * 300, "x" * 5000, "%s%n%d", "{0.__class__}", "'; DROP TABLE runs; --", '"', "\\",
    "$(touch owned)", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "sqlite://", "sqlite:///:memory:",
    "file:x?mode=memory", "mysql://a@b/c", "postgresql://", f"postgresql://u:{PASSWORD}@127.0.0.1:1/x", "cnn", "adamw",
    "vradam", "text", "json", "csv", "cnn:", ":Class", "os:system", "valley:Valley", "vr.db", "other.db", "folder",
    "sgd@lr=0.1", "completed", "last", "2020-13-45", "1d", "text,text",
]  # fmt: skip
#: What a command cannot do without, by the parameter's name, where that is not the number of a run.
NEEDED = {
    "task": ["valley:Valley"], "name": ["mine"], "path": ["out.db"], "others": ["other.db"], "word": ["tagged"],
    "second": ["2"],
}  # fmt: skip
#: What keeps a command short, and what it writes in the folder of the test.
USUAL = {
    "run": ["--preset", "smoke", "--quiet", "--threads", "1"],
    "sweep": ["--preset", "smoke", "--quiet", "--trials", "2", "--search", "random", "--threads", "1"],
    "compare": ["--preset", "smoke", "--quiet", "--seeds", "2", "--opt", "sgd", "--opt", "adamw", "--threads", "1"],
    "runs export": ["--output", "out.csv"], "sweeps export": ["--output", "out.csv"], "runs rm": ["--yes"],
}  # fmt: skip
#: What takes minutes, opens a window or trains something else.
LEFT_OUT = {"tasks check", "opts check", "sweeps resume"}
#: Left out of the values of a command that would go on for long, or be told to show a traceback.
NOT_GIVEN = {"--debug", "--show", "--help", "--install-completion", "--show-completion"}
LIMIT_S = 4.0


def _leaves() -> Iterator[tuple[str, Any]]:
    """Every command, by its words."""
    for name in COMMANDS:
        if name == "bench":  # each takes minutes
            continue
        found = typer.main.get_command(importlib.import_module(f"vrcli.cli.{name}").app)
        for word, command in getattr(found, "commands", {}).items():
            if f"{name} {word}" not in LEFT_OUT:
                yield f"{name} {word}", command
        if not hasattr(found, "commands"):
            yield name, found


def _settings(words: str) -> list[str]:
    """Options of the task, the training and the optimizer."""
    if words not in ("run", "sweep", "compare"):
        return []
    from vrcli.settings import settings_of
    from vrcli.tasks.registry import load

    return [f"--{name.replace('_', '-')}" for name in settings_of(load("valley:Valley"), "vradam").by_name]


def calls() -> list[list[str]]:
    """A call for each command, option and value; each option also without its value, and twice."""
    found = []
    for words, command in _leaves():
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option"]
        base = [
            *words.split(),
            *(w for p in arguments if p.required or p.name == "task" for w in NEEDED.get(p.name, ["1"])),
        ]
        base += USUAL.get(words, [])
        names = [option.opts[0] for option in options if option.opts[0] not in NOT_GIVEN]
        for name in [*names, *_settings(words)]:
            found += [[*base, name, value] for value in VALUES]
            found += [[*base, f"{name}={value}"] for value in ("", "1", "x")]
            found += [[*base, name], [*base, name, "1", name, "2"]]
        for value in VALUES:
            found += [[*words.split(), value], [*base, value], [*words.split(), *[value] * 3]]
    return found


def _rows() -> list[Any]:
    with sqlite3.connect("vr.db") as database:
        tables = ("runs", "trials", "searches", "points", "sweeps")
        return [database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]


@pytest.fixture
def attacked(
    vr: Callable[..., Any], valley: None, inline: None, stored: Callable[..., int], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[list[str]], str]]:  # fmt: skip
    """Carries out a call on a small database, and says what is wrong with how it ended."""
    stored("adamw")
    stored("sgd", seed=1)
    for words in ("sweep", "compare", "run"):  # an import that the alarm cuts short would fail ever after
        assert vr(words, "valley:Valley", *USUAL[words]).code == 0
    with sqlite3.connect("vr.db") as source, sqlite3.connect("whole") as copy:
        source.backup(copy)
    monkeypatch.setattr("typer.launch", lambda *_, **__: 0)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 6 * 2**30, hard))  # a huge network is refused, not begun

    numbers = itertools.count()

    def call(words: list[str]) -> str:
        place = tmp_path / f"{next(numbers)}"  # a new one each time: one that was interrupted may have files open
        (place / "folder").mkdir(parents=True)
        monkeypatch.chdir(place)
        for name in ("vr.db", "other.db"):
            shutil.copy(tmp_path / "whole", name)
        before, files = _rows(), set(os.listdir())
        previous = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S, LIMIT_S)
        try:
            done = vr(*words)
        except BaseException as error:
            return f"raised {type(error).__name__}: {error}"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        wrong = _wrong(done, before, files)
        shutil.rmtree(place)
        return wrong

    yield call
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _wrong(done: Any, before: list[Any], files: set[str]) -> str:
    """What is wrong with an outcome; nothing where all is well."""
    if done.code not in (0, 1, 2, 130):
        return f"exit code {done.code}"
    if "Traceback" in done.err + done.out:
        return done.err
    if "a fault of vr or a plugin" in done.err:
        return done.err.splitlines()[-1]
    if PASSWORD in done.err + done.out:
        return "a password"
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", done.err):
        return "control characters"
    if done.code == 2:
        lines = [line for line in done.err.splitlines() if not line.startswith("note: ")]
        if len(lines) != 1 or not lines[0].startswith("vr: "):
            return f"{len(lines)} lines"
        if done.out:
            return "a refusal on stdout"
        if _rows() != before:
            return "rows of a refused command"
        if new := set(os.listdir()) - files - {"vr.db-wal", "vr.db-shm", "other.db-wal", "other.db-shm"}:
            return f"files of a refused command: {sorted(new)}"
    return ""


def _attack(attacked: Callable[[list[str]], str], count: int, seed: int) -> None:
    chosen = calls()
    random.Random(seed).shuffle(chosen)
    found = [(words, wrong) for words in chosen[:count] if (wrong := attacked(words))]
    assert not found, "\n".join(f"{wrong}: vr {' '.join(map(repr, words))}" for words, wrong in found)


def test_values_that_nobody_means_are_refused_in_one_line(attacked: Callable[[list[str]], str]) -> None:
    _attack(attacked, 150, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_thousands_of_them(attacked: Callable[[list[str]], str]) -> None:
    _attack(attacked, int(os.environ.get("VR_ATTACKS", "3000")), seed=int(os.environ.get("VR_ATTACK_SEED", "0")))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_sample_of_them_in_processes_of_their_own(attacked: Callable[[list[str]], str], tmp_path: Path) -> None:
    place = tmp_path / "sample"
    place.mkdir()
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "plugins")}
    found = []
    for words in random.Random(2).sample(calls(), 30):
        for name in ("vr.db", "other.db"):
            shutil.copy(tmp_path / "whole", place / name)
        process = subprocess.Popen(
            [sys.executable, "-m", "vrcli", *words], cwd=place, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            errors="surrogateescape",
        )  # fmt: skip
        try:
            said = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)
        if process.returncode not in (0, 1, 2, 130) or "Traceback" in said[1] or "a fault of vr" in said[1]:
            found.append((words, process.returncode, said[1]))
    assert not found
