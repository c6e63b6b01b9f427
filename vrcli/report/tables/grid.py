"""Plain columns: as wide as their content, numbers to the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from vrcli.visible import visible


def grid(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, right: Sequence[str] = (), style: str = "plain"
) -> list[str]:
    """A header and one line per row, without borders.

    Args:
        columns: keys of the rows, in order; also the headings.
        right: columns aligned to the right.
        style: of tabulate; "html" is escaped.
    """
    body = [["" if row.get(c) is None else visible(str(row[c])) for c in columns] for row in rows]
    align = ["right" if c in right else "left" for c in columns]
    text: str = tabulate(
        body, headers=list(columns), tablefmt=style, colalign=align if body else None, disable_numparse=True
    )
    return text.splitlines()
