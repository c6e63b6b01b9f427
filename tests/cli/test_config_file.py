"""`--config`: a file says what flags say, and a flag wins over it."""

from __future__ import annotations

import inspect
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import pytest

import vrcli
from tests.conftest import SPIRALS, Result
from vrcli.cli.config_file import ON_THE_LINE, read
from vrcli.cli.lazy import load
from vrcli.settings import FROM_FILE, resolve
from vrcli.tasks.registry import load as task_of

COMMANDS = ("run", "sweep", "compare")
BASE = f'task = "{SPIRALS}"\npreset = "smoke"\nthreads = 1\n'
SMALL = "epochs = 1\npoints = 40\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes my.toml into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        (tmp_path / "my.toml").write_text(text)
        return "my.toml"

    return write


def specs(path: Path) -> list[dict[str, Any]]:
    with sqlite3.connect(path) as connection:
        return [json.loads(spec) for (spec,) in connection.execute("SELECT spec FROM runs ORDER BY id")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_can_stand_in_a_file(name: str, write: Callable[[str], str]) -> None:
    command = load(name)
    hints = get_type_hints(inspect.unwrap(command.callback))
    values: dict[Any, tuple[str, Any]] = {bool: ("true", True), int: ("7", 7), float: ("0.5", 0.5)}
    lines, wanted = [], {}
    for param in command.params:
        if param.name in (*ON_THE_LINE, "ctx"):
            continue
        kind = hints[param.name]
        text, value = next((v for one, v in values.items() if kind in (one, one | None)), ('"word"', "word"))
        flag = next((flag[2:] for flag in param.opts if flag.startswith("--")), param.name)
        lines.append(f"{flag} = {text}")
        wanted[param.name] = [value] if get_origin(kind) is list else value
    assert len(wanted) > 15
    found = read(write("\n".join(lines)), command)
    assert found.options == wanted
    assert found.settings == {}


@pytest.mark.slow
def test_a_comparison_is_all_in_a_file(vr: Callable[..., Result], write: Callable[[str], str], tmp_path: Path) -> None:
    file = write(
        BASE + SMALL + 'db = "mine.db"\nseeds = 2\nseed = 4\nformat = "json"\ntag = "filed"\n'
        '[opt.adamw]\nweight-decay = 0.125\n[opt."sgd@still"]\nmomentum = 0.5\n[opt.sgd]\n'
    )
    done = vr("compare", "--config", file, "--seed", "0")
    assert done.code == 0, done.err
    assert list(json.loads(done.out)["optimizers"]) == ["adamw", "sgd@still", "sgd"]
    stored = specs(tmp_path / "mine.db")
    assert {one["seed"] for one in stored} == {1, 2}
    own = [(one["optimizer"], one["optimizer_settings"]) for one in stored]
    assert {one["weight_decay"] for name, one in own if name == "adamw"} == {0.125}
    assert {one["momentum"] for name, one in own if name == "sgd"} == {0.5, 0.0}  # the variant's, and the usual
    assert not (tmp_path / "vr.db").exists()


@pytest.mark.slow
def test_a_sweeps_spaces_are_tables(vr: Callable[..., Result], write: Callable[[str], str], tmp_path: Path) -> None:
    file = write(
        BASE + SMALL + 'opt = ["adamw", "sgd"]\ntrials = 2\nplan = true\nformat = "json"\nequal = ["lr"]\n'
        '[space]\nlr = "log:1e-4:1e-2"\n[space.sgd]\nlr = [0.5, 0.25]\n'
    )
    done = vr("sweep", "--config", file)
    assert done.code == 0, done.err
    assert not list(tmp_path.glob("*.db"))
    found = vrcli.plan(config=file)
    spaces = {one.definition.optimizer: one.definition.space for one in found.result.searches}
    assert {name: list(space) for name, space in spaces.items()} == {"adamw": ["lr"], "sgd": ["lr"]}
    assert spaces["sgd"]["lr"] != spaces["adamw"]["lr"]


def test_functions_take_the_same_file(vr: Callable[..., Result], write: Callable[[str], str]) -> None:
    file = write(BASE + SMALL + 'opt = "sgd"\nseeds = 2\ndb = "mine.db"\nquiet = true\n[optimizer]\nmomentum = 0.5\n')
    assert vr("run", "--config", file).code == 0
    found = vrcli.run(config=file, seeds=1, momentum=0.25)
    first, _, mine = specs(Path("mine.db"))
    assert len(found.runs) == 1
    assert (first["optimizer"], first["optimizer_settings"]["momentum"]) == ("sgd", 0.5)
    assert (mine["optimizer"], mine["optimizer_settings"]["momentum"]) == ("sgd", 0.25)


def test_what_a_file_sets_says_so() -> None:
    origins = resolve(task_of("cnn"), "sgd", config={"lr": 0.5, "epochs": 3}, flags={"epochs": 2}).origins
    assert (origins["lr"], origins["epochs"]) == (FROM_FILE, "flag")


@pytest.mark.slow
def test_an_end_on_the_command_line_replaces_the_files(vr: Callable[..., Result], write: Callable[[str], str]) -> None:
    file = write(BASE + 'opt = ["adamw", "sgd"]\nseeds = 2\nuntil = "steps:1"\nquiet = true\n')
    assert vr("compare", "--config", file, "--epochs", "1", "--points", "40").code == 0
    assert {one["training"]["epochs"] for one in specs(Path("vr.db"))} == {1}


def test_files_are_completed_from(vr: Callable[..., Result], write: Callable[[str], str]) -> None:
    """The settings of the task and the optimizer in the file are options beside it."""
    file = write(BASE + "[opt.sgd]\nlr = 0.5\n")
    assert "--nesterov" in vr("run", "--config", file, "--help").out


REFUSED = {
    "unknown": ("trails = 4", "config file: trails is not a setting of adamw or spirals; did you mean trials?"),
    "of another command": ("prune = 'median'", "config file: prune is an option of another command; remove it here"),
    "text for a number": ("trials = '4'", "--config my.toml: trials must be a whole number, got '4'"),
    "a fraction": ("trials = 2.5", "--config my.toml: trials must be a whole number, got 2.5"),
    "a number for a switch": ("vary-split = 1", "--config my.toml: vary_split must be true or false, got 1"),
    "a switch for a number": ("level = true", "--config my.toml: level must be a number, got true"),
    "a switch for text": ("metric = true", "--config my.toml: metric must be text, got true"),
    "a table for text": ("[search]\nx = 1", "--config my.toml: search must be text, got a table"),
    "no table": ("[spce]\nlr = 1", "--config my.toml: unknown table [spce]; did you mean space?"),
    "not in a file": ("debug = true", "--config my.toml: debug belongs on the command line"),
    "twice": ("epochs = 1\n[training]\nepochs = 2", "--config my.toml: epochs is given twice"),
    "a setting's value": ("epochs = 'x'", "config file: epochs must be a whole number, got 'x'"),
    "no setting of the optimizer": ("[opt.sgd]\nlrr = 1\n[opt.adamw]", "config file: lrr is not a setting of sgd"),
    "no optimizer": ("[opt]", "--config my.toml: opt has no optimizer"),
    "an empty list of optimizers": ("opt = []", "--config my.toml: opt has no optimizer"),
    "a number for an optimizer": ("opt = 3", "--config my.toml: opt must be text, got 3"),
    "a number for a database": ("db = 3", "--config my.toml: db must be text, got 3"),
    "no such table": ("[qqqqqq]\nx = 1", "unknown table [qqqqqq]; tables are [task], [training], [optimizer]\n"),
    "nested too deeply": (f"space = {'[' * 3000}", "--config my.toml is not TOML that can be read: it is nested"),
    "no table of an optimizer": ("[opt]\nsgd = 1", "--config my.toml: opt.sgd must be a table of settings"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_one_line_and_nothing_is_written(
    vr: Callable[..., Result], write: Callable[[str], str], tmp_path: Path, case: str
) -> None:
    text, wanted = REFUSED[case]
    opt = "" if "opt" in text else 'opt = ["adamw", "sgd"]\n'
    done = vr("compare", "--config", write(BASE + opt + text))
    assert done.code == 2
    assert wanted in done.err
    assert len(done.err.splitlines()) == 1
    assert not list(tmp_path.glob("*.db"))


def test_a_run_has_one_optimizer_also_in_a_file(vr: Callable[..., Result], write: Callable[[str], str]) -> None:
    done = vr("run", "--config", write(BASE + "[opt.sgd]\n[opt.adamw]\n"))
    assert done.code == 2
    assert done.err == "vr: --config my.toml: opt names 2 optimizers; this command takes one\n"


def test_a_pipe_is_no_configuration_file(vr: Callable[..., Result], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.toml"
    os.mkfifo(pipe)
    done = subprocess.run(
        [sys.executable, "-m", "vrcli", "run", "--config", str(pipe)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (2, f"vr: --config {pipe} is not a regular file\n")
