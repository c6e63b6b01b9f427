"""Lines of a command that nobody should print: the run ends in order, whatever they hold."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vrcli.db.store import Store

SCRIPT = """
import sys
print('{"step": 1, "val_loss": 0.5}', flush=True)
sys.stdout.buffer.write(open("line", "rb").read() + b"\\n")
"""


@pytest.fixture
def said(vr: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Any]:
    """Run a command that prints one good line, then this one; the outcome and the stored run."""
    (tmp_path / "train.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)

    def run(line: bytes) -> tuple[Any, Any]:
        (tmp_path / "line").write_bytes(line)
        done = vr("run", "--command", f"{sys.executable} train.py {{seed}}", "--threads", "1", "--quiet")
        with Store.open(tmp_path / "vr.db") as store:
            [stored] = store.runs.select()
            assert list(store.curves.read([stored.id], ["val_loss"])[stored.id, "val_loss"].values)[:1] == [0.5]
            return done, stored

    return run


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"step": NaN, "val_loss": 0.4}', "a step must be a whole number from 0 on, got nan"),
        (b'{"step": 2.5, "val_loss": 0.4}', "a step must be a whole number from 0 on, got 2.5"),
        (b'{"step": -1, "val_loss": 0.4}', "a step must be a whole number from 0 on, got -1"),
        (b'{"step": ' + b"9" * 30 + b', "val_loss": 0.4}', "a step must be a whole number from 0 on, got 999"),
        (b'{"step": 2, "val_loss": ' + b"9" * 400 + b"}", "val_loss must be a number, got 999"),
        (b'{"step": 2, "val_loss": 0.3, "\\ud800": 1}', "a metric's name must have 1 to 255 printable letters"),
        (b'{"step": 2, "val_loss": 0.3, "a\\u0000b": 1}', "a metric's name must have 1 to 255 printable letters"),
        (b'{"step": 2, "val_loss": 0.3, "val_\\u001b[31m": 1}', "a metric's name must have 1 to 255 printable letters"),
        (b'{"step": 2, "val_loss": 0.3, "' + b"x" * 5000 + b'": 1}', "a metric's name must have 1 to 255 printable"),
    ],
)  # fmt: skip
def test_what_no_database_holds_fails_the_run_in_one_line(said: Callable[[bytes], Any], line: bytes, why: str) -> None:
    done, run = said(line)
    assert done.code == 1
    assert why in done.err
    assert len(done.err) < 400
    assert done.err.count("\n") == 1
    assert run.status == "failed"
    assert why in run.error


_SOME = [pytest.param(line, marks=pytest.mark.slow) for line in (b"[1, 2]", b"null", b'{"step": 2', b"")]


@pytest.mark.parametrize("line", [b'{"a": ' * 100_000, b"\xff\xfe{", *_SOME])
def test_what_is_not_an_object_is_passed_over(said: Callable[[bytes], Any], line: bytes) -> None:
    done, run = said(line)
    assert (done.code, run.status) == (0, "completed"), done.err
