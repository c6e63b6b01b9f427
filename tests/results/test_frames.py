"""Stored runs as pandas frames: every number as stored, and nothing heavy before it is asked for."""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import vrcli
from vrcli.db.store import Store, StoreError
from vrcli.errors import UsageError
from vrcli.results.frames import Frames


def _spec(optimizer: str, seed: int, **settings: Any) -> dict[str, Any]:
    return {
        "task": "cnn", "preset": "quick", "dataset": "digits", "dataset_fingerprint": "d1", "optimizer": optimizer,
        "seed": seed, "task_settings": {"dataset": "digits", "width": 8, "name": "odd"},
        "training": {"epochs": 3, "grad_clip": None}, "optimizer_settings": {"lr": 0.01, **settings},
        "device": "cpu", "threads": 1,
    }  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two completed runs, one that diverged, one that failed at once, and a sweep with two trials."""
    with Store.open(tmp_path / "vr.db") as store:
        sweep = store.searches.create({"task": "cnn", "optimizer": "vradam"}, key="k", trials=2)
        for optimizer, seed, loss in (("vradam", 0, 0.5), ("vradam", 1, 0.25), ("adamw", 0, math.nan)):
            settings = {"betas": [0.9, 0.999]} if optimizer == "vradam" else {"amsgrad": True}
            run = store.runs.begin(_spec(optimizer, seed, **settings), spec_id=f"{optimizer}{seed}", provenance={})
            store.curves.add(run.id, {"train_loss": ([1, 2, 3], [1.0, loss, math.inf]), "val_loss": ([3], [loss])})
            status = "diverged" if math.isnan(loss) else "completed"
            store.runs.finish(run.id, status, results={"best_val_loss": loss, "epochs": 2})
        failed = store.runs.begin(_spec("sgd", 7), spec_id="x", provenance={}, tag="t")
        store.runs.finish(failed.id, "failed", error="out of memory")
        trial = store.searches.add_trial(sweep.id, {"lr": 0.1, "number": 5})
        store.searches.start_trial(trial.id)
        store.searches.finish_trial(trial.id, "completed", value=0.25, epochs=3)
        store.searches.add_trial(sweep.id, {"lr": 0.2, "number": 6})
    return tmp_path / "vr.db"


@pytest.fixture
def db(path: Path) -> Iterator[Frames]:
    with vrcli.load(path) as opened:
        yield opened


def test_runs_have_fields_settings_and_results_as_columns(db: Frames) -> None:
    runs = db.runs()
    assert runs["id"].tolist() == [4, 3, 2, 1]
    assert runs["status"].tolist() == ["failed", "diverged", "completed", "completed"]
    np.testing.assert_array_equal(runs["best_val_loss"], [math.nan, math.nan, 0.25, 0.5])
    assert runs["lr"].tolist() == [0.01] * 4
    assert runs["betas"].tolist()[2:] == ["0.9,0.999"] * 2
    # What is called alike is told apart, whichever runs are in the frame.
    assert runs["epochs"].tolist() == [3] * 4
    assert runs["result.epochs"].tolist()[1:] == [2.0] * 3
    assert runs["setting.name"].tolist() == ["odd"] * 4
    assert runs["name"].nunique() == 4
    assert str(runs["seed"].dtype) == "Int64"
    assert str(runs["finished_at"].dtype).endswith("UTC]")


def test_runs_are_selected_as_on_the_command_line(db: Frames) -> None:
    assert db.runs(opt="vradam")["seed"].tolist() == [1, 0]
    assert db.runs(task=["cnn"], where="best_val_loss<0.4")["id"].tolist() == [2]
    assert db.runs(status="failed", tag="t")["id"].tolist() == [4]
    assert len(db.runs(since="1h")) == 4
    with pytest.raises(UsageError, match="did you mean vradam"):
        db.runs(opt="vradm")
    with pytest.raises(UsageError, match="did you mean failed"):
        db.runs(status="faild")
    with pytest.raises(UsageError, match=r"^status 'x' is none; those are running, completed, .*"):
        db.runs(status=["failed", "x"])
    with pytest.warns(UserWarning, match="^no runs of lion yet$") as said:
        assert len(db.runs(opt=["vradam", "lion"])) == 2
    assert said[0].filename == __file__


def test_a_curve_that_no_run_has_is_refused(db: Frames) -> None:
    with pytest.raises(UsageError, match=r"^val_los\b.*; did you mean val_loss\?$"):
        db.curves(metrics="val_los")
    with pytest.raises(UsageError, match=r"^q\b.*\btrain_loss, val_loss$"):
        db.curves(1, ["val_loss", "q"])


def test_curves_are_long_and_keep_what_is_not_finite(db: Frames, path: Path) -> None:
    curves = db.curves()
    assert curves.columns.tolist() == ["run", "metric", "step", "value", "optimizer", "seed"]
    with closing(sqlite3.connect(path)) as plain:
        rows = plain.execute("SELECT run_id, metric, step, shown FROM v_curves").fetchall()
    expected = {(run, metric, step): float(shown) for run, metric, step, shown in rows}
    found = {(row.run, row.metric, row.step): row.value for row in curves.itertuples()}
    assert len(curves) == len(expected) == 12
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal([found[key] for key in expected], list(expected.values()))
    assert curves.dtypes.astype(str).tolist() == ["int64", "category", "int64", "float64", "category", "Int64"]


def test_curves_of_some_runs(db: Frames) -> None:
    some = db.runs(opt="vradam")
    assert db.curves(some, "val_loss")["run"].tolist() == [2, 1]
    assert db.curves([1], ["val_loss"])["value"].tolist() == [0.5]
    assert db.curves(str(some["name"].iloc[0]))["run"].unique().tolist() == [2]
    assert db.curves(np.int64(3))["optimizer"].unique().tolist() == ["adamw"]
    assert db.curves(4).empty
    with pytest.raises(UsageError, match="did you mean val_loss"):
        db.curves(metrics="val_los")
    with pytest.raises(StoreError, match="no run 9"):
        db.curves([1, 9])


def test_sweeps_and_trials(db: Frames) -> None:
    sweeps = db.sweeps()
    assert sweeps[["task", "optimizer", "trials"]].values.tolist() == [["cnn", "vradam", 2]]
    trials = db.trials(sweeps["id"])
    assert trials["search_id"].tolist() == [sweeps["search_id"][0]] * 2
    assert trials["number"].tolist() == [0, 1]
    np.testing.assert_array_equal(trials["value"], [0.25, math.nan])
    assert trials["lr"].tolist() == [0.1, 0.2]
    assert trials["param.number"].tolist() == [5, 6]
    pd.testing.assert_frame_equal(trials, db.trials())
    with pytest.raises(StoreError):
        db.trials(99)


def test_searches_say_what_they_found_and_what_it_came_to(path: Path) -> None:
    with Store.open(path) as store:
        search = store.searches.create({"optimizer": "vradam", "search_seed": 1}, key="l", trials=4, sweep_id=1)
        for seed, loss in ((100, 0.5), (101, 0.25)):
            run = store.runs.begin(_spec("vradam", seed), spec_id=str(seed), provenance={}, search_id=search.id)
            store.runs.finish(run.id, "completed", results={"best_val_loss": loss, "test_loss": 3 * loss})
    with vrcli.load(path) as db:
        second, first = db.searches(1).to_dict("records")
        pd.testing.assert_frame_equal(db.searches(), db.searches(1))
        with pytest.raises(StoreError):
            db.searches(9)
    assert (first["search_id"], first["trials"], first["ended"], first["best_trial"]) == (1, 2, 1, 0)
    assert (first["best_value"], first["lr"], first["number"], first["n"]) == (0.25, 0.1, 5, 0)
    assert math.isnan(first["mean_test_loss"])
    assert (second["search_seed"], second["ended"], second["n"], second["diverged"]) == (1, 0, 2, 0)
    assert (second["mean_test_loss"], second["mean_best_value"]) == (1.125, 0.375)


def test_an_empty_database_gives_empty_frames(tmp_path: Path) -> None:
    Store.open(tmp_path / "empty.db").close()
    with vrcli.load(tmp_path / "empty.db") as db:
        for frame in (db.runs(), db.curves(), db.sweeps(), db.searches(), db.trials()):
            assert frame.empty
            assert len(frame.columns) >= 6


def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no database"):
        vrcli.load(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_importing_vrcli_imports_nothing_slow() -> None:
    code = "import json, sys, vrcli; vrcli.load; print(json.dumps([m for m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pandas", "numpy", "sqlalchemy", "torch"} & set(json.loads(done.stdout))


def test_frames_need_no_command_line(path: Path) -> None:
    code = f"""
import json, sys, vrcli
with vrcli.load({str(path)!r}) as db:
    assert len(db.runs(opt="vradam", where="lr<1")) == 2
print(json.dumps([m for m in sys.modules if m.startswith(("typer", "click", "vrcli.cli"))]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
