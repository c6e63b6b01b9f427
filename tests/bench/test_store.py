"""The store's benchmark measures what it says, on a database small enough for a test."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from vrcli.bench.store import ENVELOPE, LEARNING_RATES, OPTIMIZERS, bench_store, fill
from vrcli.db.store import Store
from vrcli.results.groups import group_runs


def test_generated_runs_are_configurations_by_seeds(tmp_path: Path) -> None:
    count = 2 * len(OPTIMIZERS) * LEARNING_RATES
    with Store.open(tmp_path / "vr.db") as store:
        assert fill(store, count, 3) > 0
        groups = group_runs(store.runs.select())
        assert len(store.curves.read([1], "train_loss")[1, "train_loss"]) == 3
    assert len(groups) == count / 2
    assert all([run.seed for run in group.runs] == [0, 1] for group in groups)


@pytest.mark.slow
def test_every_measurement_is_taken(tmp_path: Path) -> None:
    found = {one.what: one for one in bench_store(tmp_path, runs=8, points=20, rounds=2)}
    with Store.open(tmp_path / "bench.db", mode="read") as store:
        assert len(store.runs.select()) == 8 + ENVELOPE[0]
    for what in ("vr runs list", "vr report", f"envelope of {ENVELOPE[0]} runs x {ENVELOPE[1]:,} points"):
        assert 0 < found[what].value <= found[what].worst
        assert (found[what].unit, found[what].n) == ("s", 2)


def test_a_folder_in_use_is_refused(vr, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    done = vr("bench", "store", "--folder", tmp_path / "used")
    assert (done.code, done.err) == (2, f"vr: --folder {tmp_path / 'used'} must be an empty folder\n")


def test_a_missing_mlflow_is_named(vr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    (tmp_path / "new").mkdir()
    done = vr("bench", "store", "--mlflow", "--folder", "new")
    assert (done.code, done.err) == (2, "vr: --mlflow needs MLflow: pip install 'vrcli[mlflow]'\n")
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.slow
def test_mlflow_writes_the_same_points(vr, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    done = vr("bench", "store", "--runs", "4", "--points", "5", "--rounds", "1", "--mlflow", "--format", "json")
    assert done.code == 0, done.err
    body = json.loads(done.out)
    rates = {row["what"]: row["value"] for row in body["rows"] if row["unit"] == "points/s"}
    assert len(rates) == 2
    assert all(rate > 0 for rate in rates.values())
    assert "x as long" in body["note"]
