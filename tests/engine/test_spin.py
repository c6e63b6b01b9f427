"""How torch's threads wait: set before libgomp is loaded, wherever runs run, and never against the user's word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vrcli.engine import prepare

PLUGINS = Path(__file__).parents[1] / "plugins"
#: libgomp says so itself, once in every process that loads it.
SAYS = {"OMP_DISPLAY_ENV": "verbose"}


def _spins(tmp_path: Path, *words: str, **more: str) -> list[str]:
    """What libgomp says of its spinning, in every process of a command."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP", "OMP_WAIT"))}
    env |= {"PYTHONPATH": str(PLUGINS), **SAYS, **more}
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    return [line.strip() for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="torch has another OpenMP elsewhere")
def test_commands_and_their_workers_spin_briefly(tmp_path: Path) -> None:
    run = ("-m", "vrcli", "run", "valley:Valley", "--preset", "smoke", "--quiet")
    brief = "GOMP_SPINCOUNT = '20000'"
    assert _spins(tmp_path, *run) == [brief]
    sweep = (*run[:2], "sweep", *run[3:], "--trials", "1", "--search", "random")
    assert brief in _spins(tmp_path, *sweep)
    assert _spins(tmp_path, *run, GOMP_SPINCOUNT="777") == ["GOMP_SPINCOUNT = '777'"]
    assert brief not in _spins(tmp_path, *run, OMP_WAIT_POLICY="active")


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="torch has another OpenMP elsewhere")
def test_a_program_of_others_waits_as_it_did(tmp_path: Path) -> None:
    usual = _spins(tmp_path, "-c", "import torch")
    assert _spins(tmp_path, "-c", "import vrcli; vrcli.run; import torch") == usual
    assert usual != ["GOMP_SPINCOUNT = '20000'"]


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_bf16_that_is_emulated_is_said_once(vr, valley, inline, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    words = ("valley:Valley", "--preset", "smoke", "--threads", "1", "--quiet", "--precision", "bf16")
    words = words if command == "run" else (*words, "--trials", "3", "--search", "random")
    line = "note: --precision bf16: this processor has no instructions for it and emulates them; fp32 is faster here\n"
    monkeypatch.setattr(prepare, "_cpu_has_bf16", lambda: False)
    assert vr(command, *words).err == line
    monkeypatch.setattr(prepare, "_cpu_has_bf16", lambda: True)
    assert vr(command, *words, "--seed", "7").err == ""


def test_torch_is_loaded_here_and_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from vrcli.engine.spin import spin_briefly

    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert torch is sys.modules["torch"]
    spin_briefly()
    assert "GOMP_SPINCOUNT" not in os.environ
