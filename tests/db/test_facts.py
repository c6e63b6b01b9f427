"""What tasks say of their metrics is kept with their runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from vrcli.db.records import MetricFact
from vrcli.db.store import Store


@dataclass(frozen=True)
class Metric:
    name: str
    direction: str | None = "min"
    unit: str = ""
    percent: bool = False
    shown: bool = False


SPEC = {"task": "cnn", "optimizer": "sgd"}


def test_a_run_brings_what_its_task_says(store: Store) -> None:
    metrics = (Metric("reward", "max", "points"), Metric("accuracy", "max", percent=True), Metric("norm", None))
    run = store.runs.begin(SPEC, spec_id="s", provenance={}, metrics=metrics)
    assert store.runs.get(run.id).objective == "best_val_reward"
    found = store.runs.metric_facts()
    assert len(found) == 15
    assert found["cnn", "test_reward"] == MetricFact("cnn", "test_reward", "max", "points", False)
    assert found["cnn", "train_accuracy"] == MetricFact("cnn", "train_accuracy", "max", "", True)
    assert found["cnn", "val_norm"].direction is None
    assert store.runs.metric_names() == []  # they are not results yet
    store.runs.begin(SPEC, spec_id="s", provenance={}, metrics=(Metric("reward", "min", "points"),))
    assert store.runs.metric_facts()["cnn", "best_val_reward"].direction == "min"
    assert store.runs.metric_facts()["cnn", "val_accuracy"].direction == "max"


def test_the_best_value_is_the_objectives(store: Store) -> None:
    run = store.runs.begin(SPEC, spec_id="s", provenance={}, metrics=(Metric("reward", "max"),))
    ended = store.runs.finish(run.id, "completed", results={"best_val_reward": 4.0, "best_val_loss": 1.0})
    assert ended.best == 4.0
    plain = store.runs.finish(store.runs.begin(SPEC, spec_id="s", provenance={}).id, "failed")
    assert (plain.objective, plain.best) == ("best_val_loss", None)


@pytest.mark.parametrize("mine", ["max", None])
def test_a_merge_brings_facts_that_are_missing(store: Store, tmp_path: Path, mine: str | None) -> None:
    store.runs.begin(SPEC, spec_id="s", provenance={}, metrics=(Metric("loss", mine),))
    with Store.open(tmp_path / "other.db") as other:
        other.runs.begin(SPEC, spec_id="s", provenance={}, metrics=(Metric("loss", "min"), Metric("reward", "max")))
        store.merge(other)
    found = store.runs.metric_facts()
    assert (found["cnn", "val_loss"].direction, found["cnn", "val_reward"].direction) == (mine, "max")
