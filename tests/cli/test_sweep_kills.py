"""`vr sweep` as a user runs it, killed with SIGKILL at random moments and started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vrcli.db.store import Store

PLUGINS = Path(__file__).parents[1] / "plugins"
TRIALS = 24


def command(database, jobs):
    return [
        *(sys.executable, "-m", "vrcli", "sweep", "valley:Valley", "--trials", str(TRIALS), "--jobs", str(jobs)),
        *("--sleep-s", "0.05", "--threads", "1", "--device", "cpu", "--db", str(database)),
    ]  # fmt: skip


def environment():
    return {**os.environ, "PYTHONPATH": f"{PLUGINS}:{PLUGINS.parents[1]}", "OMP_NUM_THREADS": "1"}


def finish(database, jobs):
    done = subprocess.run(command(database, jobs), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def kill_after(database, jobs, delay_s):
    """Start the sweep, wait until it says that it goes on, kill it `delay_s` later; whether it was still running."""
    with subprocess.Popen(command(database, jobs), env=environment(), stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("sweep "):
                break
        time.sleep(delay_s)
        alive = process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return alive


def stored(database):
    with Store.open(database, mode="read") as store:
        (sweep,) = store.searches.select()
        trials, runs = store.searches.trials(sweep.id), store.runs.select(sweep=sweep.id)
    return sweep, trials, runs


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_killed_at_ten_random_moments_ends_with_every_trial_once(tmp_path, jobs):
    whole, broken, rng = tmp_path / "whole.db", tmp_path / "broken.db", random.Random(jobs)
    finish(whole, jobs)
    kills = sum(kill_after(broken, jobs, rng.uniform(0.0, 1.2)) for _ in range(10))
    assert kills >= 8  # the last ones may find nothing left to do
    finish(broken, jobs)

    sweep, trials, runs = stored(broken)
    assert sweep.status == "completed"
    assert [t.number for t in trials] == list(range(TRIALS))
    assert {t.state for t in trials} <= {"completed", "diverged"}
    finished = [run for run in runs if run.status in ("completed", "diverged")]
    assert sorted(run.trial_id for run in finished) == sorted(t.id for t in trials)
    assert not [run for run in runs if run.status == "running"]
    assert len({t.params_json for t in trials}) == TRIALS
    for trial in trials:
        (run,) = [run for run in finished if run.trial_id == trial.id]
        assert trial.value in (None, run.results.get("best_val_loss"))
    if jobs == 1:
        _, expected, _ = stored(whole)
        assert [t.params for t in trials] == [t.params for t in expected]
        assert [t.value for t in trials] == [t.value for t in expected]
