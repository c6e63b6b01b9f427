"""The linters that the project is held to; mypy takes longer and runs beside the tests (see the README)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    [["ruff", "check"], ["ruff", "format", "--check"]],
    ids=lambda c: " ".join(c),
)
def test_linter_is_silent(command: list[str]):
    paths = ["vrcli", "tasks", "db", "tests", "docs"]
    done = subprocess.run([sys.executable, "-m", *command, *paths], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
