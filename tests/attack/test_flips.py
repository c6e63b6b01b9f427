"""A database with a byte that is wrong: no command shows a traceback, and what cannot be read is said."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COMMANDS = (
    "runs list", "report", "runs show 1", "plot curves --data out.csv --force", "db check", "db backup b.db --force",
)  # fmt: skip
HEADER = 100  # bytes, of which a wrong one makes another kind of file


def _flip(vr: Callable[..., Any], tmp_path: Path, whole: bytes, at: int, bit: int) -> list[str]:
    """What is wrong with how the commands end on a database with one bit flipped."""
    body = bytearray(whole)
    body[at] ^= 1 << bit
    found = []
    for words in COMMANDS:
        for path in tmp_path.iterdir():
            path.unlink()
        (tmp_path / "vr.db").write_bytes(body)
        done = vr(*words.split())
        text = done.out + done.err
        if done.code not in (0, 1, 2) or "Traceback" in text or "a fault of vr" in text:
            found.append(f"byte {at}, bit {bit}: vr {words}: {done.code} {done.err.strip()[-200:]}")
    return found


def _flips(vr: Callable[..., Any], stored: Callable[..., int], tmp_path: Path, count: int, seed: int) -> None:
    for number in range(3):
        stored("adamw", seed=number, epochs=2)
    assert vr("db", "backup", "b.db").code == 0
    whole = (tmp_path / "b.db").read_bytes()
    chance = random.Random(seed)
    places = [chance.randrange(HEADER)] + [chance.randrange(len(whole)) for _ in range(count - 1)]
    # Half of them where something is: most of a small database is empty.
    filled = [at for at, byte in enumerate(whole) if byte]
    places[1::2] = [chance.choice(filled) for _ in places[1::2]]
    found = [line for at in places for line in _flip(vr, tmp_path, whole, at, chance.randrange(8))]
    assert not found, "\n".join(found)


def test_a_schema_that_is_not_text(vr: Callable[..., Any], stored: Callable[..., int], tmp_path: Path) -> None:
    """SQLite quotes the text in its message, which sqlite3 then cannot decode."""
    stored("adamw")
    assert vr("db", "backup", "b.db").code == 0
    whole = (tmp_path / "b.db").read_bytes()
    assert not _flip(vr, tmp_path, whole, whole.index(b"ON searches (sweep_id)"), 7)
    assert vr("runs", "list").err == "vr: vr.db cannot be opened: malformed database schema: text that is not UTF-8\n"


def test_a_byte_that_is_wrong(vr: Callable[..., Any], stored: Callable[..., int], tmp_path: Path) -> None:
    _flips(vr, stored, tmp_path, 6, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sixty_bytes_that_are_wrong(vr: Callable[..., Any], stored: Callable[..., int], tmp_path: Path) -> None:
    _flips(vr, stored, tmp_path, 60, seed=0)
