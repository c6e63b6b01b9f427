"""Packages of other people: the documentation's examples, installed beside vr and found through their entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from documents import ROOT, write_files


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the documentation's optimizer and the scaffold's task, installed by pip."""
    pytest.importorskip("pip", reason="an environment made by uv has no pip")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    write_files((ROOT / "docs/how-to/own-optimizer.md").read_text(), source)
    subprocess.run([sys.executable, "-m", "vrcli", "tasks", "new", "swirl"], cwd=source, check=True)
    command = ["pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", *command, "./heavyball", "./swirl"], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return target


def vr(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run([sys.executable, "-m", "vrcli", *words], cwd=folder, env=env, capture_output=True, text=True)


def test_task_and_optimizer_of_other_packages_run_by_name(installed: Path, tmp_path: Path):
    words = ("run", "swirl", "--opt", "heavyball", "--momentum", "0.5", "--preset", "smoke", "--threads", "1")
    done = vr(installed, tmp_path, *words, "--format", "json")
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert (body["task"], body["optimizer"], body["status"]) == ("swirl", "heavyball", "completed")
    assert body["spec"]["optimizer_settings"] == {"lr": 0.001, "momentum": 0.5}


def test_they_are_listed_with_their_origin(installed: Path, tmp_path: Path):
    tasks = json.loads(vr(installed, tmp_path, "tasks", "list", "--format", "json").stdout)
    assert {"task": "swirl", "from": "vr-task-swirl"}.items() <= next(t for t in tasks if t["task"] == "swirl").items()
    opts = json.loads(vr(installed, tmp_path, "opts", "list", "heavyball", "--format", "json").stdout)
    assert opts[0]["from"] == "vr-heavyball"


def test_the_documented_optimizer_passes_its_check(installed: Path, tmp_path: Path):
    done = vr(installed, tmp_path, "opts", "check", "heavyball")
    assert done.returncode == 0, done.stdout + done.stderr
