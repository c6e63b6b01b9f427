"""Calling `vr` in this process: its exit code and what it printed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

SPIRALS = "vrcli.scaffold.task_template:Spirals"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def vr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run `vr ARGS` in an empty working directory."""
    from vrcli.cli.app import main

    monkeypatch.chdir(tmp_path)

    def call(*words: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["vr", *map(str, words)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return Result(stop.value.code or 0, captured.out, captured.err)

    return call


@pytest.fixture
def spirals(vr: Callable[..., Result]) -> Callable[..., Result]:
    """Run the template task's smoke preset, quickly."""
    return lambda *words: vr("run", SPIRALS, "--preset", "smoke", "--threads", "1", "--malloc-tuning", *words)
