"""The tables of the HTML page: results of a section, its comparisons, and every run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vrcli.report.tables import render
from vrcli.report.tables.columns import count
from vrcli.report.wording import MINUS, counted, number, p_value, settings, signed, with_half_width
from vrcli.results.best import mark, preference
from vrcli.results.groups import differing
from vrcli.results.summary import selector, summary_of
from vrcli.results.types import Cell, Column, Known, Row, Run, Table, outcome
from vrcli.stats.comparison import Comparison, compare_all

#: Characters of a name in a legend, a heading or a sentence; tables and details have it in full.
LABEL = 48


@dataclass(frozen=True)
class Head:
    """A heading of a table.

    Args:
        numeric: aligned to the right.
    """

    text: str
    numeric: bool = False


@dataclass(frozen=True)
class Data:
    """A cell of a table.

    Args:
        key: what it is sorted by, where that is not its text.
    """

    text: str
    bold: bool = False
    key: float | None = None


@dataclass(frozen=True)
class Grid:
    """A table of text."""

    heads: Sequence[Head]
    lines: Sequence[Sequence[Data]]


def shortened(text: str, most: int = LABEL) -> str:
    """The text, or its beginning where it is too long for its place."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def labels(names: Iterable[str]) -> dict[str, str]:
    """Names short enough for a legend; those that become equal are numbered."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        short, count = shortened(name), 2
        while short in found.values():
            short, count = f"{shortened(name, LABEL - 5)} ({count})", count + 1
        found[name] = short
    return found


def row_labels(rows: Sequence[Row], names: Mapping[str, str]) -> list[str]:
    """What each row is called in a chart: its optimizer, with what differs where an optimizer has several rows."""
    optimizers = [row.optimizer for row in rows]
    counts = Counter(optimizers)
    own = differing([row.settings for row in rows], optimizers, ignore=("epochs",))
    return [
        names[row.optimizer] + (f" {shortened(settings(unlike), 60)}" if counts[row.optimizer] > 1 and unlike else "")
        for row, unlike in zip(rows, own, strict=True)
    ]


def summary_grid(table: Table) -> Grid:
    """The table of one section, as every other format of it says it."""
    heads, lines = render.cells(table)
    titles = [text for text, _ in heads]
    found = []
    for row, line in zip(table.rows, lines, strict=True):
        keys: list[float | None] = [None] * len(line)
        for column in table.columns:
            if (title := column.title or column.key) in titles:
                keys[titles.index(title)] = _key(row.cells[column.key].summary.mean)
        cells = [Data(text, bold, key) for (text, bold), key in zip(line, keys, strict=True)]
        found.append([cell for title, cell in zip(titles, cells, strict=True) if title != "task"])
    # The task stands in the heading of the section.
    return Grid([Head(text, side == "right") for text, side in heads if text != "task"], found)


@dataclass(frozen=True)
class Verdicts:
    """Comparisons of a section's optimizers.

    Args:
        notes: what must be said of how the runs compared were chosen.
    """

    found: Sequence[Comparison]
    grid: Grid
    notes: Sequence[str]


def verdicts(
    table: Table, runs: Mapping[int, Run], names: Mapping[str, str], known: Known | None = None
) -> Verdicts | None:
    """Each optimizer's best row with at least two seeds against that of each other; None where there is no pair.

    The best rows are chosen on validation, as `tables.selector` has it, whatever is compared. Trials on the seeds of
    their own search are left out: the best of many is better than it will be again. So are runs that completed
    without the result; a diverged one counts as worst whatever it has.

    Args:
        runs: by id.
        names: how optimizers are written.
        known: see `tables.summarise`.
    """
    column = next((c for c in table.columns if c.direction is not None and not c.is_cost), None)
    if column is None or column.direction is None:
        return None
    eligible = [row for row in table.rows if row.n >= 2 and not row.searched and None not in row.seeds]
    by = selector(table.columns, [runs[i] for row in eligible for i in row.run_ids], known)
    best = chosen_rows(eligible, runs, by)
    groups, notes = {}, []
    for name, row in best.items():
        missing = sum(outcome(runs[id], column.key) is None for id in row.run_ids)
        if missing:
            notes.append(f"{missing} of {row.n} runs of {names[name]} have no {column.key}: left out")
        values = _measured(row, runs, column)
        if len(values) >= 2:
            groups[names[name]] = values
    if any(row.per_search for row in best.values()):
        notes.append("of several searches each is one observation, the mean of its fresh runs; pairs are searches, too")
    if len(groups) < 2:
        return None
    if len(eligible) > len(best):
        notes.append(f"of an optimizer with several settings one row is compared, {_chosen_by(by, column)}")
    found = compare_all(groups, metric=column.title or column.key, direction=column.direction, level=table.level)
    return Verdicts(found, _comparison_grid(found, table.level), notes)


def _chosen_by(by: Column, column: Column) -> str:
    words = f"that found with the most trials, of those the best by {by.title or by.key} of the same runs"
    return f"{words}, so it is optimistic" if by.key == column.key else words


def chosen_rows(rows: Sequence[Row], runs: Mapping[int, Run], by: Column) -> dict[str, Row]:
    """The row that stands for each optimizer, by a result which need not stand in the table; see `tables.preference`.

    Of a result that is not known to be better when it is less or more, the first row stands: nothing is best by it.
    """

    def order(row: Row) -> tuple[object, ...]:
        own = [runs[id] for id in row.run_ids]
        return preference(replace(row, cells={by.key: Cell(summary_of(own, row.per_search, by))}), by)

    found: dict[str, Row] = {}
    for row in sorted(rows, key=order) if by.direction is not None else rows:
        found.setdefault(row.optimizer, row)
    return found


def best_on_validation(table: Table, runs: Mapping[int, Run], known: Known | None = None) -> list[Row]:
    """Each optimizer's best row, whatever orders the table."""
    by = selector(table.columns, [runs[i] for row in table.rows for i in row.run_ids], known)
    return list(chosen_rows(table.rows, runs, by).values())


def _measured(row: Row, runs: Mapping[int, Run], column: Column) -> dict[Any, float]:
    """A result of a row's runs by seed: NaN where one diverged, nothing where one completed without it.

    Of several searches it is that of each search, by its place and seeds.
    """
    own = [runs[id] for id in row.run_ids]
    if row.per_search:
        found = summary_of(own, row.per_search, column).values
        blocks = [(at, *(row.seeds[place] for place in places)) for at, places in enumerate(row.observations)]
        return dict(zip(blocks, found, strict=True)) if len(found) == len(blocks) else dict(enumerate(found))
    values = zip(row.seeds, (outcome(run, column.key) for run in own), strict=True)
    return {int(seed or 0): value for seed, value in values if value is not None}


def _comparison_grid(found: Sequence[Comparison], level: float) -> Grid:
    heads = ["pair", "difference", f"{100 * level:g} % interval", "p", "p (Holm)", "effect size"]
    heads += ["P(first is better)", "wins", "seeds", "diverged", "test"]
    return Grid([Head(text, 0 < i < 10) for i, text in enumerate(heads)], [_comparison_line(c) for c in found])


def _comparison_line(one: Comparison) -> list[Data]:
    interval = f"[{signed(one.interval[0])}, {signed(one.interval[1])}]" if math.isfinite(one.half_width) else "-"
    return [
        Data(f"{one.a} {MINUS} {one.b}"),
        Data(signed(one.difference) if math.isfinite(one.difference) else "-", one.significant, _key(one.difference)),
        Data(interval, False, _key(one.interval[0])),
        Data(_p(one.p), False, _key(one.p)),
        Data(_p(one.p_holm), one.significant, _key(one.p_holm)),
        Data(signed(one.effect_size) if math.isfinite(one.effect_size) else "-", False, _key(one.effect_size)),
        Data(number(one.superiority, 2), False, _key(one.superiority)),
        Data(f"{one.wins} of {one.n}" if one.paired else "-", False, float(one.wins)),
        Data(f"{one.n}, {'paired' if one.paired else 'unpaired'}", False, float(one.n)),
        Data(f"{one.diverged[0]} / {one.diverged[1]}", False, float(sum(one.diverged))),
        Data(one.test),
    ]


def _p(p: float) -> str:
    return p_value(p).removeprefix("p ").removeprefix("= ") if math.isfinite(p) else "-"


def _key(value: float) -> float | None:
    return value if math.isfinite(value) else None


def at_a_glance(table: Table, runs: Mapping[int, Run], known: Known | None = None) -> dict[str, Any] | None:
    """The best row of a section by its first column, and which optimizers cannot be told from it.

    By a result on test data only the rows are compared that were chosen on validation, one of each optimizer.
    """
    if not table.columns or not table.rows:
        return None
    column = table.columns[0]
    key, rows = column.key, list(table.rows)
    if key.startswith("test_"):
        rows = best_on_validation(table, runs, known)
    several = [row for row in rows if row.n > 1]
    unmarked = [replace(row, cells={key: Cell(row.cells[key].summary)}) for row in rows]
    # Marked as in the table, unless that has other rows, or a single run is ahead of rows of several.
    if key.startswith("test_") or (several and any(row.n == 1 and row.cells[key].best for row in rows)):
        rows = mark([row for row in unmarked if row.n > 1] if several else unmarked, [column], table.level)
    winner = next((row for row in rows if row.cells[key].best), None)
    if winner is None:
        return None
    tied = {row.optimizer: count(row) for row in rows if row.cells[key].tied and row.optimizer != winner.optimizer}
    singles = sum(row.n == 1 for row in table.rows)
    found = winner.cells[key].summary
    return {
        "winner": winner,
        "measure": column.title or key,
        "value": with_half_width(found.mean, found.half_width, percent=column.percent),
        "tied": [f"{name} (n = {n})" for name, n in tied.items()],
        "untested": f"of {counted(singles, 'single run')} nothing is tested" if singles and len(table.rows) > 1 else "",
    }
