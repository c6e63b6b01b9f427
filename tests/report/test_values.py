"""Which values of runs are shown, and in which order, where the objective is not the loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vrcli.report.tables.runs import list_rows
from vrcli.results.summary import summarise


@pytest.mark.parametrize(
    ("sort", "expected"), [("best_val_accuracy", ["a", "b"]), ("-best_val_accuracy", ["b", "a"]), ("lr", ["b", "a"])]
)
def test_the_best_is_first_where_more_is_better(make_run: Any, sort: str, expected: list[str]) -> None:
    runs = [
        make_run("b", 0, 0.1, lr=0.1, results={"best_val_accuracy": 0.5}),
        make_run("a", 0, 0.1, lr=0.2, results={"best_val_accuracy": 0.9}),
    ]
    assert [row.optimizer for row in summarise(runs, sort=sort).rows] == expected


@pytest.mark.parametrize(
    ("objective", "expected"), [("best_val_q", "0.7000"), ("val_q", "0.7000"), ("best_val_other", "9.000")]
)
def test_the_test_value_is_that_of_the_objective(make_run: Any, objective: str, expected: str) -> None:
    run = replace(make_run("a", 0, 0.1, results={"test_loss": 9.0, "test_q": 0.7}), objective=objective)
    assert [row["test"] for row in list_rows([run], {})] == [expected]
