"""What an extension costs: the source files that it touches, counted in a copy of the sources that has all of them.

The extensions are the recipes of CONTRIBUTING.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from filecmp import cmp
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from documents import ROOT, blocks, changes, write_files

FOLDERS = ("vrcli", "tasks", "db")
#: By kind of extension: its recipe.
RECIPES = dict(
    re.findall(r"^### An? (?:table )?(\w+)\n(.*?)(?=^##)", (ROOT / "CONTRIBUTING.md").read_text(), re.S | re.M)
)
COSTS = {"task": 1, "optimizer": 1, "probe": 1, "figure": 2, "column": 1, "filter": 2}
#: `vr` of the sources in the working directory.
VR = f"vr() {{ PYTHONPATH=$PWD '{sys.executable}' -m vrcli \"$@\"; }}\n"


def sources(folder: Path) -> set[str]:
    paths = [path for name in FOLDERS for path in (folder / name).rglob("*.py")]
    return {path.relative_to(folder).as_posix() for path in paths}


def changed(folder: Path) -> set[str]:
    """Source files of a copy that the original does not have, or has otherwise."""
    return {name for name in sources(folder) if not ((ROOT / name).exists() and cmp(ROOT / name, folder / name))}


def follow(recipe: str, folder: Path) -> None:
    """Do what a recipe says in a copy of the sources."""
    assert not any((folder / block.title).exists() for block in blocks(recipe) if block.title)
    write_files(recipe, folder)
    for block in blocks(recipe, "diff"):
        for name, old, new in changes(block.body):
            text = (folder / name).read_text()
            assert text.count(old) == 1, (name, old)
            (folder / name).write_text(text.replace(old, new))
    for block in blocks(recipe, "sh"):
        done = subprocess.run(["bash", "-ec", VR + block.body], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """A copy of the sources with every extension, and how many files each touched."""
    copy = tmp_path_factory.mktemp("extended")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    costs = {}
    for kind, recipe in RECIPES.items():
        before = len(changed(copy))
        follow(recipe, copy)
        costs[kind] = len(changed(copy)) - before
    return copy, costs


def test_an_extension_touches_as_few_files_as_the_design_says(extended: tuple[Path, dict[str, int]]) -> None:
    assert extended[1] == COSTS


@pytest.mark.slow
def test_what_the_recipes_add_keeps_the_contracts_that_the_page_names(extended: tuple[Path, dict[str, int]]) -> None:
    copy = extended[0]
    shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    contracts = re.findall(r"`(tests/\w+/test_contract\.py)`", RECIPES["task"] + RECIPES["optimizer"])
    assert len(contracts) == 2
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", *contracts, "-k", "twirls or plainly"],
        cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
    written = [block.title for recipe in RECIPES.values() for block in blocks(recipe) if block.title]
    typed = subprocess.run([sys.executable, "-m", "mypy", *written], cwd=copy, capture_output=True, text=True)
    assert typed.returncode == 0, typed.stdout


@pytest.mark.slow
def test_the_commands_have_every_extension(
    extended: tuple[Path, dict[str, int]], stored: Callable[..., int], tmp_path: Path
) -> None:
    for seed in range(2):
        stored("adamw", seed=seed)

    def vr(*words: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(extended[0])}
        done = subprocess.run(
            [sys.executable, "-m", "vrcli", *words], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "twirls" in vr("tasks", "list")
    assert "gradient descent and nothing else" in vr("opts", "list")
    assert "the largest magnitude of a weight" in vr("probes", "list")
    vr(
        "run",
        "spirals",
        "--preset",
        "smoke",
        "--threads",
        "1",
        "--probe",
        "spread",
        "--probe-every",
        "5e",
        "--db",
        "x.db",
    )
    assert "spread_largest" in vr("runs", "show", "1", "--db", "x.db", "--format", "json")
    assert vr("plot", "tally").split() == ["optimizer", "runs", "adamw", "2"]
    assert vr("report", "--columns", "optimizer,first_seed", "--format", "csv").split() == [
        "optimizer,first_seed",
        "adamw,0",
    ]
    assert len(vr("runs", "list", "--seed", "1").splitlines()) == 2
