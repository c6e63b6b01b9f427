"""How many CPU threads a run takes: the user's number, or what its steps can share; never what the machine does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vrcli.db.location import Location
from vrcli.execute.place import Place
from vrcli.settings import resolve
from vrcli.spec import Threads
from vrcli.tasks.cnn import Cnn
from vrcli.tasks.gflownet import GFlowNet
from vrcli.tasks.transformer import Transformer

CASES = [
    (Cnn, "smoke", {}, 1),
    (Cnn, "quick", {}, 1),
    (Cnn, "quick", {"batch_size": 1024}, 4),
    (Cnn, "quick", {"channels": 32}, 4),
    (Cnn, "quick", {"dataset": "cifar10"}, 4),
    (Cnn, "paper", {}, 4),
    (GFlowNet, "quick", {}, 1),
    (GFlowNet, "paper", {}, 4),
    (Transformer, "smoke", {}, 4),
]


@pytest.mark.parametrize(("task", "preset", "flags", "threads"), CASES)
def test_short_steps_take_one_thread_unless_told(task, preset, flags, threads: int) -> None:
    def taken(**asked) -> int:
        return resolve(task, "adamw", preset=preset, flags=flags, **asked).request.threads

    assert taken(threads=Threads(4)) == threads
    assert taken(threads=Threads(4, chosen=True)) == 4
    assert taken(threads=Threads(4), device="cuda") == 4


def test_jobs_share_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    database = Location.given(tmp_path / "vr.db")
    assert Place(database).threads_each == Threads(8)
    assert Place(database, jobs=3).threads_each == Threads(2)
    assert Place(database, jobs=3, threads=7).threads_each == Threads(2, chosen=True)
    assert Place(database, jobs=16).threads_each == Threads(1)


def test_a_run_stores_its_threads(vr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    vr("run", "cnn", "--preset", "smoke", "--epochs", "1")
    shown = json.loads(vr("runs", "show", "1", "--format", "json").out)
    assert shown["spec"]["threads"] == 1


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one thread is all there is")
def test_a_busy_machine_does_not_make_short_steps_crawl(tmp_path: Path) -> None:
    """Two threads that wait for each other beside busy processes are 3 to 30 times slower than one."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP", "OMP"))}
    words = (sys.executable, "-m", "vrcli", "run", "cnn", "--preset", "quick", "--epochs", "20", "--quiet")

    def seconds(*more: str) -> float:
        database = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
        subprocess.run([*words, "--db", str(database), *more], env=env, cwd=tmp_path, check=True)
        show = (*words[:3], "runs", "show", "1", "--format", "json", "--db", str(database))
        done = subprocess.run(show, env=env, cwd=tmp_path, check=True, capture_output=True, text=True)
        return float(json.loads(done.stdout)["results"]["train_s"])

    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        ratios = sorted(seconds("--threads", "2") / seconds() for _ in range(3))
    finally:
        for one in busy:
            one.kill()
            one.wait()
    print(f"two threads over the default, beside {len(busy)} busy processes: {ratios}")
    assert ratios[1] > 1
