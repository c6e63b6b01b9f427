"""What a person sees of a command: its lines in a real terminal, without colours and what moves the cursor."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pexpect

#: What a terminal takes as an order, not as text.
_ORDERS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def raw(folder: Path, *words: str, width: int, **environment: str) -> str:
    """All that `vr` writes to a terminal of this width, in a folder."""
    usual = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    env = {**usual, "TERM": "xterm-256color", "COLUMNS": str(width), **environment}
    child = pexpect.spawn(
        sys.executable, ["-m", "vrcli", *words], cwd=str(folder), env=env, dimensions=(50, width), timeout=120,
        encoding="utf-8",
    )  # fmt: skip
    text: str = child.read()
    child.close()
    assert child.exitstatus == 0, text
    return text


def lines(folder: Path, *words: str, width: int, **environment: str) -> list[str]:
    """The lines of a command that stay on a terminal of this width."""
    return text_of(raw(folder, *words, width=width, **environment))


def text_of(written: str) -> list[str]:
    """The lines that stay of what a terminal was given: of one that was written over, what was written last."""
    text = re.sub(r"[^\n]*\r?\n(?:\x1b\[\?25h)?\r?\x1b\[1A\x1b\[2K", "", written)
    return [_ORDERS.sub("", line.rstrip("\r").rsplit("\r", 1)[-1]).rstrip() for line in text.split("\n")]
