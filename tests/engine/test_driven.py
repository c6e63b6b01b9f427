"""A task with a loop of its own: runs, searches, comparisons and interruptions as of every task."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vrcli
from vrcli.db.store import Store
from vrcli.engine.events import Eval, Started, Steps
from vrcli.errors import UsageError
from vrcli.execute.run import RunFailed

LOOPING = "looping:Looping"
PLUGINS = Path(__file__).parents[1] / "plugins"


def nothing(event: Any) -> None:
    """Watches nothing."""


def curve(db: Path, run: int, metric: str = "train_loss") -> list[float]:
    with Store.open(db) as store:
        return list(store.curves.read([run], [metric])[run, metric].values)


def run(db: Path, **words: Any) -> Any:
    return vrcli.run(LOOPING, **{"threads": 1, "db": db, "watch": nothing, **words}).runs[-1]


@pytest.fixture
def db(valley: None, tmp_path: Path) -> Path:
    return tmp_path / "vr.db"


def test_a_loop_of_ones_own_is_a_run_like_any_other(db: Path) -> None:
    found = run(db, opt="adamw", epochs=3, schedule="warmup-cosine", warmup_epochs=1, keep_weights="both")
    assert found.status == "completed"
    assert {"steps": 15, "epochs": 3, "parameters": 5}.items() <= found.results.items()
    assert found.results["test_error"] == pytest.approx(math.sqrt(found.results["test_loss"]), rel=1e-5)
    assert len(curve(db, found.id)) == 15
    rates = curve(db, found.id, "lr_effective")
    assert rates[0] == pytest.approx(0.1 * 0.02)
    assert rates[5] == pytest.approx(0.02)
    assert rates[-1] < 1e-6
    assert curve(db, found.id, "epoch") == [1.0, 2.0, 3.0]
    with Store.open(db) as store:
        assert len(store.artifacts.select(found.id)) == 2
    assert (found.dataset, found.dataset_fingerprint) == ("unknown", "declared")


def test_the_seed_decides_the_curve_and_the_process_keeps_its_numbers(db: Path) -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    first, again, other = (run(db, seed=seed, new=True) for seed in (3, 3, 4))
    assert curve(db, first.id) == curve(db, again.id) != curve(db, other.id)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_telemetry_of_the_optimizer_is_recorded(db: Path) -> None:
    found = run(db, opt="vradam", epochs=2)
    with Store.open(db) as store:
        names = {name for _, name in store.curves.read([found.id])}
    assert {"train_loss", "lr_effective", "epoch_train_loss", "val_loss", "val_error"} < names
    assert len(names) > 7


@pytest.mark.parametrize(
    ("until", "steps"), [({"until": "steps:7"}, 7), ({"until": "gradients:6"}, 6), ({"max_steps": 8}, 8)]
)
def test_budgets_end_a_loop(db: Path, until: dict[str, Any], steps: int) -> None:
    assert run(db, **until).results["steps"] == steps


def test_a_time_ends_a_loop(db: Path) -> None:
    found = run(db, until="seconds:0.3", epochs=None)
    assert found.status == "completed"
    assert found.results["wall_s"] < 30


def test_patience_ends_a_loop_early(db: Path) -> None:
    found = run(db, lr=1e-30, epochs=50, patience=2)
    assert (found.status, found.results["steps"]) == ("completed", 15)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("raise", "ValueError: no luck"),
        ("exit", "it raised SystemExit: 3"),
        ("twice", "train_loss was recorded at step 1 already; steps must increase, got 1"),
        ("back", "train_loss was recorded at step 3 already; steps must increase, got 2"),
        ("silent", "run.best_weights found no weights: call run.optimizer and run.evaluate first"),
        ("second", "run.optimizer was called already; put all that it trains into one model"),
        ("half", "a step must be a whole number from 0 on, got 5.5"),
        ("text", "a step must be a whole number from 0 on, got 'seven'"),
        ("unmeasured", "train() never called run.evaluate(step, val_loss=...)"),
        ("beyond", "step 21 is beyond the budget of 20 steps; ask run.should_stop()"),
    ],
)
def test_a_loop_that_fails_says_why_and_keeps_what_was_recorded(db: Path, trouble: str, words: str) -> None:
    with pytest.raises(RunFailed) as failed:
        run(db, trouble=trouble)
    assert words in str(failed.value)
    with Store.open(db) as store:
        [found] = store.runs.select()
    assert found.status == "failed"
    assert words in found.error
    assert trouble == "second" or len(curve(db, found.id)) >= 1


@pytest.mark.parametrize(
    ("trouble", "words"), [("nan", "loss not finite at step 1"), ("val nan", "validation loss nan after step 5")]
)
def test_a_loss_that_is_not_finite_ends_it(db: Path, trouble: str, words: str) -> None:
    found = run(db, trouble=trouble, epochs=1000)
    assert (found.status, found.error) == ("diverged", words)


@pytest.mark.parametrize(("trouble", "loss"), [("nan", "nan"), ("beyond", "20000")])
def test_a_loss_beside_a_rising_objective_ends_it_and_is_named(db: Path, trouble: str, loss: str) -> None:
    found = vrcli.run("looping:Rewarded", until="steps:3", trouble=trouble, threads=1, db=db, watch=nothing).runs[-1]
    assert (found.status, found.error) == ("diverged", f"validation loss {loss} after step 1")


@pytest.mark.parametrize("loop", ["Sparse", "Gathering", "Quiet", "Stepping"])
def test_a_schedule_follows_the_steps_of_the_loop(db: Path, loop: str) -> None:
    words: dict[str, Any] = {"schedule": "warmup-cosine", "warmup_epochs": 0, "epochs": 4, "lr": 1.0}
    found = vrcli.run(f"looping:{loop}", opt="sgd", threads=1, db=db, watch=nothing, **words).runs[-1]
    rates = curve(db, found.id, "lr_effective")
    at = {"Sparse": 40, "Gathering": 40, "Quiet": 4, "Stepping": 40}[loop]
    assert len(rates) == at
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)
    half = rates[at // 2 - 1]  # of the last step of the optimizer until then, the 20th of the loop
    assert half == pytest.approx(0.5 * (1 + math.cos(math.pi * 19 / 39)))


def test_settings_that_the_loop_does_not_honour_are_refused(db: Path) -> None:
    with pytest.raises(UsageError, match="--grad-clip is not a setting of adamw or looping"):
        run(db, opt="adamw", grad_clip=1.0)
    with pytest.raises(UsageError, match="gradients:10 does not work here: vr cannot count"):
        run(db, opt="lbfgs", until="gradients:10")
    assert not db.exists()


def interrupted(db: Path, after: int, **words: Any) -> Any:
    """A run that is left after so many evaluations as if its reader had gone."""

    class Enough(Exception):
        pass

    def watch(event: Any) -> None:
        nonlocal after
        after -= isinstance(event, Eval)
        if after <= 0:
            raise Enough

    with pytest.raises(Enough):
        run(db, watch=watch, checkpoint_every="2", **words)
    with Store.open(db) as store:
        [found] = store.runs.select()
    assert found.status == "interrupted"
    return found


def test_an_interrupted_loop_goes_on_with_the_same_bits(db: Path, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole.db", epochs=6, schedule="warmup-cosine", warmup_epochs=2)
    first = interrupted(db, 3, epochs=6, schedule="warmup-cosine", warmup_epochs=2)
    begins: list[Started] = []
    again = run(db, epochs=6, schedule="warmup-cosine", warmup_epochs=2, checkpoint_every="2",
                watch=lambda event: begins.append(event) if isinstance(event, Started) else None)  # fmt: skip
    assert (again.id, again.status) == (first.id, "completed")
    assert begins[0].step > 5
    for metric in ("train_loss", "val_loss", "lr_effective", "epoch_train_loss"):
        assert curve(db, again.id, metric) == curve(tmp_path / "whole.db", whole.id, metric)
    same = ("best_val_loss", "best_step", "test_loss", "steps", "final_train_loss")
    assert {name: again.results[name] for name in same} == {name: whole.results[name] for name in same}


def test_a_loop_that_saves_nothing_begins_again(db: Path) -> None:
    first = interrupted(db, 2, trouble="unsaved")
    again = run(db, trouble="unsaved")
    assert (again.id, again.status, len(curve(db, again.id))) == (first.id, "completed", 20)


def test_a_loop_that_saves_and_does_not_restore_is_told(db: Path) -> None:
    interrupted(db, 2, trouble="unrestored")
    with pytest.raises(RunFailed, match=r"goes on after step \d+: call run.restore"):
        run(db, trouble="unrestored")


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [None, *(pytest.param(t, marks=pytest.mark.slow) for t in ("deaf", "unsaved"))])
def test_a_stop_request_reaches_every_loop(tmp_path: Path, trouble: str | None) -> None:
    words = ["--trouble", trouble] if trouble else []
    words = ["run", LOOPING, "--until", "steps:1000000", "--threads", "1", *words]
    env = {**os.environ, "PYTHONPATH": str(PLUGINS)}
    process = subprocess.Popen(
        [sys.executable, "-m", "vrcli", *words], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.split()[:1] == ["10"]:  # two evaluations were shown
            break
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - asked < 30
    with Store.open(tmp_path / "vr.db") as store:
        [found] = store.runs.select()
    assert found.status == "interrupted"


def test_search_pruning_and_comparison(vr: Callable[..., Any], valley: None, inline: None, tmp_path: Path) -> None:
    done = vr("sweep", LOOPING, "--opt", "adamw", "--trials", "4", "--prune", "median", "--threads", "1",
              "--epochs", "3", "--format", "json", "--db", tmp_path / "s.db")  # fmt: skip
    assert done.code == 0, done.err
    [search] = json.loads(done.out)["sweeps"]
    assert search["best_val_loss"] > 0
    words = ("compare", LOOPING, "--opt", "adamw", "--opt", "sgd", "--trials", "2", "--searches", "2", "--seeds", "2",
             "--epochs", "2", "--threads", "1", "--format", "json")  # fmt: skip
    done = vr(*words)
    assert done.code == 0, done.err
    assert json.loads(done.out)["verdicts"]
    with Store.open(tmp_path / "vr.db") as store:
        runs = store.runs.select()
        assert {one.status for one in runs} == {"completed"}
        fresh = {one.seed: one for one in runs if one.trial_id is None and one.optimizer == "sgd"}
        assert len(fresh) >= 2
    before = len(runs)
    assert vr(*words).code == 0
    with Store.open(tmp_path / "vr.db") as store:
        assert len(store.runs.select()) == before


def test_blocks_of_one_event_share_their_steps(db: Path) -> None:
    blocks: list[Steps] = []
    run(db, watch=lambda event: blocks.append(event) if isinstance(event, Steps) else None)
    assert blocks
    for block in blocks:
        assert all(len(values) == len(block.steps) for values in block.values.values())
