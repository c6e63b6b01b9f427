"""The optimizers in somebody's own project: importing them costs torch and nothing else."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import torch
before = set(sys.modules)
from vrcli.optim import VRAdam
print(*set(sys.modules) - before)
from vrcli.optim import *
print(*set(sys.modules) - before)
print(*sys.modules)
"""
NOT_TORCH = {"pydantic", "sqlalchemy", "typer", "rich", "scipy", "pandas", "matplotlib"}


def test_the_optimizers_import_nothing_but_torch() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    one, every, loaded = (set(line.split()) for line in done.stdout.splitlines())
    assert "vrcli.optim.vradam" in one
    assert "vrcli.optim.flowadam" in every - one
    assert {name.partition(".")[0] for name in every} - set(sys.stdlib_module_names) == {"vrcli"}
    assert {name.partition(".")[0] for name in loaded} & NOT_TORCH == set()
