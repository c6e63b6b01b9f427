"""What a run came to, in words, and what to type next."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vrcli.cli.scaffold.task_template import Spirals
from vrcli.record.command import reference
from vrcli.report.study.runs import outcome_lines, run_rows, run_steps
from vrcli.tasks.base import Metric
from vrcli.tasks.registry import load


@pytest.fixture
def record() -> Any:
    return SimpleNamespace(
        id=1, name="a-b", status="completed", objective="best_val_accuracy", error=None, task="spirals", dataset="d",
        optimizer="sgd", seed=0, preset="quick", results={"best_val_accuracy": 0.58, "test_accuracy": 0.5},
        provenance={"task": "mine:Spirals"}, spec={"task_settings": {"dataset": ""}},
    )  # fmt: skip


def test_an_objective_in_per_cent_is_shown_as_the_rows_above_it(record: Any) -> None:
    metrics = [Metric("accuracy", "max", percent=True)]
    assert "best val accuracy 58.0 %" in outcome_lines(record, metrics)[0]
    assert "58.0 %" in str(run_rows([record], metrics))


def test_a_task_of_ones_own_is_named_by_where_it_is(record: Any) -> None:
    assert run_steps(record, Spirals)[-1].command == "vr compare mine:Spirals --opt sgd --opt adamw"


def test_the_next_step_keeps_what_was_trained_on(record: Any) -> None:
    record.spec["task_settings"]["dataset"] = "my data"
    record.preset = "smoke"
    words = "vr compare mine:Spirals --opt sgd --opt adamw --dataset 'my data' --preset smoke"
    assert run_steps(record, Spirals)[-1].command == words


def test_a_command_is_compared_with_an_optimizer_that_it_is_known_to_take(record: Any) -> None:
    task = load(reference("t {lr} {opt} {seed}"))
    record.optimizer, record.spec["optimizer_settings"] = "SGD", {"lr": 0.1}
    assert [step.command for step in run_steps(record, task)] == ["vr runs show 1"]
    [_, step] = run_steps(record, task, ["Adam", "LBFGS"])
    words = "vr compare t --command 't {lr} {opt} {seed}' --metric loss:min --opt SGD --opt Adam --fix lr=0.1"
    assert step.command == words
    assert len(run_steps(record, load(reference("t {lr} {seed}")), ["Adam"])) == 1
