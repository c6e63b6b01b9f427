"""Which row is the best, which cannot be told from it, and which of its rows stands for an optimizer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from vrcli.direction import cost
from vrcli.results.types import Cell, Column, Row
from vrcli.stats.comparison import differ_from_best, p_of
from vrcli.stats.inference import oriented


def rank(row: Row, column: Column) -> tuple[float, float, float, str]:
    """Sort key, smaller is better: the mean, infinite once a run diverged; then the median; then the finite mean.

    Rows of an unknown direction rise, with the diverged ones last.
    """
    found = row.cells[column.key].summary
    finite, median = cost(found.mean, column.direction), cost(found.median, column.direction)
    return math.inf if found.diverged else finite, median, finite, row.optimizer


def preference(row: Row, by: Column) -> tuple[object, ...]:
    """Sort key of the rows of one optimizer, the first of which stands for it.

    Fresh seeds come before a trial of a search, however lucky the trial; then settings found with more trials, which
    is what an optimizer was given; then those that do better on validation.
    """
    return row.searched, -row.trials, rank(row, by)


def standing(rows: Iterable[Row], by: Column) -> Row:
    """The row of one optimizer that stands for it, see `preference`."""
    first, *others = sorted(rows, key=lambda row: preference(row, by))
    more = any(row.searched and row.trials > first.trials for row in others)
    return replace(first, unconfirmed=not first.searched and more)


def best_of_each(rows: Sequence[Row], by: Column, trials: Mapping[int, int]) -> list[Row]:
    """The row of each optimizer that stands for it, see `preference`.

    Where those were not found by a search, all that were tried without one count as its trials. Where they were, the
    searches of as many trials that it was preferred to are counted.
    """
    members: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        members[row.optimizer].append(row)
    found = []
    for own in members.values():
        best = standing(own, by)
        if _from_search(best, trials):
            alike = [row for row in own if (row.searched, row.trials) == (best.searched, best.trials)]
            over = sum(row.searches for row in alike if row.run_ids != best.run_ids)
            found.append(replace(best, passed_over=best.passed_over + over))
        else:
            found.append(replace(best, trials=sum(not _from_search(row, trials) for row in own)))
    return found


def _from_search(row: Row, trials: Mapping[int, int]) -> bool:
    return any(run in trials for run in row.run_ids)


def mark(rows: Sequence[Row], columns: Sequence[Column], level: float, chosen_by: Column | None = None) -> list[Row]:
    """Mark the best row by each result, and the rows that cannot be told from it.

    A trial on the seed that chose it is never the best, and a single run only where there are no rows of several. By a
    result on test data the best is one of the rows that validation prefers, one of each optimizer.

    Args:
        rows: what is compared with each other.
        chosen_by: the result on validation; None where each optimizer has one row.
    """
    flags: dict[int, dict[str, Cell]] = defaultdict(dict)
    for column in columns:
        if column.direction is None or column.is_cost:
            continue
        measured = [row for row in rows if row.cells[column.key].summary.n]
        usable = [row for row in measured if math.isfinite(row.cells[column.key].summary.mean)]
        rivals = preferred(usable, chosen_by) if chosen_by and column.key.startswith("test_") else usable
        fresh = [row for row in rivals if not row.searched]
        several = [row for row in fresh if row.cells[column.key].summary.n > 1]
        if not fresh or len(measured) < 2:
            continue
        best = min(several or fresh, key=lambda row: rank(row, column))
        flags[id(best)][column.key] = replace(best.cells[column.key], best=True)
        others = [row for row in usable if row is not best]
        adjusted = differ_from_best([_p_against(best, row, column) for row in others])
        for row, p in zip(others, adjusted, strict=True):
            if p > 1 - level:
                flags[id(row)][column.key] = replace(row.cells[column.key], tied=True)
    return [replace(row, cells={**row.cells, **flags[id(row)]}) if id(row) in flags else row for row in rows]


def preferred(rows: Sequence[Row], by: Column) -> list[Row]:
    """The first row of each optimizer by `preference`; one of a single run only where it has no other."""
    first: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: (row.n == 1, *preference(row, by))):
        first.setdefault(row.optimizer, row)
    return list(first.values())


def _p_against(best: Row, row: Row, column: Column) -> float:
    a, b = best.cells[column.key].summary.values, row.cells[column.key].summary.values
    if min(len(a), len(b)) < 2 or best.varying or row.varying:
        return math.nan
    same = (best.seeds, best.per_search) == (row.seeds, row.per_search)
    paired = same and len(a) == len(b) == len(row.observations)
    direction = column.better
    return p_of(oriented(a, direction), oriented(b, direction), paired)
