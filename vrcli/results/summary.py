"""The table of `vr report`: optimizers side by side, with what is needed to believe it.

Rows are configurations (complete specs without the seed) by task, data set and preset. Nothing is merged that differs
in anything else unless that is asked for, and then it is said; a trial of a search and a run on a fresh seed never
share a row, nor do different budgets. Several searches of one optimizer in one sweep are one row, in which a search is
one observation. The best is compared with each other row, and unequal budgets are marked.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any

from vrcli.results.best import best_of_each, mark, rank
from vrcli.results.groups import (
    Group,
    axis_names,
    group_runs,
    pool,
    repeated_searches,
    search_of,
    shown_settings,
    together,
    trial_of,
)
from vrcli.results.types import (
    Cell,
    Column,
    Known,
    Row,
    Run,
    Section,
    Several,
    Spread,
    Table,
    axes_of,
    end_of,
    outcome,
    shown_columns,
)
from vrcli.stats.inference import Summary, summary
from vrcli.stats.over_searches import over_searches

#: What rows can be sorted by besides results and settings.
SORTS: Mapping[str, Callable[[Row], Any]] = {
    "task": lambda row: row.section,
    "optimizer": lambda row: row.optimizer,
    "n": lambda row: row.n,
    "diverged": lambda row: row.diverged / row.n,
    "budget": lambda row: row.trials * _amount(row),
}


def _amount(row: Row) -> float:
    """Of what ends a run, whatever it is counted in."""
    return float(row.until.partition(":")[2]) if row.until else float(row.epochs or 1)


#: How results begin by which settings may be chosen: neither the training nor the test set tells which are best.
VALIDATION = ("best_val_", "val_", "final_val_")


def summarise(
    runs: Sequence[Run],
    columns: Sequence[Column | str] | None = None,
    *,
    trials: Mapping[int, int] | None = None,
    pruned: Collection[int] = (),
    reranked: Mapping[int, int] | None = None,
    known: Known | None = None,
    one_per_optimizer: bool = False,
    across: bool = False,
    group_by: Sequence[str] = (),
    sort: str | None = None,
    level: float = 0.95,
    spread: Spread = "ci",
) -> Table:
    """Group finished runs and compare the groups.

    Args:
        runs: unfinished and failed ones are ignored.
        columns: results to show, by default what `default_columns` finds. The first one orders the rows; where it is on
            test data and an optimizer has several rows, validation does, since their order chooses among its settings.
        trials: by run id, the trials of the search the run's settings come from; 1 for the others.
        pruned: ids of the runs whose settings come from a search that stopped trials early.
        reranked: by search, the runs that ranked its best trials again.
        known: metrics that the tasks declare, by result name; without it, a result that is not a loss, perplexity or
            accuracy has no best row.
        one_per_optimizer: keep each optimizer's best settings, see `selector`; the settings it was tried with then
            count as its trials.
        across: put searches of several sweeps together, where they share all but what they searched: where one row is
            to stand for an optimizer, none of its searches is chosen.
        group_by: settings; runs of an optimizer that agree in them and in the budget are pooled into one row.
        sort: a result, a setting or one of `SORTS`, with "-" before it for the largest first; within each section.
        level: of the intervals.
        spread: what stands beside a mean.

    Raises:
        ValueError: one row per optimizer, by a result of which nobody knows whether less or more is better.
    """
    wanted = [c if isinstance(c, Column) else Column.of(c, known) for c in columns or default_columns(runs, known)]
    by = _usable_selector(wanted, runs, known) if one_per_optimizer else None
    validation = selector(wanted, runs, known)
    order = (sort or "").removeprefix("-")
    measured = _measured([*wanted, *([by] if by else []), validation], order, runs, known)
    trials = trials or {}
    sections: dict[Section, list[Row]] = defaultdict(list)
    for group in grouped(runs, trials, pruned, group_by, across=across or one_per_optimizer):
        row = _row(group, measured, trials, pruned, level)
        again = 0 if row.searched else max((reranked or {}).get(search_of(run) or 0, 0) for run in group.runs)
        sections[group.section].append(replace(row, reranked=again))
    rows: list[Row] = []
    for _, members in sorted(sections.items(), reverse=sort == "-task"):
        kept = best_of_each(members, by, trials) if by is not None else members
        ordered = _ordered(kept, wanted[0], validation) if wanted else kept
        if sort and order != "task":
            upwards = order not in SORTS and any(c.key == order and c.direction == "max" for c in measured)
            ordered = sorted_by(ordered, order, descending=sort.startswith("-") != upwards)
        rows += mark(_with_shown(ordered, group_by), wanted, level, validation)
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


def _ordered(rows: Sequence[Row], column: Column, validation: Column) -> list[Row]:
    several = len({row.optimizer for row in rows}) < len(rows)
    by = validation if several and column.key.startswith("test_") else column
    return sorted(rows, key=lambda row: rank(row, by))


def grouped(
    runs: Sequence[Run],
    trials: Mapping[int, int],
    pruned: Collection[int],
    group_by: Sequence[str],
    *,
    across: bool = False,
) -> list[Group]:
    """The groups behind the rows.

    Args:
        across: put searches of several sweeps together.
    """
    repeated = set() if group_by else repeated_searches(runs, across=across)

    def of_several(run: Run) -> bool:
        return (search_of(run), trial_of(run) is not None) in repeated

    def kind(run: Run) -> tuple[object, ...]:
        if of_several(run):
            return trial_of(run) is not None, search_of(run)
        return trial_of(run) is not None, trials.get(run.id, 1), run.id in pruned

    groups = group_runs(runs, separate_by=kind)
    if repeated:
        own = [group for group in groups if of_several(group.runs[0])]
        alone = [group for group in groups if not of_several(group.runs[0])]
        return [*alone, *together(own, _protocol(own, trials) if across else None)]
    if not group_by:
        return groups

    def budget(group: Group) -> tuple[object, ...]:
        first = group.runs[0]
        searched = trial_of(first) is not None
        return searched, trials.get(first.id, 1), end_of(group.settings)

    return pool(groups, group_by, budget)


def _protocol(groups: Sequence[Group], trials: Mapping[int, int]) -> Callable[[Group], object]:
    """What searches of several sweeps must share to stand together: their trials, and all that none of them varies."""
    most: dict[int | None, int] = defaultdict(int)
    for group in groups:
        search = search_of(group.runs[0])
        most[search] = max(most[search], *(trials.get(run.id, 1) for run in group.runs))

    def protocol(group: Group) -> object:
        first = group.runs[0]
        chosen = {*axis_names(axes_of(first)), "split_seed"}
        return most[search_of(first)], sorted((k, repr(v)) for k, v in group.settings.items() if k not in chosen)

    # Compared by what it says: lists have no hash.
    return lambda group: repr(protocol(group))


def _with_shown(rows: Sequence[Row], group_by: Sequence[str]) -> list[Row]:
    settings, optimizers = [row.settings for row in rows], [row.optimizer for row in rows]
    shown = shown_settings(settings, optimizers, [row.axes for row in rows], ignore=("epochs", "until"))
    named = [{name: row.settings[name] for name in group_by if name in row.settings} for row in rows]
    for row, found in zip(rows, shown, strict=True):
        found |= {name: Several(values) for name, values in row.ranges.items()}
    return [
        replace(row, shown={**first, **own}) if first or own else row
        for row, first, own in zip(rows, named, shown, strict=True)
    ]


def default_columns(runs: Sequence[Run], known: Known | None = None) -> list[Column]:
    """The test value of the objective, its best on validation, then on validation accuracy, or else perplexity.

    The metrics that a task wants shown follow, on validation too.
    """
    keys = {key for run in runs for key in run.results}
    best = _objectives(runs)
    objectives = {key.removeprefix("best_") for key in best}
    test = sorted(f"test_{o.removeprefix('val_')}" for o in objectives if f"test_{o.removeprefix('val_')}" in keys)
    test += [key for key in ("test_loss",) if key in keys]
    others = [key for key in ("val_accuracy", "val_perplexity") if key in keys and key not in objectives]
    usual = [Column.of(key, known) for key in dict.fromkeys([*test[:1], *best, *test[1:], *others[:1]])]
    return list(dict.fromkeys([*usual, *shown_columns(runs, known or {})]))


def selector(columns: Sequence[Column], runs: Sequence[Run], known: Known | None = None) -> Column:
    """By what the best settings are chosen: the first of the results that is measured on the validation set."""
    for column in columns:
        if column.key.startswith(VALIDATION):
            return column
    return Column.of(_objectives(runs)[0], known)


def _objectives(runs: Sequence[Run]) -> list[str]:
    return sorted({run.objective for run in runs}) or ["best_val_loss"]


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
        trials=max(trials.get(run.id, 1) for run in group.runs),
        pruned=any(run.id in pruned for run in group.runs),
        epochs=int(epochs) if epochs is not None else None,
        max_steps=group.settings.get("max_steps"),
        until=group.settings.get("until"),
        hardware=tuple(sorted({_machine(run) for run in group.runs})),
        cells={c.key: Cell(summary_of(group.runs, group.searches, c, level)) for c in columns},
        searched=trial_of(group.runs[0]) is not None,
        axes=tuple(dict.fromkeys(name for run in group.runs for name in axes_of(run))),
        varying=group.varying,
        per_search=group.searches,
        ranges=group.ranges,
        replaced=group.replaced,
        parameters=tuple(sorted({int(run.results["parameters"]) for run in group.runs if "parameters" in run.results})),
    )


def summary_of(runs: Sequence[Run], per_search: Sequence[int], column: Column, level: float = 0.95) -> Summary:
    """A result of one row: over its runs, or over the searches that they are of.

    Args:
        runs: search by search.
        per_search: how many runs each search has; nothing where the runs are not searches'.
    """
    if not per_search or column.is_cost:
        return _summary(_values(runs, column), column, level)
    left = iter(runs)
    values = [_values(list(islice(left, size)), column) for size in per_search]
    return over_searches(values, direction=column.direction or "min", level=level)


def _summary(values: Sequence[float], column: Column, level: float) -> Summary:
    if len(values) == 1 and math.isfinite(values[0]):  # common in long tables, and there is nothing to compute
        nan, value = math.nan, float(values[0])
        return Summary(1, 0, value, nan, value, nan, nan, level, (value,))
    return summary(values, direction=column.direction or "min", level=level)


def _values(runs: Sequence[Run], column: Column) -> list[float]:
    """The column's values: NaN for a diverged run, and nothing where a completed run did not record it."""
    if column.is_cost:
        return [r.results[column.key] for r in runs if r.status == "completed" and column.key in r.results]
    return [value for run in runs if (value := outcome(run, column.key)) is not None]


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
