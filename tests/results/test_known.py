"""What tasks said of their metrics, read from the database."""

from __future__ import annotations

from typing import Any

import pytest

from vrcli.db.store import Store
from vrcli.results.known import known_of
from vrcli.results.types import Declared
from vrcli.tasks.base import Metric
from vrcli.tasks.registry import load


@pytest.fixture
def store(tmp_path: Any) -> Any:
    with Store.open(tmp_path / "vr.db") as opened:
        for task in ("gflownet", "cnn"):
            opened.runs.begin(
                {"task": task, "optimizer": "sgd"}, spec_id=task, provenance={}, metrics=load(task).metrics
            )
        other = (Metric("loss", "min"), Metric("reward", "min"))
        opened.runs.begin({"task": "other", "optimizer": "sgd"}, spec_id="o", provenance={}, metrics=other)
        yield opened


def test_what_tasks_declare_decides_which_way_a_metric_is_better(store: Store) -> None:
    known = known_of(store, ["gflownet", "cnn", "gone:Gone", "gflownet"])
    assert known["val_reward"] == known["test_reward_max"] == Declared("max")
    assert known["best_val_loss"] == known["val_loss_se"] == Declared("min")
    assert known["final_val_accuracy"] == Declared("max", percent=True)
    shown = {name for name in known if name.startswith("val_") and known[name].shown}
    assert shown == {"val_diversity", "val_length", "val_distinct"}
    assert known_of(store, ["gflownet", "other"])["val_reward"] == Declared(None)
    assert known_of(store, ["other"])["val_reward"] == Declared("min")
    assert known_of(store, []) == {}
