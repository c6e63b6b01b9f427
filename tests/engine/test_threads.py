"""How many CPU threads a run takes: the user's number, or what its steps can share; never what the machine does."""

from __future__ import annotations

import json
import os
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
    (Cnn, "smoke", {"batch_size": 1024}, 4),
    (Cnn, "quick", {}, 4),
    (Cnn, "smoke", {"dataset": "cifar10"}, 4),
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
