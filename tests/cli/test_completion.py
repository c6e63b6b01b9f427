"""What the shell completes, through the protocol that the shells speak."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.cli.commands import commands
from tests.conftest import SPIRALS
from vrcli.cli.completion import completer_of
from vrcli.report.figures import NAMES
from vrcli.tasks.registry import load, names

#: Values that only their user knows: numbers, expressions, texts.
FREE = {
    "--checkpoint-every", "--equal", "--fix", "--where", "--since", "--space", "--names", "--caption", "--label",
    "--size", "--title", "--group-by", "--margin", "--setting", "--kind", "--dataset", "--to", "--tolerance",
    "--command", "--only", "--scale",
}  # fmt: skip


def asked(words: str, shell: str) -> dict[str, str]:
    """What a shell puts into the environment."""
    return {
        "bash": {"_VR_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)},
        "zsh": {"_VR_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": words},
    }[shell]


def completed(folder: Path, words: str, shell: str = "bash", env: dict[str, str] | None = None) -> list[str]:
    """What a shell is told after these words; the last is incomplete, and may be empty."""
    said = asked(words, shell)
    done = subprocess.run(
        [sys.executable, "-m", "vrcli"], cwd=folder, env={**os.environ, **said, **(env or {})}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return values(done.stdout, shell)


def values(text: str, shell: str) -> list[str]:
    """Of what a shell is told."""
    return text.split() if shell == "bash" else re.findall(r'^.*?"((?:[^"]|"")*)"', text, re.M)


@pytest.fixture
def database(stored: Callable[..., int], tmp_path: Path) -> Path:
    stored("vradam@wide", tag="mine")
    return tmp_path


CASES = {
    "a task": ("vr run ", {"cnn", "transformer"}, {"vradam"}),
    "another task": ("vr compare cnn ", {"transformer"}, {"cnn"}),
    "an optimizer": ("vr run cnn --opt vr", {"vradam", "vradam@wide", "vrmomentum"}, {"adamw"}),
    "of a pair": ("vr compare cnn --opt sgd --opt adamw --primary ", {"sgd,adamw"}, set()),
    "against": ("vr compare cnn --opt sgd --opt adamw --against ", {"sgd", "adamw"}, {"vradam"}),
    "a preset": ("vr run cnn --preset ", set(load("cnn").presets), {"cnn"}),
    "a run": ("vr runs show ", {"1"}, {"cnn"}),
    "a run to follow": ("vr run cnn --lr-from ", {"1"}, {"cnn"}),
    "a tag": ("vr runs list --tag ", {"mine"}, set()),
    "a column": ("vr report --columns optimizer,", {"optimizer,n", "optimizer,test_loss"}, {"n"}),
    "a figure": ("vr plot ", set(NAMES), {"cnn"}),
    "a task or a run": ("vr plot curves ", {"cnn", "1"}, set()),
    "a configuration file": ("vr run --config ", {"my.toml", "folder/"}, {"vr.db"}),
    "a file below": ("vr run --config folder/", {"folder/other.toml"}, {"my.toml"}),
    "a database": ("vr runs list --db ", {"vr.db"}, {"my.toml"}),
    "a word": ("vr runs list --status di", {"diverged"}, {"completed"}),
    "after a setting": ("vr run cnn --lr 0.1 --opt sg", {"sgd"}, set()),
    "a setting's word": (f"vr run {SPIRALS} --schedule ", {"constant"}, set()),
    "an option of the optimizer in a file": ("vr run --config my.toml --nest", {"--nesterov"}, set()),
}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("case", CASES)
def test_values_are_completed(
    vr: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, database: Path, case: str, shell: str
) -> None:
    (database / "my.toml").write_text(f'task = "{SPIRALS}"\nopt = "sgd"\n')
    (database / "folder").mkdir()
    (database / "folder" / "other.toml").touch()
    words, wanted, unwanted = CASES[case]
    for name, value in asked(words, shell).items():
        monkeypatch.setenv(name, value)
    done = vr()
    assert done.err == ""
    found = set(values(done.out, shell))
    assert wanted <= found
    assert not unwanted & found


def test_presets_are_read_as_they_are_imported(tmp_path: Path) -> None:
    from vrcli.cli.completion import _presets
    from vrcli.tasks.registry import own

    for name in names():
        if name in own():
            assert _presets(own()[name]) == list(load(name).presets), name


WATCHED = """
import sys
from vrcli.cli.app import main
try:
    main()
except SystemExit:
    print("HEAVY", *sorted({"torch", "sqlalchemy", "numpy", "scipy", "sklearn"} & set(sys.modules)))
"""


@pytest.mark.parametrize("words", ["vr run cnn --opt ", "vr compare cnn --preset ", "vr runs show ", "vr report --db "])
def test_a_shell_does_not_wait_for_slow_libraries(database: Path, words: str) -> None:
    env = {"_VR_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = subprocess.run([sys.executable, "-c", WATCHED], cwd=database, env={**os.environ, **env}, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "HEAVY"


def test_completing_makes_no_database_and_changes_none(database: Path) -> None:
    file = database / "vr.db"
    before = file.read_bytes()
    listed = sorted(database.iterdir())
    assert "1" in completed(database, "vr runs show ")
    assert completed(database, "vr runs show ", env={"VR_DB": "none.db"}) == []
    assert completed(database, "vr runs show --db none.db ") == []
    (database / "broken.db").write_text("no database")
    assert completed(database, "vr runs show --db broken.db ") == []
    assert sorted(database.iterdir()) == [database / "broken.db", *listed]
    assert file.read_bytes() == before


def test_every_option_with_a_value_completes_it_or_only_its_user_knows_it() -> None:
    open_ended = {
        flag
        for words, parameters in commands()
        for parameter in parameters.values()
        if parameter.annotation not in (bool, int, float, bool | None, int | None, float | None, list[int])
        for flag in [next((flag for flag in getattr(parameter.default, "param_decls", None) or () if "--" in flag), "")]
        if flag and completer_of(parameter.default, " ".join(words)) is None
    }
    assert open_ended <= FREE


@pytest.fixture
def hostile(stored: Callable[..., int], tmp_path: Path) -> Path:
    """A database and a folder whose names would run as code, or fill the screen."""
    stored("adamw", tag=r"x\$(touch pwned)")
    stored("adamw", seed=1, tag="x" * 500)
    stored("adamw", seed=2, tag="x-plain")
    (tmp_path / r"x\$(touch pwned).db").touch()
    (tmp_path / "hostile.toml").write_text(r"opt = ['x\$(touch pwned)', 'sgd']")
    return tmp_path


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("vr runs list --tag ", {"x-plain"}),
        ("vr runs list --db ", {"vr.db"}),
        ("vr compare cnn --config hostile.toml --against ", {"sgd"}),
    ],
)
def test_only_plain_names_are_offered(hostile: Path, words: str, wanted: set[str], shell: str) -> None:
    assert set(completed(hostile, words, shell)) == wanted


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize("asked", ["--tag x", "--db x"])
def test_zsh_runs_nothing_that_is_stored(hostile: Path, asked: str) -> None:
    (hostile / "bin").mkdir()
    vr = hostile / "bin" / "vr"
    vr.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vrcli "$@"\n')
    vr.chmod(0o755)
    setup = 'PS1=; autoload -U compinit; compinit -u -D; eval "$(_VR_COMPLETE=source_zsh vr)"; echo re""ady\n'
    env = {**os.environ, "PATH": f"{vr.parent}:{os.environ['PATH']}", "TERM": "dumb"}
    shell = pexpect.spawn("zsh", ["-f", "-i"], cwd=str(hostile), env=env, timeout=60, encoding="utf-8")
    shell.send(setup)
    shell.expect("ready")
    shell.send(f"vr runs list {asked}\t\x15echo ov''er\n")
    shell.expect("runs list.*over")
    shell.close(force=True)
    assert not (hostile / "pwned").exists()
