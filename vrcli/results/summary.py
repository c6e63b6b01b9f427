"""The table of `vr report`: optimizers side by side, with what is needed to believe it.

Rows are configurations (complete specs without the seed) by task, data set and preset. Nothing is merged that differs
in anything else unless that is asked for, and then it is said; a trial of a search and a run on a fresh seed never
share a row, nor do different budgets. The best is compared with each other row (Holm, 5%), and unequal budgets are
marked.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from vrcli.results.groups import Group, group_runs, pool, shown_settings
from vrcli.results.types import Cell, Column, Known, Row, Run, Section, Spread, Table, axes_of, outcome, shown_columns
from vrcli.stats.comparison import p_of
from vrcli.stats.inference import Summary, holm, oriented, summary

#: What rows can be sorted by besides results and settings.
SORTS: Mapping[str, Callable[[Row], Any]] = {
    "task": lambda row: row.section,
    "optimizer": lambda row: row.optimizer,
    "n": lambda row: row.n,
    "diverged": lambda row: row.diverged / row.n,
    "budget": lambda row: row.trials * (row.epochs or 1),
}


#: How results begin by which settings may be chosen: neither the training nor the test set tells which are best.
VALIDATION = ("best_val_", "val_", "final_val_")


def summarise(
    runs: Sequence[Run],
    columns: Sequence[Column | str] | None = None,
    *,
    trials: Mapping[int, int] | None = None,
    pruned: Collection[int] = (),
    known: Known | None = None,
    one_per_optimizer: bool = False,
    group_by: Sequence[str] = (),
    sort: str | None = None,
    level: float = 0.95,
    spread: Spread = "ci",
) -> Table:
    """Group finished runs and compare the groups.

    Args:
        runs: unfinished and failed ones are ignored.
        columns: results to show; the first one orders the rows. By default what `default_columns` finds.
        trials: by run id, the trials of the search the run's settings come from; 1 for the others.
        pruned: ids of the runs whose settings come from a search that stopped trials early.
        known: metrics that the tasks declare, by result name; without it, a result that is no loss, perplexity or
            accuracy has no best row.
        one_per_optimizer: keep each optimizer's best settings, see `selector`; the settings it was tried with then
            count as its trials.
        group_by: settings; runs of an optimizer that agree in them and in the budget are pooled into one row.
        sort: a result, a setting or one of `SORTS`, with "-" before it for the largest first; within each section.
        level: of the intervals.
        spread: what stands beside a mean.

    Raises:
        ValueError: one row per optimizer, by a result of which nobody knows whether less or more is better.
    """
    wanted = [c if isinstance(c, Column) else Column.of(c, known) for c in columns or default_columns(runs, known)]
    by = _usable_selector(wanted, runs, known) if one_per_optimizer else None
    order = (sort or "").removeprefix("-")
    measured = _measured([*wanted, *([by] if by else [])], order, runs, known)
    trials = trials or {}
    sections: dict[Section, list[Row]] = defaultdict(list)
    for group in grouped(runs, trials, pruned, group_by):
        sections[group.section].append(_row(group, measured, trials, pruned, level))
    rows: list[Row] = []
    for _, members in sorted(sections.items(), reverse=sort == "-task"):
        kept = _best_of_each(members, by, trials) if by is not None else members
        ordered = sorted(kept, key=lambda row: rank(row, wanted[0])) if wanted else kept
        if sort and order != "task":
            ordered = sorted_by(ordered, order, descending=sort.startswith("-"))
        rows += mark(_with_shown(ordered, group_by), wanted, level)
    return Table(tuple(wanted), tuple(rows), level, spread=spread, chosen_by=by)


def _measured(columns: Sequence[Column], order: str, runs: Sequence[Run], known: Known | None) -> list[Column]:
    """The results that rows need cells for: the columns, and the one that they are sorted by."""
    found = list({column.key: column for column in columns}.values())
    if order in SORTS or any(column.key == order for column in columns):
        return found
    return [*found, Column.of(order, known)] if any(order in run.results for run in runs) else found


def _usable_selector(columns: Sequence[Column], runs: Sequence[Run], known: Known | None) -> Column:
    by = selector(columns, runs, known)
    if by.direction is None:
        raise ValueError(f"whether less or more {by.key} is better is not known, so nothing is best by it")
    return by


def grouped(
    runs: Sequence[Run], trials: Mapping[int, int], pruned: Collection[int], group_by: Sequence[str]
) -> list[Group]:
    """The groups behind the rows."""

    def kind(run: Run) -> tuple[object, ...]:
        return getattr(run, "trial_id", None) is not None, trials.get(run.id, 1), run.id in pruned

    groups = group_runs(runs, separate_by=kind)
    if not group_by:
        return groups

    def budget(group: Group) -> tuple[object, ...]:
        first = group.runs[0]
        searched = getattr(first, "trial_id", None) is not None
        return searched, trials.get(first.id, 1), group.settings.get("epochs"), group.settings.get("max_steps")

    return pool(groups, group_by, budget)


def _with_shown(rows: Sequence[Row], group_by: Sequence[str]) -> list[Row]:
    settings, optimizers = [row.settings for row in rows], [row.optimizer for row in rows]
    shown = shown_settings(settings, optimizers, [row.axes for row in rows], ignore=("epochs",))
    named = [{name: row.settings[name] for name in group_by if name in row.settings} for row in rows]
    return [
        replace(row, shown={**first, **own}) if first or own else row
        for row, first, own in zip(rows, named, shown, strict=True)
    ]


def default_columns(runs: Sequence[Run], known: Known | None = None) -> list[Column]:
    """Best validation objective, its test value and the test loss, then on validation accuracy, or else perplexity.

    The metrics that a task wants shown follow, on validation too.
    """
    keys = {key for run in runs for key in run.results}
    best = sorted({run.objective for run in runs}) or ["best_val_loss"]
    objectives = {key.removeprefix("best_") for key in best}
    test = [key for key in ("test_loss",) if key in keys]
    test += sorted(f"test_{o.removeprefix('val_')}" for o in objectives if f"test_{o.removeprefix('val_')}" in keys)
    others = [key for key in ("val_accuracy", "val_perplexity") if key in keys and key not in objectives]
    usual = [Column.of(key, known) for key in dict.fromkeys([*best, *test, *others[:1]])]
    return list(dict.fromkeys([*usual, *shown_columns(runs, known or {})]))


def selector(columns: Sequence[Column], runs: Sequence[Run], known: Known | None = None) -> Column:
    """By what the best settings are chosen: the first of the results that is measured on the validation set."""
    for column in columns:
        if column.key.startswith(VALIDATION):
            return column
    return default_columns(runs, known)[0]


def sortable(runs: Iterable[Run], settings: Iterable[str]) -> set[str]:
    """Every name that rows can be sorted by."""
    return {*SORTS, *settings, *(name for run in runs for name in run.results)}


def sorted_by(rows: Sequence[Row], name: str, *, descending: bool = False) -> list[Row]:
    """Rows by a result's mean, a setting or one of `SORTS`; those that have none come last."""

    def value(row: Row) -> Any:
        if name in SORTS:
            return SORTS[name](row)
        if name in row.cells:
            return row.cells[name].summary.mean
        return row.settings.get(name)

    keyed = [(value(row), row) for row in rows]
    have = [(v, row) for v, row in keyed if v is not None and v == v]
    if any(isinstance(v, str | list | bool) for v, _ in have) and len({type(v) for v, _ in have}) > 1:
        have = [(str(v), row) for v, row in have]
    found = [row for _, row in sorted(have, key=lambda pair: pair[0], reverse=descending)]
    return found + [row for v, row in keyed if v is None or v != v]


def _row(
    group: Group, columns: Sequence[Column], trials: Mapping[int, int], pruned: Collection[int], level: float
) -> Row:
    task, dataset, fingerprint, preset = group.section
    epochs = group.settings.get("epochs")
    return Row(
        task=task,
        dataset=dataset,
        fingerprint=fingerprint,
        preset=preset,
        optimizer=group.optimizer,
        settings=group.settings,
        shown={},
        seeds=tuple(run.seed for run in group.runs),
        run_ids=tuple(run.id for run in group.runs),
        diverged=sum(run.status == "diverged" for run in group.runs),
        repeats=group.repeats,
        trials=trials.get(group.runs[0].id, 1),
        pruned=any(run.id in pruned for run in group.runs),
        epochs=int(epochs) if epochs is not None else None,
        max_steps=group.settings.get("max_steps"),
        hardware=tuple(sorted({_machine(run) for run in group.runs})),
        cells={c.key: Cell(_summary(_values(group, c), c, level)) for c in columns},
        searched=getattr(group.runs[0], "trial_id", None) is not None,
        axes=tuple(dict.fromkeys(name for run in group.runs for name in axes_of(run))),
        varying=group.varying,
    )


def _summary(values: Sequence[float], column: Column, level: float) -> Summary:
    if len(values) == 1 and math.isfinite(values[0]):  # common in long tables, and there is nothing to compute
        nan, value = math.nan, float(values[0])
        return Summary(1, 0, value, nan, value, nan, nan, level, (value,))
    return summary(values, direction=column.direction or "min", level=level)


def _values(group: Group, column: Column) -> list[float]:
    """The column's values: NaN for a diverged run, and nothing where a completed run did not record it."""
    if column.is_cost:
        return [r.results[column.key] for r in group.runs if r.status == "completed" and column.key in r.results]
    return [value for run in group.runs if (value := outcome(run, column.key)) is not None]


def _machine(run: Run) -> str:
    # What differs between the runs of a machine (the command line) is stored before the machine, which is read once.
    text: str = getattr(run, "provenance_json", "")
    at = text.find('"device": ')
    return _machine_in(text[at:]) if at > 0 and '"cpu": ' in text[at:] else _machine_of(run.provenance)


@lru_cache
def _machine_in(tail: str) -> str:
    return _machine_of(json.loads("{" + tail))


def _machine_of(provenance: Mapping[str, Any]) -> str:
    device = provenance.get("device")
    return str(device if device not in (None, "cpu") else provenance.get("cpu", ""))


def rank(row: Row, column: Column) -> tuple[float, float, float, str]:
    """Sort key, smaller is better: the mean, infinite once a run diverged; then the median; then the finite mean.

    Rows of an unknown direction rise, with the diverged ones last.
    """
    found = row.cells[column.key].summary
    sign = -1.0 if column.direction == "max" else 1.0
    finite = sign * found.mean if math.isfinite(found.mean) else math.inf
    median = sign * found.median if math.isfinite(found.median) else math.inf
    return math.inf if found.diverged else finite, median, finite, row.optimizer


def preference(row: Row, by: Column) -> tuple[object, ...]:
    """Sort key of the rows of one optimizer, the first of which stands for it.

    Fresh seeds come before a trial of a search, however lucky the trial; then settings found with more trials, which
    is what an optimizer was given; then those that do better on validation.
    """
    return row.searched, -row.trials, rank(row, by)


def _best_of_each(rows: Sequence[Row], by: Column, trials: Mapping[int, int]) -> list[Row]:
    """The row of each optimizer that stands for it, see `preference`.

    Where those were not found by a search, all that were tried without one count as its trials.
    """
    own = Counter(row.optimizer for row in rows if not _from_search(row, trials))
    first: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: preference(row, by)):
        first.setdefault(row.optimizer, row)
    return [row if _from_search(row, trials) else replace(row, trials=own[row.optimizer]) for row in first.values()]


def _from_search(row: Row, trials: Mapping[int, int]) -> bool:
    return any(run in trials for run in row.run_ids)


def mark(rows: Sequence[Row], columns: Sequence[Column], level: float) -> list[Row]:
    """Mark the best row by each result, and the rows that cannot be told from it.

    A trial on the seed that chose it is never the best, and a single run only where there are no rows of several.

    Args:
        rows: what is compared with each other.
    """
    flags: dict[int, dict[str, Cell]] = defaultdict(dict)
    for column in columns:
        if column.direction is None or column.is_cost:
            continue
        measured = [row for row in rows if row.cells[column.key].summary.n]
        usable = [row for row in measured if math.isfinite(row.cells[column.key].summary.mean)]
        fresh = [row for row in usable if not row.searched]
        several = [row for row in fresh if row.cells[column.key].summary.n > 1]
        if not fresh or len(measured) < 2:
            continue
        best = min(several or fresh, key=lambda row: rank(row, column))
        flags[id(best)][column.key] = replace(best.cells[column.key], best=True)
        others = [row for row in usable if row is not best]
        adjusted = holm([_p_against(best, row, column) for row in others])
        for row, p in zip(others, adjusted, strict=True):
            if p > 1 - level:
                flags[id(row)][column.key] = replace(row.cells[column.key], tied=True)
    return [replace(row, cells={**row.cells, **flags[id(row)]}) if id(row) in flags else row for row in rows]


def _p_against(best: Row, row: Row, column: Column) -> float:
    a, b = best.cells[column.key].summary.values, row.cells[column.key].summary.values
    if min(len(a), len(b)) < 2 or best.varying or row.varying:
        return math.nan
    paired = best.seeds == row.seeds and len(a) == len(b) == len(row.seeds)
    direction = column.direction or "min"
    return p_of(oriented(a, direction), oriented(b, direction), paired)
