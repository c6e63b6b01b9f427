"""Code of others that ends the process, by whatever means: the run has failed, and vr says so in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vrcli.db.store import Store

SGD = """
import torch
class Odd(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr=lr)
    def step(self, closure=None):
        {step}
class Harsh(BaseException):
    pass
"""
SMOKE = ("--preset", "smoke", "--threads", "1")


def _one_line(done: Any, code: int, *words: str) -> None:
    assert done.code == code, done.err
    assert done.out == ""
    last = done.err.splitlines()[-1]
    assert last.startswith("vr: ")
    assert all(word in last for word in words), last
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("class Harsh(BaseException): pass\nraise Harsh('out')", "Harsh: out"),
        ("raise ImportError('first line\\nsecond\\nthird')", "ImportError: first line"),
    ],
)
@pytest.mark.parametrize("command", [("run", "leaves:Task", *SMOKE), ("run", "cnn", *SMOKE, "--opt", "leaves:Odd")])
def test_a_plugin_that_leaves_while_it_is_imported(
    vr: Callable[..., Any], tmp_path: Path, text: str, words: str, command: tuple[str, ...]
) -> None:
    (tmp_path / "leaves.py").write_text(text)
    done = vr(*command)
    _one_line(done, 2, words)
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "vr.db").exists()


@pytest.mark.parametrize(
    ("step", "words"), [("import sys; sys.exit(7)", "SystemExit: 7"), ("raise Harsh('out')", "Harsh: out")]
)
def test_an_optimizer_that_leaves_in_a_step_has_failed(
    vr: Callable[..., Any], tmp_path: Path, step: str, words: str
) -> None:
    module = f"odd_{words.partition(':')[0].lower()}"  # this process imports a module once
    (tmp_path / f"{module}.py").write_text(SGD.format(step=step))
    _one_line(vr("run", "cnn", *SMOKE, "--quiet", "--opt", f"{module}:Odd"), 1, "run 1 failed", words)
    (run,) = json.loads(vr("runs", "list", "--format", "json").out)
    assert run["status"] == "failed"
    assert words in run["error"]


def test_a_task_that_leaves_while_it_loads_its_data(vr: Callable[..., Any], valley: None, tmp_path: Path) -> None:
    text = "import valley\nclass Short(valley.Valley):\n    def data(self, generator): raise SystemExit(0)\n"
    (tmp_path / "short.py").write_text(text)
    _one_line(vr("run", "short:Short", "--threads", "1"), 1, "SystemExit: 0")


def test_a_run_whose_worker_dies_has_failed(vr: Callable[..., Any], valley: None, tmp_path: Path) -> None:
    # The rehearsal, of which nothing is stored, measures these, too.
    (tmp_path / "dies.py").write_text(
        "import os, signal, valley\n"
        "class Dies(valley.Valley):\n"
        "    def evaluate(self, model, split):\n"
        "        if os.path.exists('vr.db'): os.kill(os.getpid(), signal.SIGSEGV)\n"
        "        return super().evaluate(model, split)\n"
    )
    done = vr("sweep", "dies:Dies", "--opt", "vradam", "--trials", "1", "--threads", "1", "--quiet")
    assert done.code == 1
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        (run,) = store.runs.select()
        assert (run.status, run.error) == ("failed", "its process died of SIGSEGV")
