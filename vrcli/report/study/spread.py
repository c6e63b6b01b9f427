"""Several searches of one optimizer: one line for each, and how far they lie apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vrcli.report.study.blocks import Block, Rows
from vrcli.report.wording import number, settings, value
from vrcli.results.types import Several


@dataclass(frozen=True)
class Found:
    """What one search has come to.

    Args:
        seed: of the search.
        trials: that have ended.
        total: its budget.
        best: smallest value of its trials; None where none completed.
        settings: that gave it.
        n: runs on fresh seeds.
        test: their mean test loss, NaN where one of them diverged; None where there are none.
        val: their mean best validation loss, likewise.
    """

    optimizer: str
    seed: int | None
    trials: int
    total: int
    best: float | None
    settings: Mapping[str, Any]
    n: int = 0
    test: float | None = None
    val: float | None = None


def by_optimizer(searches: Iterable[Found]) -> dict[str, list[Found]]:
    """The searches of each optimizer."""
    found: dict[str, list[Found]] = {}
    for one in searches:
        found.setdefault(one.optimizer, []).append(one)
    return found


def search_blocks(searches: Sequence[Found], *, rounded: bool = False) -> list[Block]:
    """One line for each search, and below them the spread of those of one optimizer.

    Args:
        rounded: settings have as many digits as mean something.
    """
    fresh, tested = any(one.n for one in searches), any(one.test is not None for one in searches)
    rows = []
    for one in searches:
        row: dict[str, Any] = {"optimizer": one.optimizer, "search seed": one.seed}
        row |= {"trials": f"{one.trials}/{one.total}", "best val": value(one.best)}
        if fresh:
            row |= {"fresh seeds": one.n, **({"test loss": value(one.test)} if tested else {}), "val": value(one.val)}
        rows.append({**row, "settings": settings(one.settings, searched=one.settings if rounded else ()) or "-"})
    columns = list(rows[0])
    return [
        Rows(columns, rows, columns[1:-1], ["settings"], [name for name in ("val", "fresh seeds") if fresh]),
        *spread_lines(searches),
    ]


def spread_lines(searches: Iterable[Found]) -> list[str]:
    """How far the searches of one optimizer lie apart, for those that have several."""
    found = []
    for name, own in by_optimizer(searches).items():
        if len(own) < 2:
            continue
        parts = [f"best val {spread_text([one.best for one in own])}"]
        if any(one.n for one in own):
            texts = [f"test loss {spread_text([one.test for one in own])}"] * any(one.test is not None for one in own)
            texts.append(f"best val {spread_text([one.val for one in own])}")
            parts.append("on fresh seeds " + ", ".join(texts))
        found.append(f"{name}, {len(own)} searches: {'; '.join(parts)}")
    return found


def spread_text(values: Sequence[float | None]) -> str:
    """ "0.0634 sd 0.0021" over the searches that have a value; NaN where runs of one diverged."""
    from vrcli.stats.inference import summary  # scipy is slow to import

    known = [one for one in values if one is not None]
    if not known:
        return "-"
    told = summary(known)
    missing = f" ({len(known)} of {len(values)})" if len(known) < len(values) else ""
    if told.diverged:
        return f"NaN{missing}"
    return number(told.mean) + (f" sd {number(told.sd, 2)}" if math.isfinite(told.sd) else "") + missing


def settings_text(chosen: Sequence[Mapping[str, Any]], *, rounded: bool = False) -> str:
    """The settings of several searches, as ranges where they differ.

    Args:
        rounded: in as many digits as mean something.
    """
    names = dict.fromkeys(name for own in chosen for name in own)
    values = {name: tuple(own[name] for own in chosen if name in own) for name in names}
    found = {name: own[0] if len(set(map(repr, own))) == 1 else Several(own) for name, own in values.items()}
    return settings(found, searched=names if rounded else ())
