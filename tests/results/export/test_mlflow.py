"""The tracking database, read back by MLflow's own client."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import pytest

from vrcli.db.store import Store
from vrcli.errors import UsageError

Export = Callable[..., Path]


def test_a_missing_library_is_named(export: Export, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"pip install 'vrcli\[mlflow\]'"):
        export("mlflow")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_runs_settings_curves_and_pictures_survive(
    export: Export, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = pytest.importorskip("mlflow")
    path = export("mlflow")
    assert sorted(file.name for file in path.iterdir()) == [".vr-export.json", "artifacts", "mlflow.db"]
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{path / 'mlflow.db'}")
    experiments = {found.name: found for found in client.search_experiments()}
    assert {"cnn", "transformer"} <= set(experiments)
    runs = {run.data.params["seed"]: run for run in client.search_runs([experiments["cnn"].experiment_id])}
    assert sorted(runs) == ["0", "1", "3"]
    first = runs["0"]
    assert first.info.status == "FINISHED"
    assert first.data.params["betas"] == "0.9,0.999"
    assert first.data.params["model"] == 'a "b", c'
    assert first.data.tags["vr.tag"] == "päper"
    assert first.data.metrics["result/best_val_loss"] == 1.0
    assert math.isnan(first.data.metrics["result/test_loss"])
    assert [runs["1"].info.status, runs["3"].info.status] == ["FAILED", "RUNNING"]
    curve = store.curves.read(1)[1, "train_loss"]
    history = sorted(client.get_metric_history(first.info.run_id, "train_loss"), key=lambda metric: metric.step)
    assert [metric.step for metric in history] == list(curve.steps)
    largest = sys.float_info.max  # MLflow's own way to store infinity
    expected = [max(-largest, min(largest, value)) if value == value else None for value in curve.values]
    assert [None if math.isnan(metric.value) else metric.value for metric in history] == expected
    start = store.runs.get(1).created_at.timestamp()
    assert history[3].timestamp / 1000 - start == pytest.approx(2.0, abs=2e-3)
    files = Path(urlparse(first.info.artifact_uri).path)
    assert (files / "samples-step8.png").read_bytes() == store.artifacts.read(1, "samples.png")
    assert [found.path for found in client.list_artifacts(first.info.run_id)] == ["samples-step8.png"]


def test_times_are_those_of_the_clock_whichever_curves_are_written(
    export: Export, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = pytest.importorskip("mlflow")
    path = export("mlflow", ids=[1], metrics=["val_loss"])
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("cnn").experiment_id])
    assert {name for name in run.data.metrics if not name.startswith("result/")} == {"val_loss"}
    history = sorted(client.get_metric_history(run.info.run_id, "val_loss"), key=lambda metric: metric.step)
    start = store.runs.get(1).created_at.timestamp()
    assert [metric.timestamp / 1000 - start for metric in history] == pytest.approx([2.0, 3.0], abs=2e-3)


@pytest.mark.slow
def test_a_folder_of_something_else_is_never_replaced(export: Export, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    path = export("mlflow", ids=[1])
    (path / "mlflow.db-journal").touch()  # of MLflow's own programs
    export("mlflow", ids=[1, 2], force=True)
    thesis = path / "artifacts" / "thesis.pdf"
    thesis.write_text("years of work")
    with pytest.raises(UsageError, match="holds other files"):
        export("mlflow", force=True)
    assert thesis.read_text() == "years of work"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "mlflow.db").touch()  # what MLflow itself would have there
    with pytest.raises(UsageError, match="holds other files"):
        export("mlflow", "foreign", force=True)
    assert (foreign / "mlflow.db").exists()
