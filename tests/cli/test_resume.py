"""Runs that were interrupted go on: by `vr runs resume`, and by the same command again."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

import vrcli
from vrcli.db import schema
from vrcli.db.errors import LeaseLost
from vrcli.db.store import Store
from vrcli.engine.events import Eval

PLUGINS = Path(__file__).parents[1] / "plugins"
VALLEY = ("valley:Valley", "--threads", "1", "--epochs", "12")
#: Figures that say how long it took.
TIMES = ("wall_s", "train_s", "step_ms", "samples_per_s", "optimizer_ms", "peak_memory_bytes")


def nothing(event: Any) -> None:
    """Watches nothing."""


class _Enough(Exception):
    """Ends a run as if its reader had gone."""


def content(database: Path) -> list[Any]:
    """All that the runs of a database came to, without times."""
    with closing(sqlite3.connect(database)) as plain:
        points = plain.execute("SELECT seed, metric, step, value, kind FROM v_curves WHERE metric <> 'wall_s'")
        found = [sorted(points.fetchall())]
        results = plain.execute("SELECT seed, metric, value, kind FROM v_results ORDER BY 1, 2").fetchall()
        files = plain.execute("SELECT name, step, data FROM artifacts ORDER BY 1, 2").fetchall()
    return [*found, [row for row in results if row[1] not in TIMES], files]


def interrupt(db: Path, after: int, task: str = "valley:Valley", **words: Any) -> None:
    """A run that ends abruptly after so many evaluations; a checkpoint was written every three steps."""

    def watch(event: Any) -> None:
        nonlocal after
        after -= isinstance(event, Eval)
        if after <= 0:
            raise _Enough

    with pytest.raises(_Enough):
        vrcli.run(task, threads=1, db=db, watch=watch, **{"epochs": 12, "checkpoint_every": "3", **words})


@pytest.fixture
def whole(valley: None, tmp_path: Path) -> list[Any]:
    """What a run of twelve epochs comes to that nobody interrupts."""
    vrcli.run("valley:Valley", threads=1, epochs=12, db=tmp_path / "whole.db", keep_weights="both", watch=nothing)
    return content(tmp_path / "whole.db")


@pytest.fixture
def launch(begin: Callable[..., subprocess.Popen[str]]) -> Callable[..., subprocess.Popen[str]]:
    """Begin a `vr` of its own that knows the tests' tasks."""
    return partial(begin, env={"PYTHONPATH": str(PLUGINS)})


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/step-*.checkpoint"), key=lambda path: int(path.stem.removeprefix("step-")))


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_command(launch: Callable[..., Any], tmp_path: Path) -> None:
    words = ("run", *VALLEY, "--sleep-s", "0.1", "--keep-weights", "both", "--checkpoint-every", "3", "--db")
    process = launch(*words, "a.db")
    while len(checkpoints(tmp_path / "a.db-checkpoints")) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again, other = launch(*words, "a.db"), launch(*words, "whole.db")
    out, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert "note: run 1 resumes at step " in said
    assert " of 24\n" in said
    assert out.startswith("run 1 ")
    assert other.wait(120) == 0
    assert content(tmp_path / "a.db") == content(tmp_path / "whole.db")
    assert not (tmp_path / "a.db-checkpoints").exists()


@pytest.mark.slow
def test_a_stopped_run_leaves_a_checkpoint_and_two_that_resume_it_are_one(
    launch: Callable[..., Any], tmp_path: Path
) -> None:
    process = launch("run", *VALLEY, "--epochs", "60", "--sleep-s", "0.05", "--db", "a.db")
    while not (tmp_path / "a.db").exists():
        time.sleep(0.02)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "vr runs resume 1" in out
    (path,) = checkpoints(tmp_path / "a.db-checkpoints")
    both = [launch("runs", "resume", "1", "--db", "a.db") for _ in range(2)]
    ended = [(one.communicate(timeout=240)[1], one.returncode) for one in both]
    codes = sorted(code for _, code in ended)
    assert codes == [0, 2], ended
    (refusal,) = [said for said, code in ended if code]
    assert "run 1 is" in refusal.splitlines()[-1]
    assert any(f"run 1 resumes at step {path.stem.removeprefix('step-')} of 120" in said for said, _ in ended)
    with Store.open(tmp_path / "a.db", mode="read") as store:
        (run,) = store.runs.select()
        assert list(store.curves.read(run.id)[1, "train_loss"].steps) == list(range(1, 121))
        assert store.check() == []


def test_runs_resume_takes_the_newest_checkpoint_that_is_whole(
    vr: Callable[..., Any], whole: list[Any], tmp_path: Path
) -> None:
    db = tmp_path / "a.db"
    interrupt(db, 8, keep_weights="both")
    newest = checkpoints(tmp_path / "a.db-checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:-9])
    done = vr("runs", "resume", "--db", db)
    assert done.code == 0, done.err
    assert f"note: run 1: {newest.name} is torn; the one of step 12 is taken\n" in done.err
    assert "note: run 1 resumes at step 12 of 24\n" in done.err
    assert content(db) == whole


def test_without_a_checkpoint_a_run_begins_again_under_its_number(
    vr: Callable[..., Any], whole: list[Any], tmp_path: Path
) -> None:
    db = tmp_path / "a.db"
    interrupt(db, 8, checkpoint_every="off", keep_weights="both")
    done = vr("run", *VALLEY, "--db", db)
    assert (done.code, "run 1 has no checkpoint and begins again" in done.err) == (0, True)
    assert content(db) == whole


def test_new_begins_another_run(vr: Callable[..., Any], valley: None, tmp_path: Path) -> None:
    interrupt(tmp_path / "a.db", 2)
    done = vr("run", *VALLEY, "--db", tmp_path / "a.db", "--new", "--quiet")
    assert done.out.startswith("run 2 ")
    with Store.open(tmp_path / "a.db", mode="read") as store:
        assert [run.status for run in store.runs.select()] == ["completed", "interrupted"]


def test_a_command_of_several_seeds_goes_on_where_it_was(vr: Callable[..., Any], valley: None, tmp_path: Path) -> None:
    db, words = tmp_path / "a.db", {"seeds": 3}
    interrupt(db, 12 + 5, **words)
    done = vr("run", *VALLEY, "--seeds", 3, "--db", db)
    assert done.code == 0, done.err
    assert "this command was interrupted: 1 ended before and are kept" in done.err
    assert "run 2 resumes at step 9 of 24" in done.err
    with Store.open(db, mode="read") as store:
        runs = store.runs.select()
    assert [(run.id, run.seed, run.status) for run in runs[::-1]] == [
        (1, 0, "completed"), (2, 1, "completed"), (3, 2, "completed"),
    ]  # fmt: skip
    assert len({run.group for run in runs}) == 1
    vrcli.run("valley:Valley", threads=1, epochs=12, seeds=3, db=tmp_path / "b.db", watch=nothing)
    assert content(db) == content(tmp_path / "b.db")


@pytest.mark.parametrize(("before", "now", "goes_on"), [(8, 16, False), (100, 100, True), (100, 32, True)])
def test_a_command_goes_on_with_batches_of_its_own_size(
    before: int, now: int, goes_on: bool, vr: Callable[..., Any], valley: None, tmp_path: Path
) -> None:
    interrupt(tmp_path / "a.db", 12 + 5, seeds=2, batch_size=before)  # 32 samples are all there are
    done = vr("run", *VALLEY, "--seeds", 2, "--batch-size", now, "--db", tmp_path / "a.db")
    assert done.code == 0, done.err
    assert ("1 ended before and are kept" in done.err) is goes_on
    with Store.open(tmp_path / "a.db", mode="read") as store:
        assert len(store.runs.select()) == (2 if goes_on else 4)


@pytest.mark.slow
def test_a_sweep_goes_on_within_its_trial(vr: Callable[..., Any], valley: None, inline: None, tmp_path: Path) -> None:
    def sweep(db: str, watch: Any = nothing) -> Any:
        return vrcli.sweep(
            "valley:Valley", opt="sgd", trials=3, search="random", seeds=2, confirm_seeds=1, epochs=12, threads=1,
            space={"lr": "log:1e-3:1e-2"}, db=tmp_path / db, checkpoint_every="3", watch=watch,
        )  # fmt: skip

    sweep("b.db")
    db = tmp_path / "a.db"
    _sweep_until(db, tmp_path)
    found = sweep("a.db")
    with Store.open(db, mode="read") as store:
        runs = store.runs.select()
        assert {run.status for run in runs} == {"completed"}
        assert len(runs) == 3 * 2 + 1  # the run that was cut off is the one that completed
        assert store.check() == []
    assert found.result.searches[0].best is not None
    assert content(db) == content(tmp_path / "b.db")
    assert not (tmp_path / "a.db-checkpoints").exists()


def _sweep_until(db: Path, tmp_path: Path) -> None:
    """Kill the same sweep in a process of its own once its third run has a checkpoint."""
    code = f"""
import sys, threading, os, time
sys.path[:0] = [{str(PLUGINS)!r}, {str(PLUGINS.parent)!r}]
from functools import partial
from pathlib import Path
from vrcli.execute.place import Place
from vrcli.execute.worker import Worker
from conftest import Inline
import vrcli
from vrcli.execute import checkpoints
Place.executor = lambda self: Inline(partial(Worker, self.database, self.data_dir, False, self.checkpoints))
save, seen = checkpoints.Shelf.save, set()
def saved(self, *words, **more):
    save(self, *words, **more)
    seen.add(self.folder)
    if len(seen) == 3 and words[0] == 9:
        os.kill(os.getpid(), 9)
checkpoints.Shelf.save = saved
vrcli.sweep("valley:Valley", opt="sgd", trials=3, search="random", seeds=2, confirm_seeds=1, epochs=12, threads=1,
            space={{"lr": "log:1e-3:1e-2"}}, db={str(db)!r}, checkpoint_every="3", watch=lambda event: None)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


DIES = """
import os, valley
class Dies(valley.Valley):
    name = "dies"
    def loss(self, model, batch):
        Dies.steps = getattr(Dies, "steps", 0) + os.path.exists("a.db")  # not while it is rehearsed
        if Dies.steps == 8:
            left = int(open("deaths").read())
            if left:
                open("deaths", "w").write(str(left - 1))
                os.kill(os.getpid(), 11)
        return super().loss(model, batch)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("deaths", "state"), [(2, "completed"), (99, "failed")])
def test_a_run_whose_worker_dies_goes_on_twice_at_most(
    launch: Callable[..., Any], tmp_path: Path, deaths: int, state: str
) -> None:
    """Each worker gets six steps on, from one checkpoint to the next but one: three of them finish twenty steps."""
    (tmp_path / "dies.py").write_text(DIES)
    words = ("--epochs", "10", "--trials", "1", "--search", "random", "--threads", "1", "--checkpoint-every", "3")
    (tmp_path / "deaths").write_text(str(deaths))
    process = launch("sweep", "dies:Dies", *words, "--db", "a.db", "--opt", "sgd", "--quiet")
    _, said = process.communicate(timeout=240)
    assert process.returncode == (state == "failed"), said
    with Store.open(tmp_path / "a.db", mode="read") as store:
        (run,) = store.runs.select()
        (trial,) = store.searches.trials(1)
        assert (run.status, trial.state) == (state, state)
        if state == "failed":
            assert run.error == trial.error == "its process died of SIGSEGV (3 times)"
        steps = list(store.curves.read(run.id)[run.id, "train_loss"].steps)
        assert steps == list(range(1, len(steps) + 1))


def test_what_is_refused(vr: Callable[..., Any], valley: None, tmp_path: Path) -> None:
    db = tmp_path / "a.db"
    interrupt(db, 3)
    done = vr("run", *VALLEY, "--db", db, "--tag", "other", "--quiet")  # another command: run 2
    assert done.code == 0
    for words, line in (
        (["2"], "vr: run 2 completed; vr runs rerun 2 trains it again"),
        (["7"], "vr: {} has no run 7; its runs are 1 to 2"),
        (["1", "--checkpoint-every", "0"], "vr: --checkpoint-every takes seconds (60s), steps (500) or off, got 0"),
        (["1", "--checkpoint-dir", db], "vr: --checkpoint-dir {0}: {0} is not a folder"),
    ):  # fmt: skip
        done = vr("runs", "resume", *words, "--db", db)
        assert (done.code, done.err) == (2, line.format(db) + "\n")
    with Store.open(db) as store:
        before = store.runs.get(1)
        spec = {**before.spec, "code": {**before.spec["code"], "task": "old"}}
        with store._database.writing() as connection:
            connection.execute(update(schema.runs).where(schema.runs.c.id == 1).values(spec=json.dumps(spec)))
        done = vr("runs", "resume", "--db", db)
        assert done.code == 2
        assert done.err.startswith("vr: run 1 began with other code: task code old -> ")
        assert done.err.endswith("; vr runs retry 1 begins it again\n")
        with store._database.writing() as connection:
            values = {"spec": before.spec_json, "spec_id": "other", "dataset_fingerprint": "other"}
            connection.execute(update(schema.runs).where(schema.runs.c.id == 1).values(values))
        done = vr("runs", "resume", "--db", db)
        assert done.code == 2
        assert "run 1 began on other data, other and not " in done.err
        assert store.runs.get(1).status == "interrupted"
        assert store.curves.count(1)


def test_rm_and_info_know_the_checkpoints(vr: Callable[..., Any], valley: None, tmp_path: Path) -> None:
    db, elsewhere = tmp_path / "a.db", tmp_path / "elsewhere"
    interrupt(db, 5, checkpoint_dir=elsewhere)
    assert len(checkpoints(elsewhere)) == 2
    facts = json.loads(vr("db", "info", "--db", db, "--format", "json").out)
    assert facts["checkpoints"] == 2
    assert facts["checkpoint_bytes"] == sum(path.stat().st_size for path in checkpoints(elsewhere))
    assert vr("runs", "rm", "1", "--yes", "--db", db).code == 0
    assert checkpoints(elsewhere) == []


def test_a_run_that_was_told_a_folder_is_found_there(vr: Callable[..., Any], whole: list[Any], tmp_path: Path) -> None:
    db, elsewhere = tmp_path / "a.db", tmp_path / "elsewhere"
    interrupt(db, 5, checkpoint_dir=elsewhere, keep_weights="both")
    done = vr("runs", "resume", "--db", db)
    assert "resumes at step 9 of 24" in done.err
    assert content(db) == whole
    assert not (tmp_path / "a.db-checkpoints").exists()
    assert list(elsewhere.iterdir()) == []


def test_who_lost_a_run_writes_nothing_more(valley: None, tmp_path: Path) -> None:
    db, evaluations = tmp_path / "a.db", 0

    def watch(event: Any) -> None:
        nonlocal evaluations
        evaluations += isinstance(event, Eval)
        time.sleep(0.12)  # what comes more quickly is written together
        if isinstance(event, Eval) and evaluations == 5:
            with Store.open(db) as store, store._database.writing() as connection:
                connection.execute(update(schema.runs).values(host="elsewhere"))

    with pytest.raises(LeaseLost, match="run 1 was taken over by process"):
        vrcli.run("valley:Valley", threads=1, epochs=12, db=db, watch=watch)
    with Store.open(db, mode="read") as store:
        run = store.runs.get(1)
        assert (run.status, run.host) == ("running", "elsewhere")
        assert len(store.curves.read(1)[1, "val_loss"]) == 5


def test_weights_are_kept_and_exported(vr: Callable[..., Any], whole: list[Any], tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    done = vr("runs", "export", "--db", tmp_path / "whole.db", "--to", "weights", "-o", tmp_path / "kept")
    assert done.code == 0, done.err
    best, last = sorted(path for path in (tmp_path / "kept").iterdir() if path.suffix == ".safetensors")
    assert (best.suffixes[-2], last.suffixes[-2]) == (".best", ".last")
    found = load_file(best)
    assert {name: tuple(one.shape) for name, one in found.items()} == {"weight": (1, 4), "bias": (1,)}
    assert all(torch.isfinite(one).all() for one in found.values())
    interrupt(tmp_path / "a.db", 2)
    done = vr("runs", "export", "--db", tmp_path / "a.db", "--to", "weights", "-o", tmp_path / "none")
    assert done.code == 2
    assert "none of these runs kept its weights" in done.err
    assert not (tmp_path / "none").exists()
    done = vr("run", *VALLEY, "--keep-weights", "all", "--db", tmp_path / "c.db")
    assert (done.code, done.err) == (2, "vr: --keep-weights takes best, last, both or update, got all\n")
    assert not (tmp_path / "c.db").exists()


def test_an_optimizer_that_cannot_go_on_says_so(vr: Callable[..., Any]) -> None:
    done = vr("opts", "show", "conda")
    assert "no_resume: keeps state that cannot be put back: an interrupted run of it begins again\n" in done.out
