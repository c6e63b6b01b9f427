"""Fenced blocks of the documents that users read, so that what they say is what the tests do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FENCE = re.compile(r'^(?:<!-- ([\w ]+) -->\n)?^```(\w+)(?: title="([^"\n]+)")?\n(.*?)^```$', re.S | re.M)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Args:
        mark: the words of the comment before it; empty for none.
        title: the file that it is.
    """

    mark: str
    language: str
    title: str
    body: str


def blocks(text: str, *languages: str) -> list[Block]:
    """The fenced blocks of a page, of these languages or of all."""
    found = [Block(mark or "", language, title or "", body) for mark, language, title, body in _FENCE.findall(text)]
    return [block for block in found if not languages or block.language in languages]


def write_files(text: str, folder: Path) -> None:
    """Write the blocks of a page that are files."""
    for block in blocks(text):
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body)


def changes(diff: str) -> Iterator[tuple[str, str, str]]:
    """File, old lines and new lines of each part of a diff without line numbers."""
    for section in re.split(r"^--- ", diff, flags=re.M)[1:]:
        name, _, body = section.partition("\n")
        for hunk in re.split(r"^@@\n", body, flags=re.M):
            lines = hunk.splitlines(keepends=True)
            yield name, *("".join(line[1:] for line in lines if line[0] in kinds) for kinds in (" -", " +"))


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a shell block."""
    for line in block.body.replace("\\\n", " ").splitlines():
        for part in line.split(" && "):
            if words := shlex.split(part, comments=True):
                yield words
