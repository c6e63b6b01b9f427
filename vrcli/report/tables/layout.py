"""Which columns a table prints, and their text: the same cells for every format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vrcli.report.tables.columns import COLUMNS, View, cells, in_order, searched_mark
from vrcli.report.wording import duration, number, setting, settings, with_half_width
from vrcli.results.types import Cell, Column, Note, Row, Several, Spread, Table
from vrcli.stats.inference import Summary

#: What default tables are made to fit in, see `fit`.
WIDTH = 100
#: Borders and spaces of one column in markdown, and what bold takes.
BORDER, BOLD = 3, 4


@dataclass(frozen=True)
class Printed:
    """One column of text.

    Args:
        name: a field, a result's key or a setting.
        side: "left" or "right".
        cells: text, and whether it is bold.
    """

    name: str
    title: str
    side: str
    cells: Sequence[tuple[str, bool]]

    @property
    def width(self) -> int:
        return BORDER + max([len(self.title), *(len(text) + BOLD * bold for text, bold in self.cells)])


def printed(table: Table, *, rounded: bool = False) -> list[Printed]:
    """The columns of a table as text.

    Args:
        rounded: settings that a search chose have as many digits as mean something.
    """
    names = list(table.shown) if table.shown is not None else default_names(table)
    if "task" not in names and len({row.section for row in table.rows}) > 1:
        names.insert(0, "task")  # rows of different tasks must not look alike
    return [_printed(table, name, names, rounded=rounded) for name in names]


def default_names(table: Table) -> list[str]:
    """The columns that say something about these rows."""
    return in_order([column.key for column in table.columns], lambda column: column.usual(table))


def every_name(table: Table) -> list[str]:
    """All there is to show: fields and the table's results."""
    return in_order([column.key for column in table.columns])


def show(table: Table, names: Sequence[str]) -> Table:
    """The table with these columns, and the notes on what they show."""
    return replace(table, shown=tuple(names), noted=tuple(names))


def fit(table: Table, terminal: int | None = None) -> tuple[Table, list[str]]:
    """The table with as many of its usual columns as fit a line, and what was left out.

    First a preset that all rows share becomes a note, then the settings, where the optimizers alone tell the rows
    apart, then the last results go, down to two, except those that the task wants shown. Settings that a search chose
    stay in the table unless it is for a terminal: the lines of a file may be longer.

    Args:
        terminal: columns of the terminal that shows it; None for a file or a pipe, which have `WIDTH` without the
            settings.
    """
    width = terminal or WIDTH
    columns = {column.name: column for column in printed(table)}
    total = 1 + sum(column.width for column in columns.values())
    names, dropped = list(columns), []
    said: list[Note] = []
    kinds = {(row.section, row.optimizer) for row in table.rows}
    results = [column.key for column in table.columns[2:] if not column.shown]
    presets = {row.preset for row in table.rows}
    if total > width and len(presets) == 1 and presets != {""}:
        said.append(Note("preset", f"preset of all rows: {presets.pop()}"))
        names.append("preset")  # shown by the note: the label of the task leaves it out
        shorter = _printed(table, "task", names)
        total -= columns["task"].width - shorter.width
    if total > width and "settings" in names and len(kinds) == len(table.rows):
        total -= columns["settings"].width
        if terminal or not any(row.axes for row in table.rows):
            names.remove("settings")
            said += _settings_notes(table)
    while total > width and results:
        last = results.pop()
        names.remove(last)
        dropped.append(columns[last].title)
        total -= columns[last].width
    if dropped or said:
        table = show(table, [name for name in names if name != "preset"])
        table = replace(table, said=(*table.said, *said), common_preset="preset" in names)
    return table, dropped


def _settings_notes(table: Table) -> list[Note]:
    """The settings of every row, a line for each."""
    view, several = View(table, []), len({row.section for row in table.rows}) > 1
    return [
        Note(
            "settings",
            f"settings of {row.optimizer}{f', {view.label(row)}' if several else ''}: {settings(dict(row.shown))}",
        )
        for row in table.rows
        if row.shown
    ]


def _printed(table: Table, name: str, names: Sequence[str], *, rounded: bool = False) -> Printed:
    column = next((c for c in table.columns if c.key == name), None)
    if column is not None:
        own = [searched_mark(row) if "budget" not in names else "" for row in table.rows]
        found = [
            (value(row.cells[name], column, table.spread) + mark, row.cells[name].best)
            for row, mark in zip(table.rows, own, strict=True)
        ]
        return Printed(name, column.title or name, "right", found)
    if name in COLUMNS:
        side = "right" if COLUMNS[name].numeric else "left"
        return Printed(name, name, side, cells(name, View(table, names, rounded)))
    return Printed(name, name, "right", [(_setting(row, name), False) for row in table.rows])


def _setting(row: Row, name: str) -> str:
    if name in row.ranges:
        return setting(Several(row.ranges[name]))
    if name in row.varying:
        return f"{row.varying[name]} values"
    return setting(row.settings[name]) if name in row.settings else "-"


def value(cell: Cell, column: Column, spread: Spread = "ci") -> str:
    """One result of one row as text, with its marks."""
    found = cell.summary
    if not found.n:
        return "-"
    if not math.isfinite(found.mean):
        return "NaN"
    text = _cost(found, column) if column.is_cost else _with_spread(found, column, spread)
    return text + (" ‡" if found.diverged else "") + (" †" if cell.tied else "")


def _with_spread(found: Summary, column: Column, spread: Spread) -> str:
    if spread == "minmax" and math.isfinite(found.sd):
        finite = [v for v in found.values if math.isfinite(v)]
        scale, digits = (100, 3) if column.percent else (1, 4)
        low, mean, high = (number(scale * v, digits) for v in (min(finite), found.mean, max(finite)))
        return f"{mean} [{low}, {high}]" + (" %" if column.percent else "")
    half: dict[str, Any] = {"ci": found.half_width, "sd": found.sd}
    return with_half_width(found.mean, half.get(spread, math.nan), percent=column.percent)


def _cost(found: Summary, column: Column) -> str:
    """What a run cost: a mean without an interval, in a unit that reads well."""
    if column.key in ("wall_s", "train_s"):
        return duration(found.mean)
    if column.key == "peak_memory_bytes":
        return f"{found.mean / 2**20:,.0f} MiB"
    whole = not column.measures_machine or abs(found.mean) >= 1000
    return f"{found.mean:,.0f}" if whole else number(found.mean, 3)
