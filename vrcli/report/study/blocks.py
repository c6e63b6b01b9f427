"""What is shown of an outcome, before it is text or HTML: lines and tables in their order."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

from vrcli.report.tables.grid import grid


@dataclass(frozen=True)
class Rows:
    """A table.

    Args:
        columns: keys of the rows, in order; also the headings.
        right: columns aligned to the right.
        wrap: columns of words, whose lines may break between words on a narrow terminal.
        least: columns that a narrow terminal leaves out, the least important first.
        best: rows whose cell is the best of a column, by column.
        mark: what the sign of those says.
    """

    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    right: Sequence[str] = ()
    wrap: Sequence[str] = ()
    least: Sequence[str] = ()
    best: Mapping[str, Collection[int]] = field(default_factory=dict)
    mark: str = "best"

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], *, left: int = 1, **more: Any) -> Rows:
        """Rows that all have the same keys, all but the first few columns aligned to the right."""
        columns = list(rows[0])
        return cls(columns, rows, columns[left:], **more)


class Strong(str):
    """A line that stands out."""


class Command(str):
    """A command to copy."""


class Step(NamedTuple):
    """A command to go on with.

    Args:
        command: ready to copy; with options, only its beginning.
        why: what it is for, in a few words.
        options: what is added to the command that was just given.
    """

    command: str
    why: str
    options: str = ""

    @property
    def text(self) -> str:
        return f"{self.command} ... {self.options}" if self.options else self.command


@dataclass(frozen=True)
class Next:
    """What to do next."""

    steps: Sequence[Step]

    @property
    def lines(self) -> list[str]:
        width = max(len(step.text) for step in self.steps)
        return [f"{'' if i else 'next':6}{step.text:{width}}   {step.why}" for i, step in enumerate(self.steps)]


Block: TypeAlias = str | Rows | Next


def lines(blocks: Iterable[Block]) -> list[str]:
    """As plain text."""
    found: list[str] = []
    for block in blocks:
        match block:
            case Rows():
                found += grid(block.columns, block.rows, right=block.right)
            case Next():
                found += block.lines
            case Command():
                found.append(f"  {block}")
            case _:
                found.append(block)
    return found


def to_html(blocks: Iterable[Block]) -> str:
    """As HTML to show in a notebook; no text of a user's can become markup. Lines without an empty one between them
    are a paragraph."""
    parts = []
    for kind, together in groupby(blocks, lambda block: _kind(block) if block else None):
        if kind is Next:
            steps = [step for block in together if isinstance(block, Next) for step in block.steps]
            shown = [f"<code>{html.escape(step.text)}</code> {html.escape(step.why)}" for step in steps]
            parts.append("<p>" + "<br>".join(shown) + "</p>")
        elif kind is str:
            parts.append("<p>" + "<br>".join(_html(line) for line in together if isinstance(line, str)) + "</p>")
        elif kind is not None:
            parts += ["\n".join(grid(b.columns, b.rows, right=b.right, style="html"))
                      for b in together if isinstance(b, Rows)]  # fmt: skip
    return "\n".join(parts)


def _kind(block: Block) -> type:
    return str if isinstance(block, str) else type(block)


def _html(line: str) -> str:
    text = html.escape(line.strip())
    tag = "b" if isinstance(line, Strong) else "code" if isinstance(line, Command) else ""
    return f"<{tag}>{text}</{tag}>" if tag else text
