"""Plain columns for lists: as wide as their content, numbers to the right."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

#: Before what stands below a row.
INDENT = " " * 6


def grid(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, right: Sequence[str] = ()) -> list[str]:
    """A header and one line per row, without borders.

    Args:
        columns: keys of the rows, in order; also the headings.
        right: columns aligned to the right.
    """
    from tabulate import tabulate

    body = [["" if row.get(c) is None else str(row[c]) for c in columns] for row in rows]
    align = ["right" if c in right else "left" for c in columns]
    text: str = tabulate(
        body, headers=list(columns), tablefmt="plain", colalign=align if body else None, disable_numparse=True
    )
    return text.splitlines()


def fitted(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    long: str,
    width: int | None,
    right: Sequence[str] = (),
) -> list[str]:
    """A grid; where its lines are too long, one column of it stands below each row instead, and nothing is cut.

    Args:
        long: the column that gives way, of words that may be parted.
        width: of a line; None for any.
    """
    lines = grid(columns, rows, right=right)
    if width is None or max(map(len, lines)) <= width:
        return lines
    head, *body = grid([name for name in columns if name != long], rows, right=right)
    found = [head]
    for line, row in zip(body, rows, strict=True):
        below = textwrap.wrap(str(row[long]), max(width, 20) - len(INDENT), break_on_hyphens=False)
        found += [line, *(INDENT + text for text in below)]
    return found


def terminal_width() -> int | None:
    """Columns of the terminal on stdout; None where there is none, and lines may have any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
