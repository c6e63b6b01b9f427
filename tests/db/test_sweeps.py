"""Sweeps: every trial is done once, whoever is killed, and never more than the budget."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text, update

from db import schema
from db.records import ENDED, SweepRecord
from db.store import Store, StoreError

DEFINITION = {
    "task": "cnn",
    "preset": "quick",
    "dataset": "digits",
    "dataset_fingerprint": "d1",
    "optimizers": ["vradam", "adamw"],
    "spaces": {"vradam": {"lr": "log:1e-5:1e-1"}},
    "search_seed": 0,
}
ROOT = Path(__file__).parents[2]
NOBODY = 2**22 + 1  # a pid that the kernel gives to no process


@pytest.fixture
def sweep(store: Store) -> SweepRecord:
    return store.sweeps.create(DEFINITION, key="k1", trials=3)


def _set(store: Store, table: str, id: int, **values: object) -> None:
    target = schema.metadata.tables[table]
    with store._database.writing() as connection:
        connection.execute(update(target).where(target.c.id == id).values(**values))


def test_a_sweep_is_found_by_its_definition_number_and_name(store: Store, sweep: SweepRecord) -> None:
    assert (
        store.sweeps.find("k1")
        == store.sweeps.get(sweep.id)
        == store.sweeps.get(sweep.name)
        == store.sweeps.get(str(sweep.id))
        == sweep
    )
    assert store.sweeps.find("k2") is None
    assert sweep.settings == DEFINITION
    assert (sweep.status, sweep.task, sweep.preset, sweep.dataset, sweep.trials) == (
        "running",
        "cnn",
        "quick",
        "digits",
        3,
    )
    other = store.sweeps.create({**DEFINITION, "task": "diffusion"}, key="k2", trials=1)
    assert store.sweeps.select() == [other, sweep]
    assert store.sweeps.select(task="cnn", status=["running", "completed"]) == [sweep]
    assert store.sweeps.select(limit=1) == [other]
    with pytest.raises(StoreError, match=f"has this sweep already: {sweep.name}"):
        store.sweeps.create(DEFINITION, key="k1", trials=3)
    for unknown in ("no-such-sweep", 99, "99", 2**70):
        with pytest.raises(StoreError, match=f"has no sweep {unknown}"):
            store.sweeps.get(unknown)
    with pytest.raises(StoreError, match=f"did you mean {sweep.name}"):
        store.sweeps.get(f"{sweep.name}x")


def test_trials_are_numbered_for_each_optimizer_up_to_the_budget(store: Store, sweep: SweepRecord) -> None:
    for n in range(3):
        for optimizer in ("vradam", "adamw"):
            trial = store.sweeps.add_trial(
                sweep.id, optimizer, {"lr": 10.0**-n, "nested": [n], "flag": True, "name": "x"}
            )
            assert (trial.number, trial.optimizer, trial.state, trial.attempt) == (n, optimizer, "pending", 0)
            assert trial.params == {"lr": 10.0**-n, "nested": [n], "flag": True, "name": "x"}
            assert (trial.value, trial.run_id, trial.started_at, trial.host) == (None, None, None, None)
    with pytest.raises(StoreError, match="has all of its 3 trials of vradam"):
        store.sweeps.add_trial(sweep.id, "vradam", {})
    assert [trial.number for trial in store.sweeps.trials(sweep.id, optimizer="vradam")] == [0, 1, 2]
    assert len(store.sweeps.trials(sweep.id)) == len(store.sweeps.trials(sweep.id, state=("pending", "running"))) == 6
    with pytest.raises(StoreError, match="which cannot become 2"):
        store.sweeps.resume(sweep.id, trials=2)
    assert store.sweeps.resume(sweep.id, trials=4).trials == 4
    assert store.sweeps.add_trial(sweep.id, "vradam", {}).number == 3
    with pytest.raises(StoreError, match="has no sweep 99"):
        store.sweeps.add_trial(99, "vradam", {})
    with pytest.raises(StoreError, match="the trial cannot be stored as JSON"):
        store.sweeps.add_trial(sweep.id, "adamw", {"lr": math.nan})


@pytest.mark.parametrize("state", ENDED)
@pytest.mark.parametrize("value", [0.25, math.nan, math.inf, -math.inf, None])
def test_a_trial_goes_from_pending_to_its_end(
    store: Store, sweep: SweepRecord, state: str, value: float | None
) -> None:
    trial = store.sweeps.add_trial(sweep.id, "vradam", {"lr": 0.1})
    with pytest.raises(StoreError, match="trial 0 of vradam is pending, not running"):
        store.sweeps.finish_trial(trial.id, state)
    started = store.sweeps.start_trial(trial.id)
    assert (started.state, started.attempt) == ("running", 1)
    assert started.pid is not None
    with pytest.raises(StoreError, match="trial 0 of vradam is running, not pending"):
        store.sweeps.start_trial(trial.id)
    ended = store.sweeps.finish_trial(trial.id, state, value=value, epochs=7, error="why")
    assert (ended.state, ended.epochs, ended.error) == (state, 7, "why")
    assert repr(ended.value) == repr(value)
    assert repr(store.sweeps.trials(sweep.id)[0].value) == repr(value)
    assert ended.finished_at is not None
    with pytest.raises(StoreError, match=f"is {state}, not running"):
        store.sweeps.finish_trial(trial.id, "completed", value=0.0)
    assert store.sweeps.get(sweep.id).updated_at > sweep.updated_at


def test_unknown_states_are_refused(store: Store, sweep: SweepRecord) -> None:
    trial = store.sweeps.start_trial(store.sweeps.add_trial(sweep.id, "vradam", {}).id)
    with pytest.raises(StoreError, match="'pending' is no way for a trial to end"):
        store.sweeps.finish_trial(trial.id, "pending")
    with pytest.raises(StoreError, match="'paused' is no status of a sweep"):
        store.sweeps.set_status(sweep.id, "paused")
    for change in (store.sweeps.start_trial, store.sweeps.trial, lambda id: store.sweeps.finish_trial(id, "completed")):
        with pytest.raises(StoreError, match="has no trial 99"):
            change(99)
    assert store.sweeps.set_status(sweep.id, "completed").status == "completed"


def _run(store: Store, **link: int) -> int:
    return store.runs.begin({"task": "cnn", "optimizer": "vradam"}, spec_id="s", provenance={}, **link).id


def test_runs_know_their_trial_and_sweep(store: Store, sweep: SweepRecord) -> None:
    trial = store.sweeps.start_trial(store.sweeps.add_trial(sweep.id, "vradam", {}).id)
    first = _run(store, trial_id=trial.id)
    second = _run(store, trial_id=trial.id)
    confirmation = _run(store, sweep_id=sweep.id)
    alone = _run(store)
    assert store.sweeps.trial(trial.id).run_id == second
    assert (store.runs.get(first).sweep_id, store.runs.get(first).trial_id) == (sweep.id, trial.id)
    for ref in (sweep.id, sweep.name, str(sweep.id), [sweep.id, "none"]):
        assert [run.id for run in store.runs.select(sweep=ref)] == [confirmation, second, first]
    assert store.runs.select(sweep="none") == store.runs.select(sweep=99) == []
    assert store.runs.get(alone).sweep_id is None
    with pytest.raises(StoreError, match="has no trial 99"):
        _run(store, trial_id=99)
    with pytest.raises(StoreError, match="has no sweep 99"):
        _run(store, sweep_id=99)
    store.runs.finish(second, "completed")
    store.runs.delete(second)
    assert store.sweeps.trial(trial.id).run_id == first
    with store._database.engine.connect() as connection:
        rows = connection.execute(text("SELECT sweep, number, state, run_id FROM v_trials")).all()
        assert [tuple(row) for row in rows] == [(sweep.name, 0, "running", first)]


def test_only_trials_of_the_dead_are_reclaimed_with_their_points(store: Store, sweep: SweepRecord) -> None:
    store.sweeps.resume(sweep.id, trials=6)
    trials = [store.sweeps.start_trial(store.sweeps.add_trial(sweep.id, "vradam", {"n": n}).id) for n in range(5)]
    alive, dead, driven, done, stopped = trials
    pending = store.sweeps.add_trial(sweep.id, "vradam", {"n": 5})
    _set(store, "trials", dead.id, pid=NOBODY)
    _run(store, trial_id=driven.id)
    _set(store, "trials", driven.id, pid=NOBODY)  # the process that started it is gone, but its worker trains on
    lost = _run(store, trial_id=dead.id)
    _set(store, "runs", lost, pid=NOBODY)
    store.sweeps.finish_trial(done.id, "completed", value=0.5)
    store.sweeps.finish_trial(stopped.id, "interrupted", error="Ctrl-C")
    reclaimed = store.sweeps.reclaim_trials(sweep.id)
    assert [trial.id for trial in reclaimed] == [dead.id, stopped.id]
    assert all((trial.state, trial.error, trial.finished_at) == ("pending", None, None) for trial in reclaimed)
    assert [trial.params for trial in reclaimed] == [dead.params, stopped.params]
    assert store.runs.get(lost).status == "interrupted"
    states = {trial.id: trial.state for trial in store.sweeps.trials(sweep.id)}
    assert [states[trial.id] for trial in (alive, driven, done, pending)] == [
        "running",
        "running",
        "completed",
        "pending",
    ]
    assert store.sweeps.reclaim_trials() == []
    again = store.sweeps.start_trial(dead.id)
    assert (again.number, again.params, again.attempt) == (dead.number, dead.params, 2)


def test_a_silent_trial_elsewhere_is_reclaimed_after_hours_only(store: Store, sweep: SweepRecord) -> None:
    trial = store.sweeps.start_trial(store.sweeps.add_trial(sweep.id, "vradam", {}).id)
    _set(store, "trials", trial.id, host="elsewhere", heartbeat_at=datetime.now(UTC) - timedelta(hours=5))
    assert store.sweeps.reclaim_trials(sweep.id) == []
    _set(store, "trials", trial.id, heartbeat_at=datetime.now(UTC) - timedelta(hours=7))
    run = _run(store, trial_id=trial.id)
    _set(store, "runs", run, host="elsewhere")
    assert store.sweeps.reclaim_trials(sweep.id) == []  # its run was heard just now
    store.runs.finish(run, "completed")
    assert [found.id for found in store.sweeps.reclaim_trials(sweep.id)] == [trial.id]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # processes are the same to every database
def test_a_sweep_has_one_living_driver(store: Store, sweep: SweepRecord, url: str) -> None:
    take_over = f"""
import sys
from db.store import Store, StoreError
with Store.open(sys.argv[1]) as store:
    try:
        store.sweeps.resume({sweep.id})
    except StoreError as error:
        sys.exit(str(error))"""
    command = [sys.executable, "-c", take_over, url]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"sweep {sweep.name} is being run by process {sweep.pid} on {sweep.host}" in refused.stderr
    store.sweeps.set_status(sweep.id, "interrupted")
    subprocess.run(command, cwd=ROOT, check=True)
    assert store.sweeps.get(sweep.id).pid != sweep.pid
    assert store.sweeps.get(sweep.id).status == "running"
    store.sweeps.mark_interrupted()  # the other process has ended without saying so
    assert store.sweeps.get(sweep.id).status == "interrupted"
    mine = store.sweeps.resume(sweep.id)
    assert (mine.pid, mine.status) == (sweep.pid, "running")
    store.sweeps.heartbeat(sweep.id)
    assert store.sweeps.get(sweep.id).updated_at > mine.updated_at
    assert replace(store.sweeps.get(sweep.id), updated_at=mine.updated_at) == mine


_WORKER = """
import sys
from db.store import Store, StoreError
url, sweep_id = sys.argv[1], int(sys.argv[2])
with Store.open(url) as store:
    while True:
        try:
            trial = store.sweeps.add_trial(sweep_id, "vradam", {"worker": sys.argv[3]})
        except StoreError:
            break
        for _ in range(2):
            pending = store.sweeps.trials(sweep_id, state="pending")
            if pending:
                try:
                    mine = store.sweeps.start_trial(pending[0].id)
                except StoreError:
                    continue
                print(mine.number, flush=True)
                store.sweeps.finish_trial(mine.id, "completed", value=mine.number / 2)
"""


def test_processes_share_a_sweep_without_losing_or_repeating_a_trial(url: str) -> None:
    with Store.open(url) as store:
        sweep = store.sweeps.create(DEFINITION, key="k1", trials=30)
        command = [sys.executable, "-c", _WORKER, url, str(sweep.id)]
        workers = [subprocess.Popen([*command, str(n)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for n in range(2)]
        done = [int(number) for worker in workers for number in worker.communicate(timeout=120)[0].split()]
        assert all(worker.returncode == 0 for worker in workers)
        trials = store.sweeps.trials(sweep.id)
        assert [trial.number for trial in trials] == list(range(30))
        assert len(done) == len(set(done))
        completed = [trial for trial in trials if trial.state == "completed"]
        assert sorted(done) == [trial.number for trial in completed]
        assert all(trial.attempt == 1 and trial.value == trial.number / 2 for trial in completed)


_DRIVER = """
import sys, time
from db.store import Store
url, sweep_id = sys.argv[1], int(sys.argv[2])
with Store.open(url) as store:
    store.sweeps.resume(sweep_id)
    store.sweeps.reclaim_trials(sweep_id)
    done = len(store.sweeps.trials(sweep_id, state="completed"))
    while done < 12:
        pending = store.sweeps.trials(sweep_id, state="pending")
        place = {"place": len(store.sweeps.trials(sweep_id))}
        trial = pending[0] if pending else store.sweeps.add_trial(sweep_id, "vradam", place)
        store.sweeps.start_trial(trial.id)
        run = store.runs.begin({"task": "cnn", "optimizer": "vradam"}, spec_id="s", provenance={}, trial_id=trial.id)
        time.sleep(0.02)
        store.runs.finish(run.id, "completed", results={"best_val_loss": trial.params["place"]})
        store.sweeps.finish_trial(trial.id, "completed", value=trial.params["place"])
        done += 1
        print(done, flush=True)
    store.sweeps.set_status(sweep_id, "completed")
"""


def test_a_sweep_that_is_killed_again_and_again_ends_whole(url: str) -> None:
    with Store.open(url) as store:
        sweep = store.sweeps.create(DEFINITION, key="k1", trials=12)
        store.sweeps.set_status(sweep.id, "interrupted")
        for kill_after in (1, 3, None):
            command = [sys.executable, "-c", _DRIVER, url, str(sweep.id)]
            driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            assert driver.stdout is not None
            for _ in range(kill_after or 0):
                driver.stdout.readline()
            if kill_after:
                driver.kill()
            driver.communicate(timeout=120)
        assert driver.returncode == 0
        trials = store.sweeps.trials(sweep.id)
        assert [(trial.number, trial.state, trial.value) for trial in trials] == [
            (n, "completed", n) for n in range(12)
        ]
        runs = store.runs.select(sweep=sweep.id, status="completed")
        assert {run.trial_id for run in runs} == {trial.id for trial in trials}
        assert {trial.run_id for trial in trials} <= {run.id for run in runs}
        assert store.sweeps.get(sweep.id).status == "completed"


def test_runs_made_for_sweeps_are_listed_with_what_they_were(store: Store, sweep: SweepRecord) -> None:
    trial = store.sweeps.start_trial(store.sweeps.add_trial(sweep.id, "vradam", {"lr": 0.1}).id)
    spec = {"task": "cnn", "optimizer": "vradam", "seed": 0}
    store.runs.begin(spec, spec_id="a", provenance={}, trial_id=trial.id)
    fresh = store.runs.begin({**spec, "seed": 1}, spec_id="b", provenance={}, sweep_id=sweep.id)
    store.runs.finish(fresh.id, "failed", error="no luck")
    store.runs.begin({**spec, "seed": 2}, spec_id="c", provenance={})
    found = store.runs.searched()
    assert [row[:5] for row in found] == [
        (sweep.id, "vradam", trial.id, "running", "a"),
        (sweep.id, "vradam", None, "failed", "b"),
    ]
    assert found[1][5] == fresh.created_at
