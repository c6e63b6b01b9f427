"""`vr run` in a real terminal: a bar with what is left, and Ctrl-C as a person presses it."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pexpect
import pytest
from rich.console import Console

from vrcli.cli.console import say

SPIRALS = "vrcli.cli.scaffold.task_template:Spirals"


def start(folder: Path, **environment: str) -> pexpect.spawn:
    words = ["-m", "vrcli", "run", SPIRALS, "--threads", "1", "--epochs", "100000"]
    env = {**os.environ, "TERM": "xterm-256color", **environment}
    return pexpect.spawn(
        sys.executable, words, cwd=str(folder), env=env, encoding="utf-8", timeout=60, dimensions=(30, 100)
    )


def test_a_terminal_shows_a_bar_and_ctrl_c_ends_in_order(tmp_path: Path):
    child = start(tmp_path)
    child.expect(r"step \d+/\d+")
    child.expect("samples/s")
    child.expect("left")
    child.sendintr()
    child.expect("interrupted")
    child.expect("before: best val loss")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


@pytest.mark.slow
def test_no_color_is_respected(tmp_path: Path):
    child = start(tmp_path, NO_COLOR="1")
    child.expect(r"step \d+/\d+")
    child.sendintr()
    child.expect(pexpect.EOF)
    text = child.before
    assert "\x1b[3" not in text.replace("\x1b[39m", "")  # no foreground colour; cursor movement remains


def test_prose_breaks_between_words_on_a_terminal_only():
    def said(*, terminal: bool, prose: bool) -> list[str]:
        file = io.StringIO()
        say("word " * 20, to=Console(file=file, force_terminal=terminal, width=42, soft_wrap=True), prose=prose)
        return file.getvalue().splitlines()

    assert [len(line.rstrip()) for line in said(terminal=True, prose=True)] == [39, 39, 19]
    assert len(said(terminal=True, prose=False)) == len(said(terminal=False, prose=True)) == 1


def test_a_sign_that_is_replaced_at_once_is_one_sign(monkeypatch):
    """The thread of an earlier timer, which waited for the lock, leaves the later one's sign alone."""
    from vrcli.cli import waiting

    started: list[str] = []

    class Status:
        def __init__(self, text: str) -> None:
            self.text = text

        def start(self) -> None:
            started.append(self.text)

        def stop(self) -> None:
            started.remove(self.text)

        def update(self, text: str) -> None:
            started[started.index(self.text)] = self.text = text

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("vrcli.cli.console.err", lambda: type("Console", (), {"status": staticmethod(Status)}))
    sign = waiting.Sign()
    timers = []
    for text in ("one", "two"):
        sign.show(text)
        timers.append(sign._timer)
        if text == "one":
            sign.hide()
    for timer in timers:
        assert timer is not None
        timer.cancel()
        timer.function()
    sign.hide()
    assert not started


def test_things_that_are_none_are_waited_for_like_others() -> None:
    from vrcli.cli.waiting import waited

    assert list(waited([1, None, 2], "counting")) == [1, None, 2]
