"""What ends a command from outside: signals, a full disk behind the output; and refusals that leave nothing."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from vrcli.db.store import Store, StoreError

PLUGINS = Path(__file__).parents[1] / "plugins"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


@pytest.fixture
def start(begin: Callable[..., subprocess.Popen[str]]) -> Callable[..., subprocess.Popen[str]]:
    """Begin a `vr` of its own that knows the tests' tasks."""
    return partial(begin, env={"PYTHONPATH": str(PLUGINS)})


def _running(tmp_path: Path) -> bool:
    with suppress(StoreError), Store.open(tmp_path / "vr.db", mode="read") as store:
        return bool(store.runs.select(status="running"))
    return False


@pytest.mark.slow
def test_a_sweep_whose_step_takes_long_is_ended_and_recorded(start: Callable[..., Any], tmp_path: Path) -> None:
    """The rehearsal is quick; a step of what is stored sleeps longer than anybody waits."""
    (tmp_path / "slow.py").write_text(
        "import os, time, valley\n"
        "class Slow(valley.Valley):\n"
        "    def loss(self, model, batch):\n"
        "        if os.path.exists('vr.db') and os.path.exists('slow'): time.sleep(600)\n"
        "        return super().loss(model, batch)\n"
    )
    (tmp_path / "slow").touch()
    process = start("sweep", "slow:Slow", "--trials", "2", "--threads", "1", "--quiet")
    while not _running(tmp_path):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (130, "vr: the sweep was interrupted; the same command continues it\n")
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        (run,) = store.runs.select()
        assert (run.status, run.error) == ("interrupted", "interrupted")
        assert [trial.state for trial in store.searches.trials(1)] == ["pending"]
        assert store.check() == []


@pytest.mark.slow
def test_a_second_interrupt_ends_a_run_at_once_and_loses_nothing(start: Callable[..., Any], tmp_path: Path) -> None:
    """The step that is under way would go on for ten minutes; the first Ctrl-C waits for it."""
    (tmp_path / "stuck.py").write_text(
        "import pathlib, time, valley\n"
        "class Stuck(valley.Valley):\n"
        "    steps = 0\n"
        "    def loss(self, model, batch):\n"
        "        self.steps += 1\n"
        "        if self.steps == 5:\n"
        "            pathlib.Path('stuck').touch()\n"
        "            time.sleep(600)\n"
        "        return super().loss(model, batch)\n"
    )
    process = start("run", "stuck:Stuck", "--threads", "1", "--quiet", "--db", "vr.db")
    while not (tmp_path / "stuck").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None  # it waits for the step
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    with Store.open(tmp_path / "vr.db") as store:
        (run,) = store.runs.select()
        assert run.status == "interrupted"
        assert store.curves.read(run.id)[run.id, "train_loss"].steps.tolist() == [1, 2, 3, 4]
        assert store.check() == []


@pytest.mark.slow
def test_a_sweep_stops_while_it_rehearses(start: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "idle.py").write_text(
        "import time, valley, pathlib\n"
        "class Idle(valley.Valley):\n"
        "    def data(self, generator):\n"
        "        pathlib.Path('loading').touch()\n"
        "        time.sleep(600)\n"
    )
    process = start("sweep", "idle:Idle", "--trials", "2", "--threads", "1", "--quiet")
    while not (tmp_path / "loading").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said == "vr: the sweep was interrupted before it began\n"
    assert not (tmp_path / "vr.db").exists()


@pytest.mark.slow
def test_under_nohup_a_hangup_stays_ignored(start: Callable[..., Any], tmp_path: Path) -> None:
    words = ("run", "valley:Valley", "--epochs", "100000", "--threads", "1", "--quiet")
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    process = start(*words, preexec_fn=ignore)
    while not _running(tmp_path):
        time.sleep(0.1)
    process.send_signal(signal.SIGHUP)
    time.sleep(1.0)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130


@FULL
@pytest.mark.parametrize(
    "words", ["runs list", "runs list --format json", "report", "db info", "tasks list", "--help", "--version"]
)
def test_output_to_a_full_disk_is_one_line(start: Callable[..., Any], stored: Callable[..., int], words: str) -> None:
    stored()
    with open("/dev/full", "w") as full:
        process = start(*words.split(), stdout=full)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.splitlines()[-1] == "vr: the output cannot be used: No space left on device"
    assert "Traceback" not in said
    assert "ignored" not in said


def test_a_path_of_too_many_letters_is_refused(vr: Callable[..., Any]) -> None:
    for name in ("x" * 300, "x/" * 3000):
        for words in (("runs", "list"), ("run", "cnn"), ("db", "merge", "y.db")):
            done = vr(*words, "--db", name)
            assert done.code == 2
            assert "letters, too many for a file or a URL" in done.err
            assert len(done.err.splitlines()) == 1
            assert len(done.err) < 200


def test_a_schema_that_never_was_is_refused(vr: Callable[..., Any], stored: Callable[..., int], tmp_path: Path) -> None:
    stored()
    with Store.open(tmp_path / "vr.db") as store, store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE vr_schema SET version_num = '0000'")
    before = (tmp_path / "vr.db").read_bytes()
    for words in ("runs list", "db upgrade", "db check"):
        done = vr(*words.split())
        assert (done.code, done.err) == (2, "vr: vr.db has schema 0000, which no vr has written; nothing was changed\n")
    assert (tmp_path / "vr.db").read_bytes() == before


@pytest.mark.parametrize(
    "words", ["run valley:Valley --trouble missing", "run cnn --preset smoke --seed 99999999999999999999",
              "sweep valley:Valley --trials 99999999999999999999", "sweep valley:Valley --trouble missing"]
)  # fmt: skip
def test_a_refused_command_makes_no_database(vr: Callable[..., Any], valley: None, tmp_path: Path, words: str) -> None:
    done = vr(*words.split(), "--threads", "1")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_no_database_counts_is_named(vr: Callable[..., Any], stored: Callable[..., int]) -> None:
    stored()
    for words in ("runs list --limit 99999999999999999999", "sweep cnn --trials 99999999999999999999"):
        done = vr(*words.split())
        assert done.code == 2
        assert words.split()[2] in done.err
