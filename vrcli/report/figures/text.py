"""What the texts of figures share: a plot of characters, and a small table of what to read off it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from vrcli.report import text_plot

Rows: TypeAlias = Sequence[Mapping[str, Any]]
#: Positions at which a staircase is drawn.
STEPS = 400
#: What a share can be, and so its axis.
SHARES = (0.0, 1.0)


@dataclass(frozen=True)
class Page:
    """How the text may look.

    Args:
        width: in columns.
        height: rows of one plot.
        ascii: ASCII characters only.
        log: logarithmic y axis; None for where it serves.
    """

    width: int = 80
    height: int = 14
    ascii: bool = False
    log: bool | None = None

    def plot(
        self,
        series: Mapping[str, tuple[Any, Any]],
        x_label: str,
        *,
        height: int | None = None,
        log: bool | None = None,
        limits: tuple[float, float] | None = None,
    ) -> str:
        return text_plot.plot(
            series,
            width=self.width,
            height=height or self.height,
            x_label=x_label,
            log=self.log if log is None else log,
            ascii=self.ascii,
            limits=limits,
        )


def staircase(xs: Sequence[float], heights: Sequence[float], at: Any) -> Any:
    """The height of the last step at or before each position, 0 before the first."""
    places = np.searchsorted(np.asarray(xs, dtype=np.float64) * (1 - 1e-12), at, side="right")
    return np.concatenate([[0.0], np.asarray(heights, dtype=np.float64)])[places]


def table(facts: Rows, width: int | None = None) -> str:
    """Rows as aligned text.

    Args:
        width: no line shall be longer: headings take several lines where that is enough, otherwise every row is a list
            of names and values.
    """
    from tabulate import tabulate

    columns = list(dict.fromkeys(name for row in facts for name in row))
    body = [[row.get(name, "") for name in columns] for row in facts]
    words = {"", "optimizer", "setting", "settings", "settings of the best", "values"}
    align = ["left" if name in words else "right" for name in columns]
    widest = [max((len(str(line[i])) for line in body), default=0) for i in range(len(columns))]
    folded = [name.replace(" ", "\n") if len(name) > room else name for name, room in zip(columns, widest, strict=True)]
    text: str = ""
    for heads in (columns, folded):
        text = tabulate(body, headers=heads, tablefmt="plain", disable_numparse=True, colalign=align if body else None)
        if width is None or max(map(len, text.splitlines()), default=0) <= width:
            return text
    listed = [tabulate(zip(columns, line, strict=True), tablefmt="plain", disable_numparse=True) for line in body]
    return "\n\n".join(listed)


def panels_of(rows: Rows) -> Iterable[tuple[str, Rows]]:
    """Rows of each panel, with a heading."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row.get("section", ""), row["panel"]].append(row)
    return [(" · ".join(word for word in key if word), own) for key, own in found.items()]


def by(rows: Rows, name: str) -> Iterable[tuple[str, Rows]]:
    """Rows by their value of one column."""
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row[name]].append(row)
    return found.items()
