"""A database that is away while runs go on: nothing is lost where it comes back, and what is recorded stays."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from vrcli.db.store import Store, StoreError

PLUGINS = Path(__file__).parents[1] / "plugins"
RUN = ("run", "valley:Valley", "--sleep-s", "0.02", "--threads", "1", "--quiet")
#: As `vr`, but with another patience.
PATIENT = "from vrcli.execute import outage; outage.PATIENCE_S = {}; from vrcli.cli.app import main; main()"
postgres = pytest.mark.postgres


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begin a `vr` of its own; none outlives the test."""
    begun = []

    def begin(*words: str, db: str = "vr.db", patience_s: float = 30.0) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": str(PLUGINS), "VR_DB": db}
        how = ["-c", PATIENT.format(patience_s)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([sys.executable, *how, *words], cwd=tmp_path, env=env, text=True, **pipes)
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def _until_recorded(process: Any, db: str | Path, runs: int = 1) -> None:
    """Wait until the newest of so many runs has points."""
    while process.poll() is None:
        with suppress(StoreError), Store.open(db, mode="read") as store:
            if store.curves.count([run.id for run in store.runs.select()[: 1 - runs or None]]):
                return
        time.sleep(0.05)
    raise AssertionError(process.communicate())


def _limit_files(process: Any, size: int) -> None:
    """No file of a process grows beyond so many bytes: a disk that is full."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _ended(process: Any) -> tuple[int, list[str]]:
    _, said = process.communicate(timeout=200)
    return process.returncode, said.splitlines()


@pytest.mark.slow
@postgres
def test_a_server_that_is_away_for_seconds_costs_a_run_nothing(start: Callable[..., Any], own_server: Any) -> None:
    url, control = own_server
    process = start(*RUN, "--epochs", "100", db=url)
    _until_recorded(process, url)
    control("-m", "fast", "stop")
    time.sleep(3)
    control("start")
    code, said = _ended(process)
    assert code == 0, said
    assert len(said) == 1
    assert said[0].endswith("trying again for 30 s")
    with Store.open(url, mode="read") as store:
        (run,) = store.runs.select()
        curves = store.curves.read(run.id)
        assert run.status == "completed"
        assert list(curves[run.id, "train_loss"].steps) == list(range(1, 201))
        assert list(curves[run.id, "val_loss"].steps) == list(range(2, 201, 2))


@pytest.mark.slow
@postgres
def test_a_server_that_is_away_for_seconds_costs_a_sweep_nothing(start: Callable[..., Any], own_server: Any) -> None:
    url, control = own_server
    words = ("--epochs", "40", "--trials", "5", "--search", "random", "--confirm-seeds", "1", "--jobs", "2")
    process = start("sweep", *RUN[1:], *words, db=url)
    _until_recorded(process, url, runs=2)
    control("-m", "fast", "stop")
    time.sleep(3)
    control("start")
    code, said = _ended(process)
    assert code == 0, said
    assert sum("trying again" in line for line in said) <= 1
    with Store.open(url, mode="read") as store:
        assert [trial.state for trial in store.searches.trials(1)] == ["completed"] * 5
        runs = store.runs.select()
        assert [run.status for run in runs] == ["completed"] * 6
        assert {store.curves.count(run.id) for run in runs} == {store.curves.count(runs[0].id)}
        assert store.check() == []


@pytest.mark.slow
@postgres
@pytest.mark.parametrize(("patience_s", "away_s", "epochs"), [(1.0, 0.0, 200), (30.0, 120.0, 1500)])
def test_a_run_whose_server_stayed_away_goes_on_without_a_gap(
    start: Callable[..., Any], own_server: Any, patience_s: float, away_s: float, epochs: int
) -> None:
    """What the server had not taken is in the checkpoint; the run is not over when the patience is."""
    url, control = own_server
    process = start(*RUN, "--epochs", str(epochs), "--checkpoint-dir", "kept", db=url, patience_s=patience_s)
    _until_recorded(process, url)
    control("-m", "fast", "stop")
    back = time.monotonic() + away_s
    code, said = _ended(process)
    time.sleep(max(0.0, back - time.monotonic()))
    control("start")
    assert code == 1, said
    with Store.open(url, mode="read") as store:
        before = store.curves.last_step(1)
    code, said = _ended(start("runs", "resume", "--quiet", db=url))
    assert code == 0, said
    (line,) = [line for line in said if "resumes at step" in line]
    assert before < int(line.split()[-3]) < 2 * epochs
    with Store.open(url, mode="read") as store:
        (run,) = store.runs.select()
        curves = store.curves.read(run.id)
        assert list(curves[run.id, "train_loss"].steps) == list(range(1, 2 * epochs + 1))
        assert list(curves[run.id, "val_loss"].steps) == list(range(2, 2 * epochs + 1, 2))


@pytest.mark.slow
@postgres
def test_a_server_that_stays_away_ends_a_run(start: Callable[..., Any], own_server: Any) -> None:
    url, control = own_server
    process = start(*RUN, "--epochs", "10000", db=url, patience_s=1.0)
    _until_recorded(process, url)
    control("-m", "fast", "stop")
    code, said = _ended(process)
    assert code == 1, said
    assert len(said) == 2
    assert "run 1 was interrupted and its curves are recorded up to step " in said[1]
    assert said[1].endswith("; vr runs resume 1 continues it")
    control("start")
    with Store.open(url) as store:
        (run,) = store.runs.select()
        recorded = int(said[1].partition("up to step ")[2].partition(";")[0])
        assert run.status == "interrupted"
        assert recorded == store.curves.read(run.id)[run.id, "train_loss"].steps[-1]


@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while_costs_nothing(start: Callable[..., Any], tmp_path: Path) -> None:
    process = start(*RUN, "--epochs", "100")
    _until_recorded(process, tmp_path / "vr.db")
    _limit_files(process, 1)
    assert "trying again for 30 s" in process.stderr.readline()
    _limit_files(process, resource.RLIM_INFINITY)
    code, said = _ended(process)
    assert (code, said) == (0, [])
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        (run,) = store.runs.select()
        assert list(store.curves.read(run.id)[run.id, "train_loss"].steps) == list(range(1, 201))
        assert store.check() == []


@pytest.mark.slow
def test_a_disk_that_stays_full_ends_a_run(start: Callable[..., Any], tmp_path: Path) -> None:
    process = start(*RUN, "--epochs", "10000", patience_s=1.0)
    _until_recorded(process, tmp_path / "vr.db")
    _limit_files(process, 1)
    code, said = _ended(process)
    assert code == 1, said
    assert len(said) == 2
    assert "run 1 was interrupted and its curves are recorded up to step " in said[1]
    with Store.open(tmp_path / "vr.db") as store:
        assert [run.status for run in store.runs.select()] == ["interrupted"]
        assert store.check() == []


@pytest.mark.slow
def test_a_disk_that_stays_full_ends_a_sweep_which_goes_on(start: Callable[..., Any], tmp_path: Path) -> None:
    # The workers import it, so that they have less patience, too.
    text = "import valley\nfrom vrcli.execute import outage\noutage.PATIENCE_S = 1.0\nHasty = valley.Valley\n"
    (tmp_path / "hasty.py").write_text(text.replace("Hasty = valley.Valley", "class Hasty(valley.Valley): pass"))
    words = ("sweep", "hasty:Hasty", *RUN[2:], "--epochs", "20", "--trials", "3", "--search", "random", "--jobs", "2")
    process = start(*words)
    _until_recorded(process, tmp_path / "vr.db", runs=2)
    for pid in (process.pid, *_children(process.pid)):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    code, said = _ended(process)
    assert code == 1, said
    assert said[-1].endswith("; what is recorded stays, and the same command continues it")
    assert len(said) == 2
    assert _ended(start(*words)) == (0, [])
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        assert [trial.state for trial in store.searches.trials(1)] == ["completed"] * 3
        assert store.check() == []


@pytest.mark.slow
def test_nobody_waits_for_a_full_disk_who_was_told_to_stop(start: Callable[..., Any], tmp_path: Path) -> None:
    process = start(*RUN, "--epochs", "10000", patience_s=100_000.0)
    _until_recorded(process, tmp_path / "vr.db")
    _limit_files(process, 1)
    assert "trying again for 100000 s" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    code, said = _ended(process)
    assert code == 1, said


def _children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]
