"""CSV, JSON and Parquet, read back by pandas, by Python and by pyarrow."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import vrcli.results.export.parquet
from vrcli.db.store import Store

Export = Callable[..., Path]


@pytest.fixture
def points(store: Store) -> list[tuple[int, str, int, float]]:
    """All points as the store has them."""
    return [
        (run, metric, step, value)
        for (run, metric), curve in sorted(store.curves.read([1, 2, 3, 4]).items())
        for step, value in zip(curve.steps, curve.values, strict=True)
    ]


def _same(frame: pd.DataFrame, points: list[tuple[int, str, int, float]]) -> None:
    frame = frame.sort_values(["run", "metric", "step"])
    found = list(zip(frame["run"], frame["metric"], frame["step"], strict=True))
    assert found == [point[:3] for point in points]
    np.testing.assert_array_equal(frame["value"], [point[3] for point in points])


def test_csv_has_every_run_and_every_point(export: Export, points: list[tuple[int, str, int, float]]) -> None:
    path = export("csv", "out.csv")
    runs = pd.read_csv(path)
    assert runs["id"].tolist() == [1, 2, 3, 4]
    assert runs["optimizer"].tolist() == ["vradam", "my.module:Mine", "adamw", "sgd"]
    assert runs["model"].tolist() == ['a "b", c'] * 4
    assert runs["tag"].tolist()[:2] == ["päper"] * 2
    assert runs["betas"].tolist()[0] == "0.9,0.999"
    text = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert text["test_loss"].tolist() == ["nan", "nan", "nan", ""]  # not a number is not missing
    assert text["power"].tolist() == ["", "2", "", ""]
    _same(pd.read_csv(path.with_name("out.curves.csv")), points)


def test_json_is_what_runs_show_prints(export: Export, store: Store) -> None:
    path = export("json", "out.json")
    body = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert [run["id"] for run in body] == [1, 2, 3, 4]
    curve = body[0]["curves"]["train_loss"]
    np.testing.assert_array_equal([float(v) for v in curve["values"]], store.curves.read(1)[1, "train_loss"].values)
    assert curve["values"][2:5] == ["nan", "inf", "-inf"]
    assert body[0]["results"] == {"best_val_loss": 1.0, "test_loss": "nan", "epochs": 2.0}
    assert body[1]["spec"]["optimizer_settings"]["power"] == 2
    assert body[1]["provenance"]["git"]["commit"] == "abc"


@pytest.mark.parametrize("group", [1, 20, 1_000_000])
def test_parquet_has_every_run_and_every_point(
    export: Export, points: list[tuple[int, str, int, float]], monkeypatch: pytest.MonkeyPatch, group: int
) -> None:
    monkeypatch.setattr(vrcli.results.export.parquet, "GROUP_POINTS", group)
    path = export("parquet", "out.parquet")
    curves = path.with_name("out.curves.parquet")
    assert pq.ParquetFile(curves).num_row_groups == {1: 4, 20: 2, 1_000_000: 1}[group]
    _same(pd.read_parquet(curves), points)
    runs = pq.read_table(path)
    assert runs["test_loss"].to_pylist()[3] is None
    assert all(math.isnan(value) for value in runs["test_loss"].to_pylist()[:3])
    assert runs["flip"].to_pylist() == [False] * 4
    assert runs["created_at"].to_pylist()[0].tzinfo is not None


def test_only_some_curves(export: Export) -> None:
    path = export("csv", "out.csv", metrics=["val_loss"])
    assert set(pd.read_csv(path.with_name("out.curves.csv"))["metric"]) == {"val_loss"}


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_a_failed_export_leaves_nothing_behind(
    export: Export, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(store.curves, "read", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(format, f"out.{format}")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("format", ["csv", "json", "parquet", "sqlite", "tensorboard"])
def test_a_run_that_failed_at_once_has_little_to_say(export: Export, store: Store, format: str) -> None:
    spec = {"task": "cnn", "optimizer": "sgd", "task_settings": {"dataset": 3}, "training": {"epochs": "many"}}
    run = store.runs.begin(spec, spec_id="x", provenance={})
    store.runs.finish(run.id, "failed", error="out of memory")
    path = export(format, f"out.{format}")  # of another kind than the others' settings
    alone = export(format, f"alone.{format}", ids=[run.id])
    if format == "parquet":
        assert pq.read_table(path)["epochs"].to_pylist() == ["2", "2", "2", "2", "many"]
        assert pq.read_table(alone)["seed"].to_pylist() == [None]
        assert pq.read_table(alone.with_name("alone.curves.parquet")).num_rows == 0
    if format == "csv":
        assert pd.read_csv(alone)["error"].tolist() == ["out of memory"]
        assert pd.read_csv(alone.with_name("alone.curves.csv")).empty
    if format == "sqlite":
        with Store.open(alone, mode="read") as part:
            assert part.runs.select()[0].error == "out of memory"
