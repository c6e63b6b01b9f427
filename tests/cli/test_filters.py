"""Options that select runs: what they keep, and that a misspelt one is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from vrcli.cli.filters import Beside, Filter
from vrcli.cli.options import unpacked
from vrcli.db.store import Store
from vrcli.errors import UsageError
from vrcli.results import filter


@pytest.fixture
def store(stored: Callable[..., int], tmp_path: Path) -> Any:
    stored("adamw", loss=0.2)
    stored("vradam", loss=0.1, beta3=1.0, tag="mine")
    stored("adamw", task="transformer", dataset="words", loss=4.0, lr=0.5)
    with Store.open(tmp_path / "vr.db", mode="read") as opened:
        yield opened


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, {1, 2, 3}),
        ({"tasks": ["cnn"]}, {1, 2}),
        ({"opts": ["adamw"]}, {1, 3}),
        ({"tag": "mine"}, {2}),
        ({"where": ["lr>0.1"]}, {3}),
        ({"where": ["best_val_loss<3", "beta3=1"]}, {2}),
        ({"since": "1h"}, {1, 2, 3}),
        ({"status": "completed"}, {1, 2, 3}),
        ({"status": "running"}, set()),
        ({"opts": ["adamw", "sgd"]}, {1, 3}),
    ],
)
def test_runs_are_selected(store: Store, asked: dict[str, Any], expected: set[int]) -> None:
    assert {run.id for run in Filter(**asked).select(store)} == expected


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"tasks": ["cnn", "transfomer"]}, "task transfomer: no stored run has it; did you mean transformer"),
        ({"tasks": ["gflownet"]}, "task gflownet: no stored run has it; stored: cnn, transformer"),
        ({"opts": ["adamm"]}, "--opt adamm: .*did you mean adamw"),
        ({"tag": "mien"}, "--tag mien: .*did you mean mine"),
        ({"preset": "paper"}, "--preset paper: .*stored: quick"),
        ({"group": "g"}, "--group g: no stored run has it$"),
        ({"status": "runing"}, "--status runing is not a status of a run; did you mean running"),
        ({"since": "2999-01-01"}, "none of the 3 stored runs matches --since 2999-01-01"),
        ({"where": ["lr=>1"]}, "^--where 'lr=>1' is not a condition; write NAME=VALUE, with =, !=, <, <=, > or >="),
        (
            {"where": ["lr>1 lr=>1"]},
            "--where 'lr>1 lr=>1': 'lr=>1' is not a condition; write NAME=VALUE, with =, !=, <, <=, > or >=",
        ),
        ({"tasks": ["cnn"], "where": ["lr>5"]}, "none of the 3 stored runs matches cnn --where 'lr>5'"),
    ],
)
def test_what_matches_nothing_is_refused(store: Store, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Filter(**asked).select(store)


def test_a_limit_takes_the_newest_that_match(store: Store) -> None:
    assert [run.id for run in Filter().select(store, limit=2)] == [3, 2]
    assert [run.id for run in Filter(where=["task=cnn"]).select(store, limit=1)] == [2]


def test_an_empty_database_is_no_fault(tmp_path: Path) -> None:
    with Store.open(tmp_path / "empty.db") as store:
        assert Filter(tasks=["cnn"], opts=["adamw", "sgd"]).select(store) == []


def test_a_command_gets_the_options_as_one_filter() -> None:
    got: dict[str, Any] = {}

    def command(before: int, chosen: Filter, after: str = typer.Option("x", "--after")) -> None:
        """What it does."""
        got.update(before=before, chosen=chosen, after=after)

    app = typer.Typer()
    app.command()(unpacked(command))
    call = CliRunner().invoke
    words = ["--opt", "a", "2", "cnn", "--opt", "b", "--preset", "p", "--tag", "t", "--group", "g", "--sweep", "3"]
    done = call(app, [*words, "--where", "lr>1", "--since", "7d", "--after", "y"])
    assert done.exit_code == 0, done.output
    assert got == {
        "before": 2, "after": "y",
        "chosen": Filter(["cnn"], ["a", "b"], "p", "t", "g", ["3"], ["lr>1"], "7d"),
    }  # fmt: skip
    assert call(app, ["2"]).exit_code == 0
    assert got["chosen"].words() == ""
    shown = call(app, ["--help"]).output
    assert "What it does." in shown
    assert "--chosen" not in shown
    places = [shown.index(f"--{name}") for name in ("opt", "preset", "tag", "group", "sweep", "where", "since")]
    assert places == sorted(places)


def test_every_field_of_a_filter_is_an_option() -> None:
    names = [field.name for field in dataclasses.fields(filter.Filter)]
    assert [*[one.name for one in Beside.parameters()], "registered"] == names
