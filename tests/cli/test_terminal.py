"""`vr run` in a real terminal: a bar with what is left, and Ctrl-C as a person presses it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pexpect

SPIRALS = "vrcli.scaffold.task_template:Spirals"


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


def test_no_color_is_respected(tmp_path: Path):
    child = start(tmp_path, NO_COLOR="1")
    child.expect(r"step \d+/\d+")
    child.sendintr()
    child.expect(pexpect.EOF)
    text = child.before
    assert "\x1b[3" not in text.replace("\x1b[39m", "")  # no foreground colour; cursor movement remains
