"""Any command as a task: what it reports is recorded, and what it cannot do is said in one line."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slope import COMMAND, SCRIPT, alive, curve, stored, until, words

from vrcli.db.store import Store
from vrcli.errors import UsageError
from vrcli.record.command import compared, filled, names_in, objective_of, reference
from vrcli.tasks.registry import load


def test_a_command_is_a_run_like_any_other(folder: Path, vr: Callable[..., Any]) -> None:
    done = vr(*words("--opt", "fast", "--seed", "3", "--dataset", "slope", "--format", "json"))
    assert done.code == 0, done.err
    assert "lr eff" not in done.err
    assert "samples/s" not in done.err
    [run] = stored(folder)
    assert (run.task, run.optimizer, run.seed, run.dataset, run.status) == ("train", "fast", 3, "slope", "completed")
    assert {"lr": 0.05, "trouble": "none"}.items() <= run.settings.items()
    steps, losses = curve(folder, run.id, "train_loss")
    assert steps == list(range(1, 21))
    assert curve(folder, run.id, "val_loss")[0] == [5, 10, 15, 20]
    assert curve(folder, run.id, "val_depth")[0] == [5, 10, 15, 20]
    assert run.results["best_val_loss"] == pytest.approx(losses[-1] + 0.01)
    assert run.results["test_loss"] == pytest.approx(losses[-1] + 0.02)
    assert run.results["steps"] == 20
    shown = vr("runs", "show", str(run.id))
    assert "repeat it with" in shown.out
    line = shown.out.strip().splitlines()[-1].strip()
    assert line.startswith("vr run train --command ")
    assert "--lr 0.05" in line
    assert "--dataset slope" in line
    assert "--seed 3" in line


def test_a_run_of_a_command_is_repeated(folder: Path, vr: Callable[..., Any]) -> None:
    assert vr(*words("--opt", "fast")).code == 0
    again = vr("runs", "rerun", "1")
    assert again.code == 0, again.err
    assert "same curves as run 1, bit for bit" in again.err + again.out
    assert vr("runs", "resume", "1").err == "vr: run 1 completed; vr runs rerun 1 trains it again\n"


def test_an_edit_of_the_script_begins_another_configuration(folder: Path) -> None:
    task = load(reference(COMMAND))
    first = task.identity()
    (folder / "train.py").write_text(SCRIPT + "\n# edited\n")
    assert task.identity() != first
    assert load(reference(COMMAND + " --more")).identity() != task.identity()


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("silent", "the command reported no val_loss; --metric NAME names another objective"),
        ("unmeasured", "the command reported no val_loss"),
        ("twice", "train_loss was recorded at step 7 already; steps must increase, got 7"),
        ("back", "train_loss was recorded at step 6 already; steps must increase, got 3"),
        ("stepless", "the command reported train_loss without a step"),
        ("text", "a step must be a whole number from 0 on, got 'seven'"),
        ("null", "the command reported val_loss null; it must be a number"),
        ("word", 'the command reported val_loss "0.3"; it must be a number'),
        ("fail", "the command ended with exit code 5: all is lost"),
        ("long", f"the command ended with exit code 1: begin {'x' * 94} ... {'x' * 96} end"),
    ],
)
def test_what_goes_wrong_is_said_and_what_was_reported_kept(
    folder: Path, vr: Callable[..., Any], trouble: str, why: str
) -> None:
    done = vr(*words("--opt", "slow", trouble=trouble))
    assert done.code == 1
    assert why in done.err
    [run] = stored(folder)
    assert run.status == "failed"
    assert why in run.error
    if trouble != "silent":
        assert curve(folder, run.id, "train_loss")[0][:6] == [1, 2, 3, 4, 5, 6]
    if trouble == "fail":
        with Store.open(folder / "vr.db") as store:
            assert store.artifacts.read(run.id, "stderr.txt") == b"all is lost\n"


def test_a_loss_that_is_no_number_ends_the_command(folder: Path, vr: Callable[..., Any]) -> None:
    assert vr(*words("--opt", "slow", trouble="nan")).code == 1
    [run] = stored(folder)
    assert (run.status, run.error) == ("diverged", "loss not finite at step 7")


def test_a_command_that_diverged_has_time_to_tidy_up(folder: Path, vr: Callable[..., Any]) -> None:
    assert vr(*words("--opt", "slow", trouble="tidy")).code == 1
    assert stored(folder)[0].status == "diverged"
    assert (folder / "tidied").exists()


def test_a_last_line_without_a_line_end_counts(folder: Path, vr: Callable[..., Any]) -> None:
    assert vr(*words("--opt", "slow", trouble="unended")).code == 0
    assert "test_loss" in stored(folder)[0].results


@pytest.mark.slow
def test_the_next_command_works_where_another_optimizer_can_be_named(folder: Path, vr: Callable[..., Any]) -> None:
    (folder / "other.py").write_text(SCRIPT.replace("sys.argv[2]", "'none'"))
    braces = f"{sys.executable} other.py {{lr}} {{{{opt}}}} {{seed}} none"
    done = vr("run", "--command", braces, "--lr", "0.05", "--threads", "1")
    assert done.code == 0, done.err
    assert "vr runs show 1" in done.out
    assert "vr compare" not in done.out
    assert "vr compare" not in vr(*words("--opt", "slow")).out  # which other words it takes nobody knows
    done = vr(*words("--opt", "fast"))
    [line] = [line for line in done.out.splitlines() if "vr compare" in line]
    command = line[line.index("vr compare") :].partition("  ")[0]
    done = vr(*shlex.split(command)[1:], "--seeds", "2", "--threads", "1", "--format", "json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["verdicts"]
    done = vr(*shlex.split(command)[1:], "--seeds", "2", "--threads", "1")
    assert " · test loss\n" not in done.out
    assert " · best val loss" in done.out
    assert "--explain" in done.out
    assert "--trials" not in done.out  # there is nothing to search


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
def test_a_comparison_of_which_a_part_failed(folder: Path, vr: Callable[..., Any]) -> None:
    (folder / "train.py").write_text(SCRIPT + "\nif optimizer == 'none':\n    sys.exit('no such optimizer')\n")
    some = words("--opt", "slow", "--opt", "none", "--fix", "lr=0.1", "--seeds", "2", verb="compare")
    done = vr(*some, "--metric", "depth:min")
    assert done.code == 1
    assert re.search(r"1/4  slow +seed 1 +run 1 +best val depth [0-9.e]+\n", done.err), done.err
    assert re.search(r"2/4  none +seed 1 +run 2 +failed\n", done.err), done.err
    assert [line for line in done.out.splitlines() if "vr " in line] == [
        "next  vr runs list --status failed   the runs that failed; vr runs show says more of each"
    ]
    listed = vr("runs", "list", "--status", "failed")
    assert "none" in listed.out


def test_what_the_command_left_behind_ends_with_it(folder: Path, vr: Callable[..., Any]) -> None:
    """Also a process that left its group, and its parent before it."""
    (folder / "stray.py").write_text(
        "import os, subprocess, sys\n"
        "stray = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "open('pid', 'w').write(str(stray.pid))\n"
        'print(\'{"step": 1, "val_loss": 1.0}\')\n'
    )
    assert vr("run", "--command", f"{sys.executable} stray.py {{seed}}", "--threads", "1").code == 0
    until(lambda: not alive(folder), 10)


def test_a_time_limit_ends_the_command(folder: Path, vr: Callable[..., Any]) -> None:
    done = vr(*words("--opt", "slow", "--time-limit", "1", trouble="endless"))
    assert done.code == 1
    [run] = stored(folder)
    assert (run.status, run.error) == (
        "failed", "RuntimeError: the command took longer than --time-limit 1 seconds",
    )  # fmt: skip
    assert curve(folder, run.id, "train_loss")[0][0] == 1


@pytest.mark.parametrize(
    ("command", "more", "words"),
    [
        ("t {lr} {sead}", ("--opt", "a"), "--command has no {seed}: runs that differ in nothing cannot repeat"),
        ("t {lr} {seed}", ("--opt", "a"), "--opt a: --command has no {opt} to put it in"),
        ("t {lr} {seed} {opt}", ("--lr", "1"), "--command has {opt}; give --opt"),
        ("t {lr} {seed}", (), "--command: {lr} has no value; --lr or --fix lr=VALUE gives one"),
        ("t {lr} {sede} {seed}", ("--lr", "1"), "--command: {sede} has no value; did you mean seed?"),
        ("t {lr} {seed}", ("--lrr", "1"), "--lrr is not a setting of unknown or t; did you mean --lr?"),
        ("t {lr.x} {seed}", (), "--command: {lr.x} is not a name"),
        ("t {lr:g} {seed}", (), "--command: {lr} is not a name"),
        ("t {lr {seed}", (), "--command t {lr {seed}:"),
        ("t 'a {seed}", (), "--command t 'a {seed}: No closing quotation"),
        ("t {seed}", ("--metric", "zeal"), "--metric zeal: say which is better, less or more: --metric zeal:min"),
        ("t {seed} {__class__}", (), "--command: {__class__} cannot be the name of a setting; give it another name"),
        ("t {seed} {model_fields}", (), "--command: {model_fields} cannot be the name of a setting"),
        ("t {seed} {db}", (), "--command: {db} is what --db says; give it another name"),
        ("t {seed} {time_limit}", (), "--command: {time_limit} is what vr takes itself; give it another name"),
        ("no-such-program {seed}", (), "--command: no-such-program: there is no such program"),
        ("./train.py {seed}", (), "--command: ./train.py: it cannot be executed"),
        ("python other.py {seed}", (), "--command: other.py: there is no such file in "),
        ("t {seed}", ("--time-limit", "0"), "--time-limit must be > 0, got 0"),
        ("t {seed} " + " ".join(str(n * n * n) for n in range(1000, 1100)), (), "--command is too long"),
        ("t {seed}", ("--epochs", "3"), "--epochs is not a setting of unknown or t"),
    ],
)
def test_bad_words_are_refused_in_one_line(
    folder: Path, vr: Callable[..., Any], command: str, more: tuple[str, ...], words: str
) -> None:
    done = vr("run", "--command", command, *more)
    assert done.code == 2, done.err
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (folder / "vr.db").exists()


def test_searches_refuse_names_without_a_value(folder: Path, vr: Callable[..., Any]) -> None:
    for more, why in (
        (("--space", "lrr=1:2"), "--space lrr: slow has no setting of that name; did you mean lr?"),
        (("--space", "lr=log:1e-3:1"), "--command: {trouble} has no value"),
        (
            ("--fix", "trouble=none", "--fix", "lr=1"),
            "nothing is left to search for slow; give a setting a range, and no --fix: "
            "--space lr=LOW:HIGH or trouble=LOW:HIGH",
        ),
    ):
        done = vr("sweep", "--command", COMMAND, "--opt", "slow", "--trials", "2", *more)
        assert done.code == 2, done.err
        assert why in done.err
    done = vr("compare", "--command", COMMAND, "--opt", "slow", "--opt", "fast", "--fix", "lr=1")
    assert done.code == 2
    assert "--command: {trouble} has no value" in done.err
    assert not (folder / "vr.db").exists()


def test_metric_is_for_commands(folder: Path, vr: Callable[..., Any]) -> None:
    done = vr("run", "cnn", "--metric", "val_loss")
    assert done.code == 2
    assert "--metric needs --command; a task has its own objective" in done.err


def test_names_values_and_objectives() -> None:
    assert names_in("a {b} {c} {b} {{d}}") == ["b", "c"]
    values = {"a": "two words", "b": True, "c": 1e-05}
    assert filled("x {a} '{b} y' -c={c} {{}}", values) == ["x", "two words", "true y", "-c=1e-05", "{}"]
    assert objective_of(None) == ("loss", "min")
    assert objective_of("val_accuracy") == ("accuracy", "max")
    assert objective_of("test_regret:min") == ("regret", "min")
    assert [compared(text) for text in (None, "val_loss", "test_loss", "loss")] == [
        None, "best_val_loss", "test_loss", "best_val_loss",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="--metric loss:less"):
        objective_of("loss:less")


@pytest.mark.parametrize("word", ["-_- a", "~?/" * 9, "x" * 400, "{a}" * 3])
def test_every_process_finds_a_command_by_its_reference(word: str) -> None:
    command = f"t {{seed}} {word}"
    assert load(reference(command, "regret:min", "my-own")).command == command


def test_settings_from_words_are_those_of_a_search() -> None:
    task = load(reference("t {a} {b} {c} {seed}", "val_loss", "my-own"))
    assert task.name == "my-own"
    assert task.own_optimizers is not None
    assert task.own_optimizers(a="0.5", b="true", c="x").model_dump() == {"a": 0.5, "b": True, "c": "x"}


def test_a_search_and_a_comparison_of_words(folder: Path, vr: Callable[..., Any], inline: None) -> None:
    space = ("--space", "lr=log:1e-3:1e-1")
    done = vr(*words(*space, "--opt", "slow", "--trials", "2", "--format", "json", verb="sweep"))
    assert done.code == 0, done.err
    [search] = json.loads(done.out)["sweeps"]
    assert 1e-3 <= search["best_params"]["lr"] <= 1e-1
    again = words(*space, "--opt", "slow", "--opt", "fast", "--trials", "2", "--searches", "2", "--seeds", "2",
                  "--metric", "test_loss", "--format", "json", verb="compare")  # fmt: skip
    done = vr(*again)
    assert done.code == 0, done.err
    assert json.loads(done.out)["verdicts"]
    runs = stored(folder)
    assert {run.status for run in runs} == {"completed"}
    assert vr(*again).code == 0
    assert len(stored(folder)) == len(runs)
    report = vr("report", "train")
    assert report.code == 0, report.err
    assert "10 epochs" not in report.out
    assert "x 10" not in report.out
