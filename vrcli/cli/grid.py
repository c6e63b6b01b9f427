"""Plain columns for lists, which fit a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from vrcli.report.tables.grid import grid

__all__ = ["INDENT", "fitted", "grid", "terminal_width"]

#: Before what stands below a row.
INDENT = " " * 6


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
