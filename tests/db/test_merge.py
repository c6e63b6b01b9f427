"""Merging brings everything of another database in, once, and changes nothing that is here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vrcli.db.records import RunRecord
from vrcli.db.store import Store, StoreError

Begin = Callable[..., RunRecord]
_OWN = ("id", "name", "sweep_id", "search_id", "trial_id", "results")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    """Another machine's database."""
    with Store.open(tmp_path / "other.db") as opened:
        yield opened


def _run(store: Store, status: str = "completed", *, seed: int = 0, **link: int) -> RunRecord:
    """A run with curves, artifacts and results that its seed decides."""
    spec = {"task": "cnn", "optimizer": "vradam", "seed": seed}
    run = store.runs.begin(spec, spec_id=f"s{seed}", provenance={"host": "lab"}, tag="t", group="g", **link)
    store.curves.add(run.id, {f"only_{seed}": ([1], [seed]), "loss": ([1, 2, 3], [seed, math.nan, math.inf])})
    store.artifacts.add(run.id, "grid", bytes([seed]), media_type="image/png", step=3)
    if status == "running":
        return run
    return store.runs.finish(run.id, status, results={"best_val_loss": seed / 2, "test_loss": math.nan}, error="e")


def _assert_same(here: Store, run: RunRecord, there: Store, original: RunRecord) -> None:
    own = dict.fromkeys(_OWN)
    assert replace(run, **own) == replace(original, **own)  # type: ignore[arg-type]
    assert str(run.results) == str(original.results)
    assert {metric: str(curve.values) for (_, metric), curve in here.curves.read(run.id).items()} == {
        metric: str(curve.values) for (_, metric), curve in there.curves.read(original.id).items()
    }
    assert [replace(kept, run_id=0) for kept in here.artifacts.select(run.id)] == [
        replace(kept, run_id=0) for kept in there.artifacts.select(original.id)
    ]
    assert here.artifacts.read(run.id, "grid") == there.artifacts.read(original.id, "grid")


def test_everything_comes_in_once(store: Store, other: Store) -> None:
    mine = _run(store, seed=9)
    theirs = [
        _run(other, status, seed=n) for n, status in enumerate(("completed", "diverged", "failed", "interrupted"))
    ]
    report = store.merge(other)
    assert len(report.added) == 4
    assert (report.updated, report.known, report.running, report.repeated, report.points) == ((), 0, 0, (), 16)
    assert [run.id for run in store.runs.select()] == [*report.added[::-1], mine.id]
    for id, original in zip(report.added, theirs, strict=True):
        _assert_same(store, store.runs.get(id), other, original)
    _assert_same(store, store.runs.get(mine.id), store, mine)
    again = store.merge(other)
    assert (again.added, again.known, again.points) == ((), 4, 0)
    assert store.check() == []
    back = other.merge(store)
    assert (len(back.added), back.known) == (1, 4)
    assert len(other.runs.select()) == 5


def test_names_are_kept_where_they_are_free(store: Store, other: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrcli.db.names.propose", lambda attempt: "keen-otter")
    _run(store, seed=1)
    _run(other, seed=2)
    offered = iter(["brave-lynx"])
    monkeypatch.setattr("vrcli.db.names.propose", lambda attempt: next(offered))
    (added,) = store.merge(other).added
    assert store.runs.get(added).name == "brave-lynx"
    assert store.runs.get("keen-otter").seed == 1


def test_a_repeated_configuration_is_brought_in_and_said(store: Store, other: Store) -> None:
    _run(store, seed=1)
    _run(other, seed=1)
    _run(other, seed=2)
    report = store.merge(other)
    assert len(report.added) == 2
    assert report.repeated == report.added[:1]


def test_only_chosen_runs_come_in(store: Store, other: Store) -> None:
    runs = [_run(other, seed=seed) for seed in range(3)]
    report = store.merge(other, ids=[runs[1].id])
    assert [store.runs.get(id).seed for id in report.added] == [1]
    assert store.merge(other).known == 1


def test_a_running_run_comes_in_when_it_has_ended(store: Store, other: Store) -> None:
    run = _run(other, "running", seed=3)
    assert store.merge(other).running == 1
    assert store.runs.select() == []
    other.runs.finish(run.id, "interrupted")
    (added,) = store.merge(other).added
    other.runs.resume(run.id, step=1)
    other.curves.add(run.id, {"loss": ([2, 3, 4], [0.5, 0.4, 0.3])})
    original = other.runs.finish(run.id, "completed", results={"best_val_loss": 0.3})
    report = store.merge(other)
    assert (report.updated, report.added, report.points) == ((added,), (), 5)
    assert store.runs.get(added).status == "completed"
    assert store.curves.read(added)[added, "loss"].values.tolist() == [3.0, 0.5, 0.4, 0.3]
    assert store.runs.get(added).results == original.results
    assert store.merge(other).known == 1


def test_sweeps_come_in_with_their_trials(store: Store, other: Store) -> None:
    for n in range(3):
        _run(store, seed=20 + n)  # numbers differ between the two databases
    sweep = other.searches.create({"task": "cnn"}, key="k1", trials=3)
    trials = [other.searches.start_trial(other.searches.add_trial(sweep.id, {"n": n}).id) for n in range(3)]
    runs = [_run(other, seed=n, trial_id=trial.id) for n, trial in enumerate(trials)]
    for trial in trials[:2]:
        other.searches.finish_trial(trial.id, "completed", value=math.inf, epochs=4)
    confirmation = _run(other, seed=7, search_id=sweep.id)
    report = store.merge(other)
    (sweep_id,) = report.searches
    assert report.trials == 3
    assert [store.sweeps.get(id).uuid for id in report.sweeps] == [other.sweeps.get(sweep.sweep_id).uuid]
    merged = store.searches.get(sweep_id)
    assert (merged.uuid, merged.name, merged.trials, merged.status) == (sweep.uuid, sweep.name, 3, "interrupted")
    assert store.searches.find("k1") == merged
    found = store.searches.trials(sweep_id)
    assert [trial.params for trial in found] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert [trial.state for trial in found] == ["completed", "completed", "interrupted"]
    assert [trial.value for trial in found] == [math.inf, math.inf, None]
    assert [store.runs.get(trial.run_id or 0).uuid for trial in found] == [run.uuid for run in runs]
    assert {run.uuid for run in store.runs.select(sweep=merged.sweep_id) if run.trial_id is None} == {confirmation.uuid}

    other.searches.finish_trial(trials[2].id, "pruned", value=1.0)
    other.searches.resume(sweep.id, trials=4)
    other.searches.add_trial(sweep.id, {"n": 3})
    again = store.merge(other)
    assert (again.searches, again.trials, again.added, again.known) == ((), 1, (), 4)
    assert [trial.state for trial in store.searches.trials(sweep_id)] == ["completed", "completed", "pruned", "pending"]
    assert store.searches.get(sweep_id).trials == 4
    assert store.check() == []


def test_the_same_search_made_on_both_machines_stays_two(store: Store, other: Store) -> None:
    sweeps = [target.searches.create({"task": "cnn"}, key="k1", trials=3) for target in (store, other)]
    other.searches.add_trial(sweeps[1].id, {"n": 0})
    (added,) = store.merge(other).searches
    assert store.searches.find("k1") == store.searches.get(sweeps[0].id)
    assert store.searches.get(added).uuid == sweeps[1].uuid
    assert len(store.searches.trials(added)) == 1
    assert store.searches.trials(sweeps[0].id) == []
    assert store.merge(other).searches == ()


def test_a_sweep_that_went_on_in_both_keeps_its_own_trials(store: Store, other: Store) -> None:
    sweep = other.searches.create({"task": "cnn"}, key="k1", trials=3)
    (added,) = store.merge(other).searches
    for target, sweep_id in ((store, added), (other, sweep.id)):
        trial = target.searches.start_trial(target.searches.add_trial(sweep_id, {"where": target.label}).id)
        _run(target, trial_id=trial.id)
    report = store.merge(other)
    assert (report.trials, report.conflicting_trials, len(report.added)) == (0, 1, 1)
    (trial,) = store.searches.trials(added)
    assert trial.params == {"where": store.label}
    assert trial.run_id not in report.added
    assert store.runs.get(report.added[0]).sweep_id is None


def test_a_store_merged_with_itself_stays_as_it_is(store: Store) -> None:
    _run(store)
    report = store.merge(store)
    assert (report.added, report.known) == ((), 1)


def test_a_store_for_reading_takes_nothing_in(other: Store, tmp_path: Path) -> None:
    _run(other)
    Store.open(tmp_path / "vr.db").close()
    with Store.open(tmp_path / "vr.db", mode="read") as reader, pytest.raises(StoreError, match="for reading only"):
        reader.merge(other)
    with Store.open(tmp_path / "vr.db") as store, Store.open(tmp_path / "other.db", mode="read") as source:
        assert len(store.merge(source).added) == 1


def test_a_dry_run_reports_what_a_merge_would_do_and_changes_nothing(store: Store, other: Store) -> None:
    sweep = other.searches.create({"task": "cnn"}, key="k", trials=1)
    trial = other.searches.add_trial(sweep.id, {"lr": 0.1})
    _run(store, seed=1)
    _run(other, seed=1)
    _run(other, "failed", seed=2, trial_id=trial.id)
    _run(other, "running", seed=3)
    told: list[int] = []
    rehearsed = store.merge(other, dry_run=True)
    assert (len(store.runs.select()), store.searches.select(), store.info()["points"]) == (1, [], 4)
    done = store.merge(other, advance=lambda: told.append(1))
    assert (len(rehearsed.added), rehearsed.points) == (2, 8)
    numbers = {"added": (), "repeated": (), "sweeps": (), "searches": ()}
    assert replace(rehearsed, **numbers) == replace(done, **numbers)
    for report in (rehearsed, done):
        assert (len(report.repeated), len(report.sweeps), len(report.searches)) == (1, 1, 1)
    assert len(told) == 3


def test_a_sweep_of_several_searches_comes_in_once(store: Store, other: Store) -> None:
    _run(store, seed=1)
    store.searches.create({"task": "cnn", "optimizer": "sgd"}, key="own", trials=1)  # numbers differ
    sweep = other.sweeps.create({"task": "cnn", "dataset": "digits"}, shared_key="s")
    wanted = {"task": "cnn", "sweep_id": sweep.id}
    first = other.searches.create({**wanted, "optimizer": "a"}, key="a", trials=1, sweep_id=sweep.id)
    trial = other.searches.add_trial(first.id, {"lr": 0.1})
    _run(other, seed=2, trial_id=trial.id)
    report = store.merge(other)
    (sweep_id,), (search_id,) = report.sweeps, report.searches
    other.searches.create({**wanted, "optimizer": "b", "search_seed": 3}, key="b", trials=2, sweep_id=sweep.id)
    again = store.merge(other)
    assert (again.sweeps, len(again.searches), again.trials) == ((), 1, 0)
    here = store.sweeps.get(sweep_id)
    assert (here.uuid, here.name, here.shared_key, here.dataset) == (sweep.uuid, sweep.name, "s", "digits")
    assert [(s.optimizer, s.search_seed) for s in store.searches.select(sweep=here.id)] == [("b", 3), ("a", None)]
    (run,) = store.runs.select(search=search_id)
    assert (run.sweep_id, run.seed, run.configuration) == (sweep_id, 2, other.runs.get(1).configuration)
    assert store.merge(other).searches == ()
    assert store.check() == []


def test_only_the_searches_of_chosen_runs_come_in(store: Store, other: Store) -> None:
    sweep = other.sweeps.create({"task": "cnn"}, shared_key="s")
    searches = [
        other.searches.create({"task": "cnn", "optimizer": name}, key=name, trials=1, sweep_id=sweep.id)
        for name in ("a", "b")
    ]
    run = _run(other, search_id=searches[1].id)
    _run(other, search_id=searches[0].id, seed=2)
    report = store.merge(other, ids=run.id)
    assert [store.searches.get(id).optimizer for id in report.searches] == ["b"]
    assert len(report.sweeps) == 1
