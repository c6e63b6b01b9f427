"""What is shown of an outcome, before it is text or HTML: lines and tables in their order."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

from vrcli.report.tables.grid import grid


@dataclass(frozen=True)
class Rows:
    """A table.

    Args:
        columns: keys of the rows, in order; also the headings.
        right: columns aligned to the right.
    """

    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    right: Sequence[str] = ()

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], *, left: int = 1) -> Rows:
        """Rows that all have the same keys, all but the first few columns aligned to the right."""
        columns = list(rows[0])
        return cls(columns, rows, columns[left:])


Block: TypeAlias = str | Rows


def lines(blocks: Iterable[Block]) -> list[str]:
    """As plain text."""
    found: list[str] = []
    for block in blocks:
        found += [block] if isinstance(block, str) else grid(block.columns, block.rows, right=block.right)
    return found


def to_html(blocks: Iterable[Block]) -> str:
    """As HTML to show in a notebook; no text of a user's can become markup. Lines without an empty one between them
    are a paragraph."""
    parts = []
    for kind, together in groupby(blocks, lambda block: type(block) if block else None):
        if kind is str:
            parts.append("<p>" + "<br>".join(html.escape(str(line).strip()) for line in together) + "</p>")
        elif kind is not None:
            parts += ["\n".join(grid(b.columns, b.rows, right=b.right, style="html"))
                      for b in together if isinstance(b, Rows)]  # fmt: skip
    return "\n".join(parts)
