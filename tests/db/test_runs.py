"""Runs: what is recorded comes back, what has ended stays as it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from vrcli.db.records import ENDED_RUNS, RunRecord
from vrcli.db.store import Store, StoreError

Begin = Callable[..., RunRecord]


def test_a_begun_run_holds_what_it_was_given(store: Store) -> None:
    spec = {"task": "cnn", "optimizer": "vradam", "seed": 2**40, "nested": {"betas": [0.9, 0.999]}, "name": "日本 'x'"}
    before = datetime.now(UTC)
    begun = store.runs.begin(spec, spec_id="abc", provenance={"argv": ["vr"]}, tag="t'1", group="g")
    run = store.runs.get(begun.id)
    assert run == begun
    assert run.spec == spec
    assert run.provenance == {"argv": ["vr"]}
    assert (run.task, run.optimizer, run.seed, run.preset, run.dataset) == ("cnn", "vradam", 2**40, None, None)
    assert (run.status, run.tag, run.group, run.spec_id, run.error, run.results) == (
        "running",
        "t'1",
        "g",
        "abc",
        None,
        {},
    )
    assert before <= run.created_at <= datetime.now(UTC)
    assert run.finished_at is None


def test_names_are_two_words_and_unique(begin: Begin, store: Store) -> None:
    names = [begin(seed=seed).name for seed in range(60)]
    assert len(set(names)) == 60
    assert all(re.fullmatch(r"[a-z]+-[a-z]+(-\d+)?", name) for name in names)
    assert store.runs.get(names[17]).seed == 17


def test_a_taken_name_is_not_given_again(begin: Begin, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = iter(["keen-otter", "keen-otter", "keen-otter", "brave-lynx"])
    monkeypatch.setattr("vrcli.db.names.propose", lambda attempt: next(offered))
    assert [begin().name, begin().name] == ["keen-otter", "brave-lynx"]
    assert len(store.runs.select()) == 2


@pytest.mark.parametrize("status", ENDED_RUNS)
def test_a_finished_run_keeps_its_results_and_cannot_change(begin: Begin, store: Store, status: str) -> None:
    run = begin()
    results = {"best_val_loss": 0.25, "test_loss": math.inf, "final_val_loss": -math.inf, "steps": 40}
    ended = store.runs.finish(run.id, status, results={**results, "val_loss": math.nan}, error="why")
    assert replace(ended, results={}) == replace(store.runs.get(run.id), results={})
    assert (ended.status, ended.error) == (status, "why")
    assert ended.finished_at is not None
    assert {name: ended.results[name] for name in results} == results
    assert math.isnan(ended.results["val_loss"])
    changes: list[Callable[[], object]] = [
        lambda: store.runs.finish(run.id, "completed", results={"best_val_loss": 0.0}),
        lambda: store.curves.add(run.id, {"train_loss": ([1], [1.0])}),
        lambda: store.artifacts.add(run.id, "a", b"", media_type="text/plain"),
        lambda: store.runs.heartbeat(run.id),
    ]
    for change in changes:
        with pytest.raises(StoreError, match=f"run {run.id} is {status}"):
            change()
    assert store.runs.get(run.id).status == status
    assert store.curves.read(run.id) == {}


def test_a_run_can_end_only_in_a_known_way(begin: Begin, store: Store) -> None:
    with pytest.raises(StoreError, match="'running' is not a way for a run to end"):
        store.runs.finish(begin().id, "running")


def test_a_failed_end_changes_nothing(begin: Begin, store: Store) -> None:
    run = begin()
    with pytest.raises(TypeError):
        store.runs.finish(run.id, "completed", results={"a": 1.0, "b": None})  # type: ignore[dict-item]
    assert store.runs.get(run.id).status == "running"


def test_what_json_cannot_hold_is_refused_and_leaves_no_run(store: Store) -> None:
    for spec in ({"lr": math.nan}, {"lr": object()}):
        with pytest.raises(StoreError, match="the configuration cannot be stored as JSON"):
            store.runs.begin({"task": "cnn", "optimizer": "sgd", **spec}, spec_id="x", provenance={})
    assert store.runs.select() == []


def test_text_that_is_no_text_and_numbers_too_large(store: Store) -> None:
    spec = {"task": "cnn", "optimizer": "sgd"}
    run = store.runs.begin(spec, spec_id="x", provenance={"argv": ["vr", "\udcff", "é"]})
    assert store.runs.get(run.id).provenance == {"argv": ["vr", "\udcff", "é"]}
    with pytest.raises(StoreError, match="not Unicode"):
        store.runs.begin(spec, spec_id="x", provenance={}, tag="\udcff")
    with pytest.raises(StoreError, match=r"too large|out of range"):
        store.runs.begin({**spec, "seed": 2**64}, spec_id="x", provenance={})
    assert len(store.runs.select()) == 1


def test_unknown_runs_are_named_with_what_is_there(begin: Begin, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="has no run 1; it has no runs yet"):
        store.runs.get(1)
    monkeypatch.setattr("vrcli.db.names.propose", lambda attempt: "keen-otter")
    run = begin()
    with pytest.raises(StoreError, match=f"has no run 99; its runs are {run.id} to {run.id}"):
        store.runs.get("99")
    with pytest.raises(StoreError, match="has no run keen-oter; did you mean keen-otter"):
        store.runs.get("keen-oter")
    for huge in (-1, 2**70, str(2**70)):
        with pytest.raises(StoreError, match="has no run"):
            store.runs.get(huge)
    for change in (store.runs.heartbeat, store.runs.delete, lambda id: store.runs.finish(id, "completed")):
        with pytest.raises(StoreError, match="has no run 99"):
            change(99)


def test_runs_are_filtered_and_the_newest_comes_first(begin: Begin, store: Store) -> None:
    a = begin(task="cnn", optimizer="sgd", seed=1, tag="x")
    b = begin(task="gflownet", optimizer="adamw", preset="paper", group="g")
    c = begin(task="cnn", optimizer="adamw", dataset="cifar10")
    store.runs.finish(b.id, "diverged", results={"best_val_loss": 1.5})

    def ids(**filters: object) -> list[int]:
        return [run.id for run in store.runs.select(**filters)]  # type: ignore[arg-type]

    assert ids() == [c.id, b.id, a.id]
    assert ids(task="cnn") == [c.id, a.id]
    assert ids(task="cnn", optimizer="adamw") == [c.id]
    assert ids(optimizer=["sgd", "adamw"], limit=2) == [c.id, b.id]
    assert ids(status=("running", "completed")) == [c.id, a.id]
    assert [ids(preset="paper"), ids(group="g"), ids(tag="x"), ids(dataset="cifar10")] == [
        [b.id],
        [b.id],
        [a.id],
        [c.id],
    ]
    assert ids(spec_id={a.spec_id, c.spec_id}) == [c.id, a.id]
    assert ids(ids=[a.id, b.id, 999]) == [b.id, a.id]
    assert ids(ids=a.id) == [a.id]
    assert ids(ids=[]) == []
    assert ids(since=b.created_at) == [c.id, b.id]
    assert ids(since=(b.created_at + timedelta(seconds=1)).astimezone().replace(tzinfo=None)) == []
    assert ids(task="nothing") == []
    assert store.runs.select(status="diverged")[0].results == {"best_val_loss": 1.5}


def test_a_list_takes_as_many_queries_for_many_runs_as_for_few(begin: Begin, store: Store) -> None:
    def queries(count: int) -> int:
        for seed in range(count):
            run = begin(seed=seed)
            store.curves.add(run.id, {"train_loss": ([1], [1.0])})
            store.runs.finish(run.id, "completed", results={"best_val_loss": float(seed)})
        executed: list[str] = []

        def record(*args: object) -> None:
            executed.append(str(args[2]))

        event.listen(store._database.engine, "before_cursor_execute", record)
        found = store.runs.select()
        event.remove(store._database.engine, "before_cursor_execute", record)
        assert all(run.results["best_val_loss"] == run.seed for run in found)
        assert not any("points" in statement for statement in executed)
        return len(executed)

    assert queries(2) == queries(20)


def test_many_runs_bring_their_own_results(begin: Begin, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrcli.db.rows.MOST_PARAMETERS", 3)
    wanted = []
    for seed in range(8):
        run = begin(seed=seed, task="cnn" if seed % 2 else "diffusion")
        store.runs.finish(run.id, "completed", results={"steps": seed})
        wanted.append((run.id, {"steps": float(seed)}))
    assert [(run.id, run.results) for run in store.runs.select()] == wanted[::-1]
    assert [(run.id, run.results) for run in store.runs.select(task="cnn")] == wanted[1::2][::-1]


def test_any_number_of_runs_can_be_named(begin: Begin, store: Store) -> None:
    runs = [begin(seed=seed).id for seed in range(3)]
    for run in runs[:2]:
        store.runs.finish(run, "completed", results={"steps": run})
    chosen = [*range(-5, 0), *runs[1:], *range(100, 300_100)]  # more than a statement takes one by one
    assert [run.id for run in store.runs.select(ids=chosen)] == runs[:0:-1]
    assert [run.id for run in store.runs.select(ids=chosen, status="completed", limit=1)] == [runs[1]]
    assert store.runs.select(ids=chosen)[1].results == {"steps": float(runs[1])}
    assert store.runs.select(ids=range(100, 300_100)) == []


def test_all_names_that_runs_have_used_are_known(begin: Begin, store: Store) -> None:
    assert store.runs.metric_names() == []
    run = begin()
    store.curves.add(run.id, {"val_loss": ([1], [1.0]), "grad_norm": ([1], [2.0])})
    store.runs.finish(run.id, "completed", results={"best_val_loss": 1.0})
    assert store.runs.metric_names() == ["best_val_loss", "grad_norm", "val_loss"]


def test_a_list_reads_only_the_results_it_is_asked_for(begin: Begin, store: Store) -> None:
    run = begin()
    store.runs.finish(run.id, "completed", results={"best_val_loss": 0.5, "steps": 4, "test_loss": math.nan})
    assert store.runs.select(results=["steps", "best_val_loss", "none"])[0].results == {
        "best_val_loss": 0.5,
        "steps": 4.0,
    }
    assert list(store.runs.select(results="test_loss")[0].results) == ["test_loss"]
    assert store.runs.select(results=[])[0].results == store.runs.select(results=["none"])[0].results == {}


def test_a_deleted_run_takes_everything_with_it_and_its_number_stays_free(begin: Begin, store: Store) -> None:
    kept, gone = begin(seed=1), begin(seed=2)
    for run in (kept, gone):
        store.curves.add(run.id, {"train_loss": ([1], [1.0])})
        store.artifacts.add(run.id, "a", b"1", media_type="text/plain")
    with pytest.raises(StoreError, match=f"run {gone.id} is still running"):
        store.runs.delete(gone.id)
    store.runs.finish(gone.id, "completed", results={"steps": 1})
    store.runs.delete(gone.id)
    assert [run.id for run in store.runs.select()] == [kept.id]
    assert store.curves.read([kept.id, gone.id]).keys() == {(kept.id, "train_loss")}
    assert store.artifacts.select(gone.id) == []
    assert store.check() == []
    assert store.info()["points"] == 1
    assert begin(seed=3).id > gone.id


def test_runs_are_deleted_together_or_not_at_all(begin: Begin, store: Store) -> None:
    first, second, running = begin(seed=1), begin(seed=2), begin(seed=3)
    for run in (first, second):
        store.curves.add(run.id, {"train_loss": ([1], [1.0])})
        store.runs.finish(run.id, "completed")
    for other, reason in ((running.id, f"run {running.id} is still running"), (99, "has no run 99")):
        with pytest.raises(StoreError, match=reason):
            store.runs.delete([first.id, other, second.id])
        assert len(store.runs.select()) == 3
    store.runs.delete([])
    begun: list[object] = []
    event.listen(store._database.engine, "begin", begun.append)
    store.runs.delete([second.id, first.id, second.id])
    assert len(begun) == 1
    assert [run.id for run in store.runs.select()] == [running.id]
    assert store.curves.count([first.id, second.id]) == 0


def test_an_interrupted_run_is_resumed_from_its_checkpoint(begin: Begin, store: Store) -> None:
    run = begin()
    store.curves.add(run.id, {"train_loss": ([1, 2, 3, 4], [4.0, 3.0, 2.0, 1.0])})
    store.artifacts.add(run.id, "grid", b"early", media_type="image/png", step=2)
    store.artifacts.add(run.id, "grid", b"late", media_type="image/png", step=4)
    with pytest.raises(StoreError, match=f"run {run.id} is running .pid {run.pid} on "):
        store.runs.resume(run.id)
    store.runs.finish(run.id, "interrupted", results={"steps": 4}, error="Ctrl-C")
    resumed = store.runs.resume(run.id, step=2)
    assert (resumed.status, resumed.finished_at, resumed.error, resumed.results) == ("running", None, None, {})
    store.curves.add(run.id, {"train_loss": ([3], [2.5])})
    assert list(store.curves.read(run.id)[run.id, "train_loss"].values) == [4.0, 3.0, 2.5]
    assert store.artifacts.read(run.id, "grid") == b"early"
    store.runs.finish(run.id, "completed")
    with pytest.raises(StoreError, match="is completed; only interrupted and failed runs"):
        store.runs.resume(run.id)


def test_a_tag_can_be_changed_after_the_end(begin: Begin, store: Store) -> None:
    run = begin(tag="old")
    store.curves.add(run.id, {"loss": ([1, 2], [0.5, 0.25]), "other": ([1], [1.0])})
    ended = store.runs.finish(run.id, "completed", results={"best_val_loss": 0.5})
    assert store.runs.tag(run.id, "new") == replace(ended, tag="new")
    assert [found.id for found in store.runs.select(tag="new")] == [run.id]
    assert store.runs.tag(run.id, None).tag is None
    assert store.curves.count(run.id) == 3
    assert store.curves.count([run.id, run.id + 1]) == 3
    with pytest.raises(StoreError, match="no run"):
        store.runs.tag(run.id + 1, "x")
