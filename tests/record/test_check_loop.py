"""`vr tasks check` and `vr tasks new --loop`: what a loop of one's own must keep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TEMPLATE = "vrcli.cli.scaffold.loop_template:Spirals"
WRONG = '''
import torch
from looping import Looping


class Random(Looping):
    """Its order has no seed of the run."""

    def train(self, run):
        run.generator = lambda *purpose: torch.Generator().manual_seed(torch.seed() % 2**31)
        super().train(run)


class Untested(Looping):
    def train(self, run):
        run.test = lambda **values: None
        super().train(run)


class Deaf(Looping):
    """Catches what ends it, and goes on."""

    def train(self, run):
        for step in range(1, 401):
            try:
                run.log(step, train_loss=1.0 / step)
                if step % 10 == 0:
                    run.evaluate(step, val_loss=1.0 / step)
            except BaseException:
                pass
        run.test(loss=1.0)


class RaisingLater(Looping):
    """Fails from its second run on."""

    runs = 0

    def train(self, run):
        RaisingLater.runs += 1
        if RaisingLater.runs > 1:
            raise ValueError("no luck")
        super().train(run)


class Raising(Looping):
    def train(self, run):
        raise ValueError("no luck")
'''


def test_the_template_keeps_its_contract(vr: Callable[..., Any]) -> None:
    done = vr("tasks", "check", TEMPLATE)
    assert done.code == 0, done.out + done.err
    for words in ("same seed, same curve", "stops when asked", "goes on with the same bits", "7 of 7 checks passed"):
        assert words in done.out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Random", "FAIL  same seed, same curve"),
        ("Untested", "FAIL  test"),
        ("Deaf", "FAIL  stops when asked"),
        ("Raising", "ValueError: no luck"),
        ("RaisingLater", "FAIL  goes on with the same bits ValueError: no luck"),
    ],
)
def test_what_a_loop_does_not_keep_is_said(
    vr: Callable[..., Any], valley: None, tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    done = vr("tasks", "check", f"wrong:{name}")
    assert done.code == 1
    assert words in done.out


def test_a_new_loop_task_works_as_it_stands(vr: Callable[..., Any], tmp_path: Path) -> None:
    assert vr("tasks", "new", "mine", "--loop").code == 0
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"pyproject.toml", "mine_task.py"}
    (tmp_path / "mine_task.py").write_text((tmp_path / "mine" / "mine_task.py").read_text())
    done = vr("run", "mine_task:Mine", "--opt", "adamw", "--threads", "1")
    assert done.code == 0, done.err
    assert "test accuracy 9" in done.out or "test accuracy 100" in done.out
    shown = vr("runs", "show", "1")
    assert shown.out.strip().splitlines()[-1].strip().startswith("vr run mine_task:Mine --opt adamw")
