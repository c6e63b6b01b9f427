"""What an extension costs: the source files that it touches, counted in a copy of the package that has all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from filecmp import cmp
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "vrcli"

TASK = (ROOT / "cli/scaffold/task_template.py").read_text()

OPTIMIZER = '''"""plainly: gradient descent."""

import torch

from vrcli.optim.rows import OWN_RANGE, Row, lr_space

ROW = Row(
    "plainly",
    "vrcli.optim.plainly:Plainly",
    "gradient descent and nothing else",
    "vr",
    lr_space(1e-4, 1.0, OWN_RANGE),
)


class Plainly(torch.optim.SGD):
    """Gradient descent."""
'''

FIGURE = '''"""How many runs each optimizer has."""

from collections import Counter
from dataclasses import dataclass

from vrcli.report.figures.base import Drawn, Figure
from vrcli.report.figures.style import Plot, new_figure
from vrcli.report.figures.text import table


@dataclass(frozen=True)
class Tally(Figure):
    """Runs of each optimizer."""

    def make(self, reader, notes):
        counts = Counter(run.optimizer for run in reader.runs())
        rows = [{"optimizer": name, "runs": count} for name, count in counts.items()]
        figure, grid = new_figure()
        grid[0][0].bar(list(counts), list(counts.values()))
        return Drawn(Plot(figure, rows), lambda page: table(rows))


FIGURE = Tally
'''

#: By extension: what it does to each source file: its text, or what stands for a part of it.
EXTENSIONS: dict[str, dict[str, str | tuple[tuple[str, str], ...]]] = {
    "task": {
        "tasks/twirls.py": TASK.replace('name = "spirals"', 'name = "twirls"')
    },
    "optimizer": {"optim/plainly.py": OPTIMIZER},
    "figure": {
        "report/figures/tally.py": FIGURE,
        "report/figures/__init__.py": (('NAMES = (', 'NAMES = ("tally", '),),
    },
    "column": {
        "report/tables/columns.py": (
            ('    "budget": Field(', '    "first_seed": Field(lambda row, view: f"#{row.seeds[0]}", raw=lambda row: '
             '{"first_seed": row.seeds[0]}, numeric=True),\n    "budget": Field('),
        ),
    },
    "filter": {
        "results/filter.py": (
            ("    registered: Callable", "    seed: int | None = None\n    registered: Callable"),
            ("kept = conditions.keep(found, asked)[:limit]",
             "kept = [run for run in conditions.keep(found, asked) if self.seed in (None, run.seed)][:limit]"),
        ),
        "cli/filters.py": (
            ("    registered: Callable", '    seed: Annotated[int | None, typer.Option(None, "--seed")] = None\n'
             "    registered: Callable"),
        ),
    },
}  # fmt: skip
COSTS = {"task": 1, "optimizer": 1, "figure": 2, "column": 1, "filter": 2}


def sources(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with every extension."""
    copy = tmp_path_factory.mktemp("extended") / "vrcli"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for files in EXTENSIONS.values():
        for name, change in files.items():
            path = copy / name
            if isinstance(change, str):
                assert not path.exists()
                path.write_text(change)
                continue
            text = path.read_text()
            for old, new in change:
                assert text.count(old) == 1, (name, old)
                text = text.replace(old, new)
            path.write_text(text)
    return copy


def test_an_extension_touches_as_few_files_as_the_design_says(extended: Path) -> None:
    assert {kind: len(files) for kind, files in EXTENSIONS.items()} == COSTS
    changed = {name for name in sources(extended) if not ((ROOT / name).exists() and cmp(ROOT / name, extended / name))}
    assert changed == {name for files in EXTENSIONS.values() for name in files}


def test_the_commands_have_every_extension(extended: Path, stored: Callable[..., int], tmp_path: Path) -> None:
    for seed in range(2):
        stored("adamw", seed=seed)

    def vr(*words: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(extended.parent)}
        done = subprocess.run(
            [sys.executable, "-m", "vrcli", *words], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "twirls" in vr("tasks", "list")
    assert "gradient descent and nothing else" in vr("opts", "list")
    assert vr("plot", "tally").split() == ["optimizer", "runs", "adamw", "2"]
    assert vr("report", "--columns", "optimizer,first_seed", "--format", "csv").split() == [
        "optimizer,first_seed",
        "adamw,0",
    ]
    assert len(vr("runs", "list", "--seed", "1").splitlines()) == 2
