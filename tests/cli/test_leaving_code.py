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


@pytest.mark.slow
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
        assert (run.status, run.error) == ("failed", "its process died of SIGSEGV (3 times)")


@pytest.fixture
def odd(tmp_path: Path) -> Callable[..., str]:
    """An optimizer whose step does this; its name."""

    def make(module: str, step: str) -> str:  # this process imports a module once
        (tmp_path / f"{module}.py").write_text(SGD.format(step=step))
        return f"{module}:Odd"

    return make


UNTUNED = ("compare", "valley:Valley", "--seeds", "2", "--threads", "1", "--quiet")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "step", "why"),
    [
        ("raises", "raise RuntimeError('no step\\nof mine')", "failed: RuntimeError: no step"),
        pytest.param(
            "kills",
            "import os; os.kill(os.getpid(), 9)",
            "its process was killed, most likely because memory ran out (3 times)",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_comparison_goes_on_without_an_optimizer_that_fails(
    vr: Callable[..., Any], valley: None, odd: Callable[..., str], tmp_path: Path, module: str, step: str, why: str
) -> None:
    name = odd(module, step)
    done = vr(*UNTUNED, "--jobs", "2", "--opt", name, "--opt", "sgd", "--opt", "adamw")
    assert done.code == 1
    assert all("has no checkpoint and begins again" in line for line in done.err.splitlines())
    verdict, failed = done.out.splitlines()
    assert "sgd" in verdict
    assert "adamw" in verdict
    assert failed.startswith(f"{name} could not be compared: seed ")
    assert failed.endswith(why)
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        ended = [(run.optimizer, run.status) for run in store.runs.select()]
    assert sorted(one for one in ended if one[0] != name) == [("adamw", "completed")] * 2 + [("sgd", "completed")] * 2
    assert {status for optimizer, status in ended if optimizer == name} == {"failed"}


def test_of_two_optimizers_the_one_that_runs_is_shown(
    vr: Callable[..., Any], valley: None, odd: Callable[..., str], inline: None
) -> None:
    name = odd("alone", "raise RuntimeError('no step')")
    words = ("compare", *UNTUNED[1:-1], "--opt", name, "--opt", "sgd")
    done = vr(*words)
    assert done.code == 1
    assert f"{name} could not be compared: seed 1: run 1 failed: RuntimeError: no step" in done.out
    assert "sgd" in done.out
    found = json.loads(vr(*words, "--format", "json").out)
    assert (list(found["optimizers"]), found["comparisons"], list(found["failed"])) == (["sgd"], [], [name])


@pytest.mark.slow
def test_a_tuned_comparison_goes_on_without_an_optimizer_that_fails(
    vr: Callable[..., Any], valley: None, odd: Callable[..., str], tmp_path: Path
) -> None:
    """One fails in the rehearsal, one in its trials, one only on fresh seeds."""
    count = "sqlite3.connect('vr.db').execute(f'select count(*) from runs where {mine}').fetchone()[0]"
    late = odd("late", f"""
        import os, sqlite3
        mine = "trial_id is null and optimizer like 'late%'"
        if os.path.exists('vr.db') and {count}: raise RuntimeError('too late')
        return super().step()""")  # fmt: skip
    early = odd("early", "raise RuntimeError('no step')")
    stored = odd("stored", "\n        import os\n        if os.path.exists('vr.db'): raise RuntimeError('no more')")
    words = ("--trials", "2", "--searches", "2", "--seeds", "3", "--search", "random", "--space", "lr=log:0.001:0.1")
    opts = [word for name in (early, stored, late, "sgd", "adamw") for word in ("--opt", name)]
    done = vr("compare", "valley:Valley", "--threads", "1", "--quiet", *words, *opts)
    assert done.code == 1, done.err
    verdict, first, second, third = done.out.splitlines()
    assert verdict.endswith(".")
    assert first == f"{early} could not be compared: RuntimeError: no step"
    assert second.startswith(f"{stored} could not be compared: no trial of it completed")
    assert "no more" in second
    assert third.startswith(f"{late} could not be compared: seed ")
    assert third.endswith("RuntimeError: too late")


def test_a_comparison_that_all_fail_says_so(
    vr: Callable[..., Any], valley: None, odd: Callable[..., str], inline: None
) -> None:
    names = [odd("first", "raise RuntimeError('one')"), odd("second", "raise RuntimeError('two')")]
    done = vr(*UNTUNED, "--opt", names[0], "--opt", names[1])
    _one_line(done, 1, "no optimizer could be compared", "RuntimeError: one", "RuntimeError: two")
