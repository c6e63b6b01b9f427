"""Tables as papers have them: one row per optimizer, one column per task, one result in each cell.

Rows and columns are one of `FIELDS` or a setting each. What is neither stays with the rows: two data sets, presets or
optimizers never share a cell. Where several settings of an optimizer fall in one cell, the best of them on the
validation set is shown, which the footnotes say.
"""

from __future__ import annotations

import io
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from typing import Any, TypeAlias

from vrcli.output import CsvWriter, finite
from vrcli.report.tables.columns import budget, count, searched_mark
from vrcli.report.tables.layout import value
from vrcli.report.tables.notes import (
    CHOSEN,
    PRUNED,
    SEARCHED,
    diverged_notes,
    fairness_notes,
    machine_notes,
    minimum_notes,
    several_notes,
    spread_notes,
    tied,
    unconfirmed_notes,
    unequal_notes,
    untested_notes,
)
from vrcli.report.tables.render import NUMBERS, Cells, cell_json, lay_out
from vrcli.report.wording import setting
from vrcli.results.best import mark, rank, standing
from vrcli.results.types import Column, Note, Row, Section, Several, Table, data_name, same_name_other_data
from vrcli.visible import visible_json

#: What rows and columns can be besides settings. A task stands for its data set and preset, too.
FIELDS = ("task", "dataset", "preset", "optimizer")
Label: TypeAlias = tuple[str, ...]
Key: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Pivot:
    """Rows by columns.

    Args:
        names: of the row labels, the field asked for last.
        heads: the columns' labels in order.
        lines: the rows in order: their labels, and under each head what is shown there, None where nothing is.
        metrics: results shown under each head.
        table: the rows it was made of.
    """

    names: tuple[str, ...]
    heads: tuple[str, ...]
    lines: tuple[tuple[Label, tuple[Row | None, ...]], ...]
    metrics: tuple[Column, ...]
    table: Table
    notes: tuple[str, ...]


def pivot(
    table: Table, metrics: Sequence[Column], *, rows: str, columns: str, chosen_by: Column, sort: str | None = None
) -> Pivot:
    """Lay the rows of a table out again.

    Args:
        table: with cells for `metrics` and `chosen_by`.
        rows: one of `FIELDS` or a setting, as is columns.
        chosen_by: the validation result by which one of several settings is chosen.
        sort: one of `sorts`: a row name, or a result: by its mean rank over the columns, which is the default with
            the first one; with "-" before it, backwards.

    Raises:
        ValueError: one of several settings is to be chosen, by a result of which nobody knows whether less or more is
            better.
    """
    axes = _Axes(table.rows, rows, columns)
    found: dict[tuple[Key, Key], list[Row]] = defaultdict(list)
    for row in table.rows:
        found[axes.row_key(row), axes.key(row, columns)].append(row)
    shown, most = {}, 1
    for place, members in found.items():
        best = standing(members, chosen_by)
        shown[place] = changed(best, trials=len(members)) if best.trials == 1 else best
        most = max(most, len(members))
    if most > 1 and chosen_by.direction is None:
        raise ValueError(f"whether less or more {chosen_by.key} is better is not known, so nothing is best by it")
    shown, unequal = _marked(shown, metrics, by_line=columns == "optimizer", level=table.level)
    heads = sorted({head for _, head in shown}, key=_order)
    keys = _sorted_lines(shown, heads, axes.names, metrics, sort)
    lines = [(axes.row_label(key), tuple(shown.get((key, head)) for head in heads)) for key in keys]
    notes = _notes(list(shown.values()), table, metrics, unequal)
    if most > 1:
        by = chosen_by.title or chosen_by.key
        notes.insert(1, f"each cell {CHOSEN} {by} (of up to {most})")
    labels = tuple(axes.label(head, columns) for head in heads)
    return Pivot(axes.names, labels, tuple(lines), tuple(metrics), table, tuple(notes))


def sorts(table: Table, metrics: Sequence[Column], *, rows: str, columns: str) -> set[str]:
    """What the lines of `pivot` can be sorted by."""
    return {*_Axes(table.rows, rows, columns).names, *(metric.key for metric in metrics)}


class _Axes:
    """What tells rows and columns apart, and how it is called."""

    def __init__(self, rows: Iterable[Row], row: str, column: str) -> None:
        self._rows = list(rows)
        self._own = (row, column)
        self._ambiguous = same_name_other_data([r.section for r in self._rows])
        left = [name for name in ("task", "optimizer") if name not in self._own]
        # What tells nothing apart needs no column.
        leading = [name for name in left if len({self.key(r, name) for r in self._rows}) > 1]
        self.names = (*leading, row)
        self._tasks = {self.key(r, "task") for r in self._rows}

    def key(self, row: Row, name: str) -> Key:
        """Equal for rows that are not to be told apart by this name."""
        if name == "task":
            data = ("", "") if "dataset" in self._own else (row.dataset, row.fingerprint)
            return (row.task, *data, "" if "preset" in self._own else row.preset)
        if name == "dataset":
            return row.dataset, row.fingerprint
        if name in FIELDS:
            return (getattr(row, name),)
        if name in row.ranges:
            return (setting(Several(row.ranges[name])),)
        found = row.settings.get(name)
        return (tuple(found) if isinstance(found, list) else found,)

    def row_key(self, row: Row) -> Key:
        return tuple(self.key(row, name) for name in self.names)

    def row_label(self, key: Key) -> Label:
        return tuple(self.label(part, name) for part, name in zip(key, self.names, strict=True))

    def label(self, key: Key, name: str) -> str:
        """As short as tells it apart from the others."""
        if name == "task":
            section: Section = (key[0], key[1], key[2], key[3])
            alone = sum(other[0] == key[0] for other in self._tasks) == 1
            about = ", ".join(part for part in (data_name(section, self._ambiguous), key[3]) if part)
            return str(key[0]) if alone or not about else f"{key[0]} ({about})"
        if name == "dataset":
            several = any(name == key[0] for _, name in self._ambiguous)
            return f"{key[0]}#{key[1][:6]}" if several else str(key[0])
        if name in FIELDS:
            return str(key[0])
        return f"{name}={setting(key[0])}" if name == self._own[1] else setting(key[0])


def _order(key: Key) -> list[tuple[int, Any]]:
    """Numbers by size, then text; what is missing last."""
    flat = [part for item in key for part in (item if isinstance(item, tuple) else (item,))]
    return [
        (2, "") if part is None else (0, part) if isinstance(part, int | float) else (1, str(part)) for part in flat
    ]


def _marked(
    shown: Mapping[tuple[Key, Key], Row], metrics: Sequence[Column], *, by_line: bool, level: float
) -> tuple[dict[tuple[Key, Key], Row], bool]:
    """The best of each column within a section (of each line where optimizers are columns); are budgets unequal?"""
    rivals: dict[Key, list[tuple[Key, Key]]] = defaultdict(list)
    for place, row in shown.items():
        rivals[row.section, place[0] if by_line else place[1]].append(place)
    found: dict[tuple[Key, Key], Row] = {}
    unequal = False
    for places in rivals.values():
        marked = mark([shown[place] for place in places], metrics, level)
        found.update(zip(places, marked, strict=True))
        unequal |= bool(unequal_notes(marked))
    return {place: found[place] for place in shown}, unequal


def _sorted_lines(
    shown: Mapping[tuple[Key, Key], Row],
    heads: Sequence[Key],
    names: Sequence[str],
    metrics: Sequence[Column],
    sort: str | None,
) -> list[Key]:
    keys = sorted({key for key, _ in shown}, key=_order)
    name, backwards = (sort or "").removeprefix("-"), (sort or "").startswith("-")
    if name in names or (not name and names[-1] != "optimizer"):
        at = names.index(name) if name else len(names) - 1
        return sorted(keys, key=lambda key: _order((key[at], *key)), reverse=backwards)
    column = next((metric for metric in metrics if metric.key == name), metrics[0])
    places: dict[Key, list[int]] = defaultdict(list)
    for head in heads:
        inside = sorted((key for key in keys if (key, head) in shown), key=lambda key: rank(shown[key, head], column))
        for place, key in enumerate(inside):
            places[key].append(place)
    mean = {key: sum(places[key]) / len(places[key]) for key in keys}
    # Within what stands before the row's own name: the lines of a task stay together.
    return sorted(keys, key=lambda key: (_order(key[:-1]), -mean[key] if backwards else mean[key]))


def _notes(rows: Sequence[Row], table: Table, metrics: Sequence[Column], unequal: bool) -> list[str]:
    words = " and ".join(metric.title or metric.key for metric in metrics)
    spread = spread_notes(rows, metrics, table.level, table.spread)
    head = f"{words}; {', '.join(note.text for note in spread) or 'means over n seeds'}"
    found: list[Note] = []
    cells = [row.cells[metric.key] for row in rows for metric in metrics if not metric.is_cost]
    if any(cell.tied for cell in cells):
        found.append(tied(table.level))
    found += [*minimum_notes(metrics, rows), *diverged_notes(rows, metrics)]
    sections, later = _section_notes(rows), len(found)
    found += unequal_notes(rows) if unequal else []
    found += [PRUNED] if any(row.pruned for row in rows) else []
    found += [SEARCHED] if any(row.searched for row in rows) else []
    found += [*unconfirmed_notes(rows), *several_notes(rows), *fairness_notes(rows), *untested_notes(rows, metrics)]
    told = [note.text for note in [*found, *machine_notes(rows, metrics)]]
    return [head, *told[:later], *sections, *told[later:]]


def _section_notes(rows: Sequence[Row]) -> list[str]:
    """Data set, preset, seeds and budget of each task, which the columns have no room for."""
    sections: dict[Section, list[Row]] = defaultdict(list)
    for row in rows:
        sections[row.section].append(row)
    ambiguous = same_name_other_data(list(sections))
    found = []
    for section, members in sorted(sections.items()):
        counts = list(dict.fromkeys(count(row) for row in sorted(members, key=lambda row: row.n)))
        n = counts[0] if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        budgets = sorted({budget(row) for row in members})
        mark = " §" if unequal_notes(members) else ""
        about = [data_name(section, ambiguous), section[3], f"n = {n}", "budget " + " and ".join(budgets) + mark]
        found.append(f"{section[0]}: {', '.join(part for part in about if part)}")
    return found


def render(found: Pivot, format: str) -> str:
    """The layout as text.

    Args:
        format: one of `render.formats()`.
    """
    if format == "json":
        return _to_json(found)
    if format in ("csv", "tsv"):
        return _to_csv(found, "\t" if format == "tsv" else ",")
    return lay_out(cells(found), found.notes, format)


def titles(found: Pivot) -> list[str]:
    """The headings right of the row labels: head by head, and under each the metrics."""
    one = len(found.heads) == 1 and len(found.metrics) > 1
    return [
        head if len(found.metrics) == 1 else (metric.title if one else f"{head}: {metric.title}")
        for head in found.heads
        for metric in found.metrics
    ]


def cells(found: Pivot) -> Cells:
    """What every format writes."""
    heads = [(name, "left") for name in found.names] + [(title, "right") for title in titles(found)]
    lines, previous = [], ("",) * len(found.names)
    for label, row in found.lines:
        same = label[:-1] == previous[:-1]
        line = [("" if same else text, False) for text in label[:-1]] + [(label[-1], False)]
        for cell in row:
            line += [_text(cell, metric, found.table) for metric in found.metrics]
        lines.append(line)
        previous = label
    return heads, lines


def _text(row: Row | None, metric: Column, table: Table) -> tuple[str, bool]:
    if row is None:
        return "-", False
    cell = row.cells[metric.key]
    return value(cell, metric, table.spread) + searched_mark(row), cell.best


def _to_json(found: Pivot) -> str:
    """Every number in full; a number that does not exist is null, never NaN."""
    rows = []
    for label, row in found.lines:
        own = []
        for head, cell in zip(found.heads, row, strict=True):
            if cell is not None:
                about = {name: getattr(cell, name) for name in ("task", "dataset", "preset", "optimizer")}
                metrics = {metric.key: cell_json(cell.cells[metric.key]) for metric in found.metrics}
                names = ("n", "diverged", "searches", "trials", "searched", "epochs", "until")
                cost = {name: getattr(cell, name) for name in names}
                own.append({"column": head, **about, "settings": dict(cell.settings), **cost, "metrics": metrics})
        rows.append({"row": dict(zip(found.names, label, strict=True)), "cells": own})
    body = {"level": found.table.level, "columns": list(found.heads), "rows": rows, "notes": list(found.notes)}
    return visible_json(json.dumps(body, indent=2, allow_nan=False, default=str, ensure_ascii=False))


def _to_csv(found: Pivot, delimiter: str) -> str:
    """One line per row, the numbers of every cell beside each other; one that does not exist is an empty field."""
    out = io.StringIO()
    writer = CsvWriter(out, delimiter=delimiter, lineterminator="\n")
    names = [f"{head} {metric.key}" for head in found.heads for metric in found.metrics]
    writer.writerow([*found.names, *(f"{name}_{key}" for name in names for key in (*NUMBERS, "n"))])
    for label, row in found.lines:
        line: list[object] = list(label)
        for cell in row:
            for metric in found.metrics:
                summary = cell.cells[metric.key].summary if cell is not None else None
                line += [finite(getattr(summary, key, math.nan)) for key in NUMBERS]
                line.append(summary.n if summary else 0)
        writer.writerow(line)
    return out.getvalue()
