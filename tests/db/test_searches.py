"""Sweeps: every trial is done once, whoever is killed, and never more than the budget."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text, update

from vrcli.db import schema
from vrcli.db.errors import LeaseLost
from vrcli.db.records import ENDED_TRIALS, SearchRecord
from vrcli.db.store import Store, StoreError

DEFINITION = {
    "task": "cnn",
    "preset": "quick",
    "dataset": "digits",
    "dataset_fingerprint": "d1",
    "optimizer": "vradam",
    "spaces": {"vradam": {"lr": "log:1e-5:1e-1"}},
    "search_seed": 0,
}
ROOT = Path(__file__).parents[2]
NOBODY = 2**22 + 1  # a pid that the kernel gives to no process


@pytest.fixture
def sweep(store: Store) -> SearchRecord:
    return store.searches.create(DEFINITION, key="k1", trials=3)


def _set(store: Store, table: str, id: int, **values: object) -> None:
    target = schema.metadata.tables[table]
    with store._database.writing() as connection:
        connection.execute(update(target).where(target.c.id == id).values(**values))


def test_a_search_knows_its_direction_as_the_views_do(store: Store, sweep: SearchRecord) -> None:
    assert sweep.direction == "min"
    _set(store, "searches", sweep.id, direction="max")
    assert store.searches.get(sweep.id).direction == "max"


def test_a_search_is_found_by_its_definition_and_number(store: Store, sweep: SearchRecord) -> None:
    assert store.searches.find("k1") == store.searches.get(sweep.id) == sweep
    assert store.searches.find("k2") is None
    assert sweep.settings == DEFINITION
    assert (sweep.status, sweep.task, sweep.preset, sweep.dataset, sweep.trials) == (
        "running",
        "cnn",
        "quick",
        "digits",
        3,
    )
    other = store.searches.create({**DEFINITION, "task": "diffusion"}, key="k2", trials=1)
    assert store.searches.select() == [other, sweep]
    assert store.searches.select(task="cnn", status=["running", "completed"]) == [sweep]
    assert store.searches.select(limit=1) == [other]
    with pytest.raises(StoreError, match=f"has this search already: {sweep.name}"):
        store.searches.create(DEFINITION, key="k1", trials=3)
    for unknown in (99, 2**70):
        with pytest.raises(StoreError, match=f"has no search {unknown}"):
            store.searches.get(unknown)


def test_a_sweep_is_found_by_number_name_and_what_its_searches_share(store: Store, sweep: SearchRecord) -> None:
    own = store.sweeps.get(sweep.sweep_id)
    assert (own.name, own.shared_key, own.task, own.dataset_fingerprint) == (sweep.name, None, "cnn", "d1")
    shared = store.sweeps.create(DEFINITION, shared_key="s1")
    adamw = {**DEFINITION, "optimizer": "adamw", "search_seed": 1}
    members = [store.searches.create({**adamw, "n": n}, key=f"a{n}", trials=2, sweep_id=shared.id) for n in range(2)]
    assert {(m.sweep_id, m.name, m.optimizer, m.search_seed) for m in members} == {(shared.id, shared.name, "adamw", 1)}
    assert store.searches.select(sweep=shared.id) == members[::-1]
    assert store.sweeps.get(str(shared.id)) == store.sweeps.get(shared.name) == shared
    assert store.sweeps.select(shared_key="s1") == [shared]
    assert store.sweeps.select(task="cnn") == [shared, own]
    for unknown in ("no-such-sweep", 99, "99", 2**70):
        with pytest.raises(StoreError, match=f"has no sweep {unknown}"):
            store.sweeps.get(unknown)
    with pytest.raises(StoreError, match=f"did you mean {sweep.name}"):
        store.sweeps.get(f"{sweep.name}x")
    with pytest.raises(StoreError, match="has no sweep 99"):
        store.searches.create({**adamw, "n": 2}, key="a2", trials=2, sweep_id=99)


def test_trials_are_numbered_up_to_the_budget(store: Store, sweep: SearchRecord) -> None:
    other = store.searches.create({**DEFINITION, "optimizer": "adamw"}, key="k2", trials=3, sweep_id=sweep.sweep_id)
    for n in range(3):
        for search in (sweep, other):
            trial = store.searches.add_trial(search.id, {"lr": 10.0**-n, "nested": [n], "flag": True, "name": "x"})
            found = (trial.number, trial.optimizer, trial.sweep_id, trial.state, trial.attempt)
            assert found == (n, search.optimizer, sweep.sweep_id, "pending", 0)
            assert trial.params == {"lr": 10.0**-n, "nested": [n], "flag": True, "name": "x"}
            assert (trial.value, trial.run_id, trial.started_at, trial.host) == (None, None, None, None)
    with pytest.raises(StoreError, match="has all of its 3 trials of vradam"):
        store.searches.add_trial(sweep.id, {})
    assert [trial.number for trial in store.searches.trials(sweep.id)] == [0, 1, 2]
    assert len(store.searches.trials(other.id, state=("pending", "running"))) == 3
    with pytest.raises(StoreError, match="which cannot become 2"):
        store.searches.resume(sweep.id, trials=2)
    assert [one.trials for one in store.searches.resume(sweep.id, trials=4)] == [4]
    assert store.searches.add_trial(sweep.id, {}).number == 3
    with pytest.raises(StoreError, match="has no search 99"):
        store.searches.add_trial(99, {})
    with pytest.raises(StoreError, match="the trial cannot be stored as JSON"):
        store.searches.add_trial(sweep.id, {"lr": math.nan})


@pytest.mark.parametrize("state", ENDED_TRIALS)
@pytest.mark.parametrize("value", [0.25, math.nan, math.inf, -math.inf, None])
def test_a_trial_goes_from_pending_to_its_end(
    store: Store, sweep: SearchRecord, state: str, value: float | None
) -> None:
    trial = store.searches.add_trial(sweep.id, {"lr": 0.1})
    with pytest.raises(StoreError, match="trial 0 of vradam is pending, not running"):
        store.searches.finish_trial(trial.id, state)
    started = store.searches.start_trial(trial.id)
    assert (started.state, started.attempt) == ("running", 1)
    assert started.pid is not None
    with pytest.raises(StoreError, match="trial 0 of vradam is running, not pending"):
        store.searches.start_trial(trial.id)
    ended = store.searches.finish_trial(trial.id, state, value=value, epochs=7, error="why")
    assert (ended.state, ended.epochs, ended.error) == (state, 7, "why")
    assert repr(ended.value) == repr(value)
    assert repr(store.searches.trials(sweep.id)[0].value) == repr(value)
    assert ended.finished_at is not None
    with pytest.raises(StoreError, match=f"is {state}, not running"):
        store.searches.finish_trial(trial.id, "completed", value=0.0)
    assert store.searches.get(sweep.id).updated_at > sweep.updated_at


def test_unknown_states_are_refused(store: Store, sweep: SearchRecord) -> None:
    trial = store.searches.start_trial(store.searches.add_trial(sweep.id, {}).id)
    with pytest.raises(StoreError, match="'pending' is not a way for a trial to end"):
        store.searches.finish_trial(trial.id, "pending")
    with pytest.raises(StoreError, match="'paused' is not a status of a search"):
        store.searches.set_status(sweep.id, "paused")
    for change in (
        store.searches.start_trial,
        store.searches.trial,
        lambda id: store.searches.finish_trial(id, "completed"),
    ):
        with pytest.raises(StoreError, match="has no trial 99"):
            change(99)
    assert store.searches.set_status(sweep.id, "completed").status == "completed"


def _run(store: Store, **link: int) -> int:
    return store.runs.begin({"task": "cnn", "optimizer": "vradam"}, spec_id="s", provenance={}, **link).id


def test_runs_know_their_trial_and_sweep(store: Store, sweep: SearchRecord) -> None:
    trial = store.searches.start_trial(store.searches.add_trial(sweep.id, {}).id)
    first = _run(store, trial_id=trial.id)
    second = _run(store, trial_id=trial.id)
    confirmation = _run(store, search_id=sweep.id)
    alone = _run(store)
    assert store.searches.trial(trial.id).run_id == second
    made = store.runs.get(first)
    assert (made.sweep_id, made.search_id, made.trial_id) == (sweep.sweep_id, sweep.id, trial.id)
    assert [run.id for run in store.runs.select(search=sweep.id)] == [confirmation, second, first]
    for ref in (sweep.id, sweep.name, str(sweep.id), [sweep.id, "none"]):
        assert [run.id for run in store.runs.select(sweep=ref)] == [confirmation, second, first]
    assert store.runs.select(sweep="none") == store.runs.select(sweep=99) == []
    assert store.runs.get(alone).sweep_id is None
    with pytest.raises(StoreError, match="has no trial 99"):
        _run(store, trial_id=99)
    with pytest.raises(StoreError, match="has no search 99"):
        _run(store, search_id=99)
    store.runs.finish(second, "completed")
    store.runs.delete(second)
    assert store.searches.trial(trial.id).run_id == first
    with store._database.engine.connect() as connection:
        rows = connection.execute(text("SELECT sweep, number, state, run_id FROM v_trials")).all()
        assert [tuple(row) for row in rows] == [(sweep.name, 0, "running", first)]


def test_only_trials_of_the_dead_are_reclaimed_with_their_points(store: Store, sweep: SearchRecord) -> None:
    store.searches.resume(sweep.id, trials=6)
    trials = [store.searches.start_trial(store.searches.add_trial(sweep.id, {"n": n}).id) for n in range(5)]
    alive, dead, driven, done, stopped = trials
    pending = store.searches.add_trial(sweep.id, {"n": 5})
    _set(store, "trials", dead.id, pid=NOBODY)
    _run(store, trial_id=driven.id)
    _set(store, "trials", driven.id, pid=NOBODY)  # the process that started it is gone, but its worker trains on
    lost = _run(store, trial_id=dead.id)
    _set(store, "runs", lost, pid=NOBODY)
    store.searches.finish_trial(done.id, "completed", value=0.5)
    store.searches.finish_trial(stopped.id, "interrupted", error="Ctrl-C")
    reclaimed = store.searches.reclaim_trials(sweep.id)
    assert [trial.id for trial in reclaimed] == [dead.id, stopped.id]
    assert all((trial.state, trial.error, trial.finished_at) == ("pending", None, None) for trial in reclaimed)
    assert [trial.params for trial in reclaimed] == [dead.params, stopped.params]
    assert store.runs.get(lost).status == "interrupted"
    states = {trial.id: trial.state for trial in store.searches.trials(sweep.id)}
    assert [states[trial.id] for trial in (alive, driven, done, pending)] == [
        "running",
        "running",
        "completed",
        "pending",
    ]
    assert store.searches.reclaim_trials() == []
    again = store.searches.start_trial(dead.id)
    assert (again.number, again.params, again.attempt) == (dead.number, dead.params, 2)


def test_a_silent_trial_elsewhere_is_reclaimed_when_its_lease_is_over(store: Store, sweep: SearchRecord) -> None:
    trial = store.searches.start_trial(store.searches.add_trial(sweep.id, {}).id)
    _set(store, "trials", trial.id, host="elsewhere", heartbeat_at=datetime.now(UTC) - timedelta(seconds=50))
    assert store.searches.reclaim_trials(sweep.id) == []
    _set(store, "trials", trial.id, heartbeat_at=datetime.now(UTC) - timedelta(seconds=70))
    run, here = _run(store, trial_id=trial.id), socket.gethostname()
    _set(store, "runs", run, host="elsewhere")
    assert store.searches.reclaim_trials(sweep.id) == []  # its run was heard just now
    with pytest.raises(LeaseLost, match="taken over by process"):
        store.searches.finish_trial(trial.id, "completed", value=1.0)
    with pytest.raises(LeaseLost, match="taken over by process"):
        store.runs.finish(run, "completed")
    _set(store, "runs", run, host=here)
    store.runs.finish(run, "completed")
    assert [found.id for found in store.searches.reclaim_trials(sweep.id)] == [trial.id]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # processes are the same to every database
def test_a_sweep_has_one_living_driver(store: Store, sweep: SearchRecord, url: str) -> None:
    take_over = f"""
import sys
from vrcli.db.store import Store, StoreError
with Store.open(sys.argv[1]) as store:
    try:
        store.searches.resume({sweep.id})
    except StoreError as error:
        sys.exit(str(error))"""
    command = [sys.executable, "-c", take_over, url]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"sweep {sweep.name} is being run by process {sweep.pid} on {sweep.host}" in refused.stderr
    first = store.searches.create({**DEFINITION, "optimizer": "adamw"}, key="k2", trials=3)
    store.searches.set_status(first.id, "completed")
    both = take_over.replace(f"resume({sweep.id})", f"resume({first.id}, {sweep.id}, trials=9)")
    refused = subprocess.run([*command[:2], both, url], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "is being run by" in refused.stderr
    assert (store.searches.get(first.id).status, store.searches.get(first.id).trials) == ("completed", 3)
    store.searches.set_status(sweep.id, "interrupted")
    subprocess.run(command, cwd=ROOT, check=True)
    assert store.searches.get(sweep.id).pid != sweep.pid
    assert store.searches.get(sweep.id).status == "running"
    store.searches.mark_interrupted()  # the other process has ended without saying so
    assert store.searches.get(sweep.id).status == "interrupted"
    (mine,) = store.searches.resume(sweep.id)
    assert (mine.pid, mine.status) == (sweep.pid, "running")
    store.searches.heartbeat(sweep.id)
    assert store.searches.get(sweep.id).updated_at > mine.updated_at
    assert replace(store.searches.get(sweep.id), updated_at=mine.updated_at) == mine


_WORKER = """
import sys
from vrcli.db.store import Store, StoreError
url, sweep_id = sys.argv[1], int(sys.argv[2])
with Store.open(url) as store:
    while pending := store.searches.trials(sweep_id, state="pending"):
        try:
            mine = store.searches.start_trial(pending[0].id)
        except StoreError:
            continue
        print(mine.number, flush=True)
        store.searches.finish_trial(mine.id, "completed", value=mine.number / 2)
"""


def test_processes_share_a_sweep_without_losing_or_repeating_a_trial(url: str) -> None:
    with Store.open(url) as store:
        sweep = store.searches.create(DEFINITION, key="k1", trials=30)
        for number in range(30):
            store.searches.add_trial(sweep.id, {"place": number})
        command = [sys.executable, "-c", _WORKER, url, str(sweep.id)]
        workers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        done = [int(number) for worker in workers for number in worker.communicate(timeout=120)[0].split()]
        assert all(worker.returncode == 0 for worker in workers)
        assert sorted(done) == list(range(30))
        trials = store.searches.trials(sweep.id)
        assert [trial.number for trial in trials] == list(range(30))
        assert all((trial.state, trial.attempt, trial.value) == ("completed", 1, trial.number / 2) for trial in trials)


def test_only_the_process_that_runs_a_search_adds_to_it(url: str) -> None:
    adding = (
        "import sys; from vrcli.db.store import Store\n"
        "with Store.open(sys.argv[1]) as store: store.searches.add_trial(int(sys.argv[2]), {})"
    )
    with Store.open(url) as store:
        sweep = store.searches.create(DEFINITION, key="k1", trials=30)
        command = [sys.executable, "-c", adding, url, str(sweep.id)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "taken over by process" in done.stderr
        assert store.searches.trials(sweep.id) == []


_DRIVER = """
import sys, time
from vrcli.db.store import Store
url, sweep_id = sys.argv[1], int(sys.argv[2])
with Store.open(url) as store:
    store.searches.resume(sweep_id)
    store.searches.reclaim_trials(sweep_id)
    done = len(store.searches.trials(sweep_id, state="completed"))
    while done < 12:
        pending = store.searches.trials(sweep_id, state="pending")
        place = {"place": len(store.searches.trials(sweep_id))}
        trial = pending[0] if pending else store.searches.add_trial(sweep_id, place)
        store.searches.start_trial(trial.id)
        run = store.runs.begin({"task": "cnn", "optimizer": "vradam"}, spec_id="s", provenance={}, trial_id=trial.id)
        time.sleep(0.02)
        store.runs.finish(run.id, "completed", results={"best_val_loss": trial.params["place"]})
        store.searches.finish_trial(trial.id, "completed", value=trial.params["place"])
        done += 1
        print(done, flush=True)
    store.searches.set_status(sweep_id, "completed")
"""


def test_a_sweep_that_is_killed_again_and_again_ends_whole(url: str) -> None:
    with Store.open(url) as store:
        sweep = store.searches.create(DEFINITION, key="k1", trials=12)
        store.searches.set_status(sweep.id, "interrupted")
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
        trials = store.searches.trials(sweep.id)
        assert [(trial.number, trial.state, trial.value) for trial in trials] == [
            (n, "completed", n) for n in range(12)
        ]
        runs = store.runs.select(sweep=sweep.id, status="completed")
        assert {run.trial_id for run in runs} == {trial.id for trial in trials}
        assert {trial.run_id for trial in trials} <= {run.id for run in runs}
        assert store.searches.get(sweep.id).status == "completed"


def test_runs_made_for_sweeps_are_listed_with_what_they_were(store: Store, sweep: SearchRecord) -> None:
    trial = store.searches.start_trial(store.searches.add_trial(sweep.id, {"lr": 0.1}).id)
    spec = {"task": "cnn", "optimizer": "vradam", "seed": 0}
    store.runs.begin(spec, spec_id="a", provenance={}, trial_id=trial.id)
    fresh = store.runs.begin({**spec, "seed": 1}, spec_id="b", provenance={}, search_id=sweep.id)
    store.runs.finish(fresh.id, "failed", error="no luck")
    store.runs.begin({**spec, "seed": 2}, spec_id="c", provenance={})
    found = store.runs.searched()
    assert [row[:5] for row in found] == [(sweep.id, trial.id, 0, "running", "a"), (sweep.id, None, 1, "failed", "b")]
    assert found[1][5] == fresh.created_at
