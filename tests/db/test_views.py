"""The ready-made views, read with plain SQL as a person with an SQL browser would."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import text

from vrcli.db.records import RunRecord
from vrcli.db.store import Store

Begin = Callable[..., RunRecord]


def _sql(store: Store, query: str) -> list[dict[str, Any]]:
    with store._database.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query)).mappings()]


@pytest.fixture
def runs(begin: Begin, store: Store) -> list[int]:
    """Four ended runs and a running one: two optimizers, one divergence, one curve with every kind of number."""
    ended = [("vradam", 0.5), ("vradam", 0.25), ("adamw", math.nan), ("adamw", 0.75)]
    ids = []
    for seed, (optimizer, loss) in enumerate(ended):
        run = begin(optimizer=optimizer, seed=seed, preset=None)
        store.curves.add(run.id, {"train_loss": ([1, 2, 3, 4], [0.5, math.nan, math.inf, -math.inf])})
        status = "diverged" if math.isnan(loss) else "completed"
        store.runs.finish(run.id, status, results={"best_val_loss": loss, "test_loss": 2 * loss, "epochs": 3})
        ids.append(run.id)
    return [*ids, begin(optimizer="adamw", seed=9, preset=None).id]


def test_v_runs_has_a_row_for_each_run(store: Store, runs: list[int]) -> None:
    rows = _sql(store, "SELECT * FROM v_runs ORDER BY id")
    assert [row["id"] for row in rows] == runs
    assert [row["best_val_loss"] for row in rows] == [0.5, 0.25, None, 0.75, None]
    assert [row["test_loss"] for row in rows] == [1.0, 0.5, None, 1.5, None]
    assert [row["status"] for row in rows] == ["completed", "completed", "diverged", "completed", "running"]
    assert [row["name"] for row in rows] == [store.runs.get(run).name for run in runs]
    assert [row["seed"] for row in rows] == [0, 1, 2, 3, 9]


def test_v_results_and_v_curves_say_every_number(store: Store, runs: list[int]) -> None:
    rows = _sql(store, "SELECT run_id, value, shown FROM v_results WHERE metric = 'best_val_loss' ORDER BY run_id")
    assert [row["value"] for row in rows] == [0.5, 0.25, None, 0.75]
    assert [row["shown"] for row in rows] == ["0.5", "0.25", "nan", "0.75"]
    query = f"SELECT * FROM v_curves WHERE run_id = {runs[1]} AND metric = 'train_loss' ORDER BY step"
    rows = _sql(store, query)
    assert [(row["step"], row["value"], row["shown"]) for row in rows] == [
        (1, 0.5, "0.5"),
        (2, None, "nan"),
        (3, None, "inf"),
        (4, None, "-inf"),
    ]
    assert {(row["optimizer"], row["task"], row["seed"]) for row in rows} == {("vradam", "cnn", 1)}


def test_v_best_names_the_best_run_of_each_optimizer(store: Store, runs: list[int]) -> None:
    rows = {row["optimizer"]: row for row in _sql(store, "SELECT * FROM v_best")}
    best = {name: (row["run_id"], row["best_val_loss"], row["n"], row["diverged"]) for name, row in rows.items()}
    assert best == {"vradam": (runs[1], 0.25, 2, 0), "adamw": (runs[3], 0.75, 2, 1)}
    assert rows["vradam"]["run"] == store.runs.get(runs[1]).name


def test_an_average_leaves_out_what_is_no_number(store: Store, runs: list[int]) -> None:
    (row,) = _sql(store, "SELECT avg(best_val_loss) AS mean FROM v_runs")
    assert row["mean"] == 0.5


def test_a_curve_is_found_by_its_key_through_the_view(tmp_path: Any) -> None:
    Store.open(tmp_path / "vr.db").close()
    query = "SELECT step, value FROM v_curves WHERE run_id = 17 AND metric = 'train_loss' ORDER BY step"
    with closing(sqlite3.connect(tmp_path / "vr.db")) as database:
        plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert "SEARCH points USING PRIMARY KEY (run_id=? AND metric_id=?)" in plan
    assert not any("SCAN" in line or "TEMP" in line for line in plan)


def test_views_say_what_a_row_of_a_report_needs(store: Store) -> None:
    from types import SimpleNamespace

    reward = SimpleNamespace(name="reward", direction="max", unit="", percent=False, shown=False)
    search = store.searches.create({"task": "maze", "optimizer": "sgd", "search_seed": 4}, key="k", trials=1)
    trial = store.searches.start_trial(store.searches.add_trial(search.id, {"lr": 0.1}).id)
    spec = {"task": "maze", "optimizer": "sgd", "seed": 1}
    run = store.runs.begin(spec, spec_id="s", provenance={}, trial_id=trial.id, metrics=[reward])
    store.runs.finish(run.id, "completed", results={"best_val_reward": 2.5, "best_val_loss": 9.0})
    store.searches.finish_trial(trial.id, "completed", value=2.5)
    expected = {"objective": "best_val_reward", "configuration": run.configuration, "best_value": 2.5}
    for view in ("v_runs", "v_best", "v_trials"):
        (row,) = _sql(store, f"SELECT * FROM {view}")
        assert {**row, **expected, "search_id": search.id} == row, view
    assert row["search_seed"] == 4


def test_a_run_that_diverged_is_the_best_of_nothing(begin: Begin, store: Store) -> None:
    for seed, (optimizer, status, loss) in enumerate(
        [("sgd", "diverged", 0.1), ("sgd", "completed", 0.4), ("adamw", "diverged", 0.2)]
    ):
        run = begin(optimizer=optimizer, seed=seed)
        store.runs.finish(run.id, status, results={"best_val_loss": loss})
    (row,) = _sql(store, "SELECT * FROM v_best")
    assert (row["optimizer"], row["best_val_loss"], row["n"], row["diverged"]) == ("sgd", 0.4, 2, 1)


def test_v_searches_has_a_row_for_each_search(begin: Begin, store: Store) -> None:
    sweep = None
    for seed in (0, 1):
        about = {"task": "cnn", "optimizer": "sgd", "search_seed": seed}
        search = store.searches.create(about, key=f"k{seed}", trials=4, sweep_id=sweep)
        sweep = search.sweep_id
        for value in (0.5, math.nan, 0.3):
            trial = store.searches.start_trial(store.searches.add_trial(search.id, {"lr": 0.1}).id)
            spec = {"task": "cnn", "optimizer": "sgd", "seed": 0}
            run = store.runs.begin(spec, spec_id="t", provenance={}, trial_id=trial.id)
            state = "diverged" if math.isnan(value) else "completed"
            store.runs.finish(run.id, state, results={"best_val_loss": 0.01})
            store.searches.finish_trial(trial.id, state, value=value)
        store.searches.add_trial(search.id, {"lr": 9.0})
    fresh = [(0.1, "completed", 0.9), (0.2, "completed", 0.2), (0.2, "completed", 0.4), (0.2, "diverged", 0.0)]
    for seed, (lr, status, loss) in enumerate(fresh):  # the first with settings that were replaced
        spec = {"task": "cnn", "optimizer": "sgd", "seed": seed, "optimizer_settings": {"lr": lr}}
        run = store.runs.begin(spec, spec_id=str(seed), provenance={}, search_id=1)
        store.runs.finish(run.id, status, results={"best_val_loss": loss, "test_loss": 2 * loss})
    first, second = _sql(store, "SELECT * FROM v_searches ORDER BY id")
    assert (first["sweep_id"], first["search_seed"], second["search_seed"]) == (sweep, 0, 1)
    assert (first["trials"], first["ended"], first["best_trial"], first["best_value"]) == (4, 3, 2, 0.3)
    assert (first["n"], first["diverged"]) == (3, 1)
    assert (first["mean_test_loss"], first["mean_best_value"]) == pytest.approx((0.6, 0.3))
    assert (second["n"], second["diverged"], second["mean_test_loss"]) == (0, 0, None)
