"""SIGKILL at random moments: the same command again ends with what it would have come to in one piece.

The slow test is the whole campaign, and prints its figures (pytest -s).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vrcli.db.store import Store

ROOT = Path(__file__).parents[1]
OLD = ROOT / "db" / "assets" / "schema_0001.db"
#: Results that say how long something took, or how much memory.
_NOT_REPEATED = ("wall_s", "train_s", "step_ms", "samples_per_s", "optimizer_ms", "peak_memory_bytes")
_RUN = ("--threads", "1", "--device", "cpu", "--checkpoint-every", "0.2s", "--keep-weights", "both")
_TRIALS = ("--threads", "1", "--device", "cpu", "--checkpoint-every", "0.2s", "--quiet", "--sleep-s", "0.05")


@dataclass(frozen=True)
class Story:
    """A command that is killed.

    Args:
        words: of the command; the database is vr.db.
        before: a database that is there, by the name under which it is put there.
        upgraded: it has today's schema.
    """

    words: Sequence[str]
    before: Mapping[str, Path] | None = None
    upgraded: bool = False


STORIES = {
    "cnn": Story(("run", "cnn", "--preset", "smoke", "--epochs", "40", "--opt", "vradam", *_RUN)),
    "transformer": Story(("run", "transformer", "--preset", "smoke", "--epochs", "20", "--opt", "adamw", *_RUN)),
    "gflownet": Story(("run", "gflownet", "--preset", "smoke", "--epochs", "12", "--opt", "sgd", *_RUN)),
    "diffusion": Story(("run", "diffusion", "--preset", "smoke", "--epochs", "8", "--opt", "vradam", *_RUN)),
    "gradients": Story(("run", "cnn", "--preset", "smoke", "--until", "gradients:400", "--opt", "lbfgs", *_RUN)),
    "sweep": Story(("sweep", "valley:Valley", "--trials", "6", "--opt", "sgd", "--opt", "adamw", *_TRIALS)),
    "two jobs": Story(("sweep", "valley:Valley", "--trials", "4", "--search", "sobol", "--jobs", "2", *_TRIALS)),
    "compare": Story(
        ("compare", "valley:Valley", "--opt", "sgd", "--opt", "adamw", "--trials", "3", "--searches", "2", "--seeds",
         "1", *_TRIALS)
    ),
    "upgrade": Story(("db", "upgrade"), {"vr.db": OLD}),
    "merge": Story(("db", "merge", "other.db"), {"other.db": OLD}),
    "export": Story(("runs", "export", "--to", "sqlite", "--output", "out.db"), {"vr.db": OLD}, upgraded=True),
}  # fmt: skip


def start(story: Story, folder: Path) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "plugins"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vrcli", *story.words, "--db", "vr.db"]
    return subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def fresh(folder: Path, story: Story) -> Path:
    folder.mkdir()
    for name, source in (story.before or {}).items():
        shutil.copy(source, folder / name)
        if story.upgraded:
            Store.upgrade(folder / name)
    return folder


def finished(story: Story, folder: Path) -> float:
    """Run the command to its end; its seconds."""
    begun = time.monotonic()
    process = start(story, folder)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said.decode()
    return time.monotonic() - begun


def content(folder: Path) -> dict[str, list[Any]]:
    """All that every database in a folder came to, without times; each is whole."""
    found: dict[str, list[Any]] = {}
    for path in sorted(folder.glob("*.db")):
        with closing(sqlite3.connect(path)) as plain:
            assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            if path.name not in ("vr.db", "out.db"):  # a backup, or what was merged
                continue
            run = "SELECT runs.configuration, runs.seed, runs.status, runs.trial_id IS NULL"
            no_times = ", ".join(f"'{name}'" for name in _NOT_REPEATED)
            for what, query in {
                "runs": f"{run} FROM runs",
                "points": f"{run}, m.name, step, value, kind FROM points p JOIN metrics m ON m.id = p.metric_id"
                f" JOIN runs ON runs.id = p.run_id WHERE m.name NOT IN ({no_times})",
                "results": f"{run}, m.name, value, kind FROM results r JOIN metrics m ON m.id = r.metric_id"
                f" JOIN runs ON runs.id = r.run_id WHERE m.name NOT IN ({no_times})",
                "artifacts": f"{run}, a.name, step, hex(data) FROM artifacts a JOIN runs ON runs.id = a.run_id",
                "trials": "SELECT search_id, number, params, state, value FROM trials",
            }.items():
                found[f"{path.name} {what}"] = sorted(map(repr, plain.execute(query)))
    return found


def over(story: Story, folder: Path) -> bool:
    """Whether the run of a story is complete, so that the same command would begin another."""
    if story.words[0] != "run" or not (folder / "vr.db").exists():
        return False
    with Store.open(folder / "vr.db", mode="write") as store:
        return bool(store.runs.select(status="completed"))


def killed(story: Story, folder: Path, whole_s: float, rng: random.Random, most: int) -> int:
    """Begin the command and kill it, up to so often; how often it was not over yet."""
    kills = 0
    for _ in range(most):
        process = start(story, folder)
        try:
            process.communicate(timeout=rng.uniform(0.2, 1.1) * whole_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with its workers, as a machine that loses its power
            process.communicate()
            kills += 1
            if over(story, folder):
                break
        else:
            break
    return kills


def attacked(tmp_path: Path, names: Sequence[str], kills: int, seed: int) -> dict[str, int]:
    """Kill the stories in turn until so many kills are made; by story how many, each of them held to its reference."""
    rng = random.Random(seed)
    whole = {}
    for name in names:
        folder = fresh(tmp_path / f"whole-{name}", STORIES[name])
        whole[name] = finished(STORIES[name], folder), content(folder)
    made = dict.fromkeys(names, 0)
    turn = 0
    while sum(made.values()) < kills:
        name = names[turn % len(names)]
        folder = fresh(tmp_path / f"{name}-{turn}", STORIES[name])
        took, reference = whole[name]
        made[name] += killed(STORIES[name], folder, took, rng, most=3)
        if not over(STORIES[name], folder):
            finished(STORIES[name], folder)
        left = content(folder)
        for what, rows in reference.items():
            assert left[what] == rows, f"{name} of turn {turn}, seed {seed}: {what}"
        shutil.rmtree(folder)
        turn += 1
    return made


@pytest.mark.slow
def test_a_killed_upgrade_and_a_killed_export_end_as_if_nothing_had_been(tmp_path: Path) -> None:
    assert sum(attacked(tmp_path, ["upgrade", "export"], kills=2, seed=0).values()) >= 2


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_hundred_kills(tmp_path: Path) -> None:
    made = attacked(tmp_path, list(STORIES), kills=100, seed=20261121)
    print(f"\n{sum(made.values())} kills: {made}; every database whole, every curve and weight as without them")
