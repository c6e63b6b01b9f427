"""What is shown of the runs of commands (`--command`) and of comparisons, without running any."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vrcli.cli.compare_display import CompareDisplay
from vrcli.cli.runs import by_commands, shortened
from vrcli.cli.runs_show import settings_facts
from vrcli.db.records import RunRecord
from vrcli.db.store import Store
from vrcli.record.command import reference
from vrcli.report.study.blocks import Next
from vrcli.report.study.compare import compare_blocks
from vrcli.report.study.sweep import fresh_json
from vrcli.report.tables.runs import settings_texts
from vrcli.results.single import optimizers_beside
from vrcli.study import events as e
from vrcli.study.results import Arm, CompareResult, FreshRun
from vrcli.tasks.base import Metric

COMMAND = "t {lr} {opt} {seed}"


@pytest.fixture
def of(stored: Callable[..., int], tmp_path: Path) -> Callable[..., RunRecord]:
    """A stored run as if it were of a command."""

    def made(text: str, code: str, optimizer: str = "SGD", **more: Any) -> RunRecord:
        run = stored(optimizer, task="t", provenance={"task": reference(text, name="t")}, **more)
        with Store.open(tmp_path / "vr.db", mode="read") as store:
            found = store.runs.get(str(run))
        training = {"until": "commands:1", "batch_size": 128}
        return replace(found, spec_json=json.dumps({**found.spec, "training": training, "code": {"task": code}}))

    return made


def test_two_commands_of_one_name_are_told_apart_by_a_person(of: Callable[..., RunRecord]) -> None:
    runs = [of(COMMAND, "command 1"), of(COMMAND + " --wide", "command 2", seed=1)]
    one, other = settings_texts(by_commands(runs))
    assert one == f"command='{COMMAND}' lr=0.01"
    assert other == f"command='{COMMAND} --wide' lr=0.01"
    assert settings_texts(by_commands(runs[:1])) == ["lr=0.01"]


def test_runs_before_and_after_an_edit_stay_apart(of: Callable[..., RunRecord]) -> None:
    runs = [of(COMMAND, "command 1"), of(COMMAND, "command 2", seed=1)]
    assert settings_texts(by_commands(runs)) == ["lr=0.01 task_code=command 1", "lr=0.01 task_code=command 2"]


def test_a_run_of_no_command_stays_as_it_is(stored: Callable[..., int], tmp_path: Path) -> None:
    with Store.open(tmp_path / "vr.db", mode="create") as store:
        run = store.runs.get(str(stored("SGD")))
    assert by_commands([run]) == [run]


def test_long_commands_lose_their_middle_unless_they_differ_there() -> None:
    begin, end = "python train.py " + "-a " * 20, "-b " * 20 + "--seed {seed}"
    [short] = shortened([begin + end])
    assert short == f"{begin[:30]} ... {end[-30:]}"
    both = [begin + "--wide " + end, begin + "--deep " + end]
    assert shortened(both) == both


def test_settings_of_the_training_are_not_those_of_a_command(of: Callable[..., RunRecord]) -> None:
    assert [section for section, _ in settings_facts(of(COMMAND, "command 1"))] == ["task", "optimizer"]


def test_optimizers_that_the_same_command_has_taken(of: Callable[..., RunRecord], tmp_path: Path) -> None:
    run = of(COMMAND, "command 1")
    of(COMMAND, "command 1", "Adam", seed=1)
    of(COMMAND, "command 1", "LBFGS", seed=2, status="diverged")
    of(COMMAND + " -x", "command 2", "Muon", seed=3)
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        assert optimizers_beside(store, run) == ["Adam"]


def test_each_run_of_a_comparison_has_a_line_with_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    display = CompareDisplay(quiet=False, summary=False)
    runs = [
        SimpleNamespace(id=7, status="completed", results={"best_val_loss": 1.23456e-6}),
        SimpleNamespace(id=8, status="failed", results={}),
        SimpleNamespace(id=9, status="diverged", results={"best_val_loss": 0.5}),
        None,
    ]
    display.told(e.RunsPlanned(len(runs), "fresh", "best_val_loss"))
    for at, run in enumerate(runs):
        display.told(e.RunEnded(at, "SGD", at, run))
    lines = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert lines[1:] == [
        "1/4 SGD seed 0 run 7 best val loss 1.235e-06",
        "2/4 SGD seed 1 run 8 failed",
        "3/4 SGD seed 2 run 9 diverged",
        "4/4 SGD seed 3 failed",
    ]


def fresh(*runs: FreshRun) -> dict[str, Any]:
    search: Any = SimpleNamespace(fresh=runs, definition=SimpleNamespace(objective="gap", direction="min"))
    return fresh_json(search)


def test_small_values_on_fresh_seeds_are_not_zero() -> None:
    found = fresh(*(FreshRun(seed, "completed", value) for seed, value in ((1, 1.0e-6), (2, 1.2e-6))))
    assert found["text"] == "1.100e-06 sd 1.4e-07 (n = 2)"
    assert found["val_gap"] == [1.0e-6, 1.2e-6]


def test_a_fresh_seed_that_diverged_is_not_left_out_of_the_mean() -> None:
    found = fresh(FreshRun(1, "completed", 0.5), FreshRun(2, "diverged", None))
    assert found["text"] == "NaN (n = 2), seed 2 diverged"
    assert (found["mean"], found["sd"], found["n"], found["val_gap"]) == (None, None, 2, [0.5, None])


def outcome(task: str, **more: Any) -> tuple[str, list[str]]:
    """The heading of an untuned comparison of one optimizer that is left, and the commands that follow."""
    runs = [
        SimpleNamespace(
            task="t", dataset="d", preset="quick", optimizer="SGD", seed=seed, status="completed", settings={},
            results={"test_loss": 1.0 + seed, "best_val_loss": 1.0}, objective="best_val_loss",
        )
        for seed in (1, 2)
    ]  # fmt: skip
    result = CompareResult(
        task, "quick", "test_loss", "min", 0.95, 0, 2, 0, [Arm("SGD", 0, {}, (1, 2))], {"SGD": [runs]},
        {"SGD": [[2.0, 3.0]]}, None, [], metrics=[Metric("loss", "min")], **more,
    )  # fmt: skip
    head, *_, last = compare_blocks(result)
    assert isinstance(last, Next)
    return str(head), [step.text for step in last.steps]


def test_only_what_can_work_follows_a_comparison() -> None:
    head, steps = outcome("cnn")
    assert head == "t · d · quick · test loss at the best validation epoch"
    assert steps == ["vr compare ... --trials 8", "vr compare ... --explain"]
    head, steps = outcome(reference(COMMAND), searchable=False)
    assert (head, steps) == ("t · d · quick · test loss", ["vr compare ... --explain"])
    assert outcome("cnn", failed={"adamw": "seed 1: run 2 failed"})[1] == ["vr runs list --status failed"]
