"""The table of `vr report`: optimizers side by side, with what is needed to believe it.

Rows are configurations (complete specs without the seed) by task, data set and preset. Nothing is merged that differs
in anything else, the best is compared with each other row (Holm, 5%), and unequal budgets are marked.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from vrcli.report.comparison import p_of
from vrcli.report.groups import Group, differing, group_runs
from vrcli.report.render import formats, render
from vrcli.report.statistics import holm, oriented, summary
from vrcli.report.types import COSTS, Cell, Column, Known, Row, Run, Section, Table

__all__ = ["default_columns", "formats", "render", "summarise"]

PARTLY = "‡ mean of the runs that did not diverge; comparisons count the others as worst"
PRUNED = "¶ hopeless trials were stopped early: the search cost less than its budget says"
UNEQUAL = "§ budgets (trials x epochs) differ within a task: compare with care"


def summarise(
    runs: Sequence[Run],
    columns: Sequence[Column | str] | None = None,
    *,
    trials: Mapping[int, int] | None = None,
    pruned: Collection[int] = (),
    known: Known | None = None,
    one_per_optimizer: bool = False,
    level: float = 0.95,
) -> Table:
    """Group finished runs and compare the groups.

    Args:
        runs: unfinished and failed ones are ignored.
        columns: results to show; the first one orders the rows. By default what `default_columns` finds.
        trials: by run id, the trials of the search the run's settings come from; 1 for the others.
        pruned: ids of the runs whose settings come from a search that stopped trials early.
        known: metrics that the tasks declare, by result name; without it, a result that is no loss, perplexity or
            accuracy has no best row.
        one_per_optimizer: keep each optimizer's best settings by the first column; the settings it was tried with then
            count as its trials.
        level: of the intervals.

    Raises:
        ValueError: one row per optimizer, by a result of which nobody knows whether less or more is better.
    """
    wanted = [c if isinstance(c, Column) else Column.of(c, known) for c in columns or default_columns(runs, known)]
    if one_per_optimizer and wanted[0].direction is None:
        raise ValueError(f"whether less or more {wanted[0].key} is better is not known, so nothing is best by it")
    sections: dict[Section, list[Row]] = defaultdict(list)
    for group in group_runs(runs):
        sections[group.section].append(_row(group, wanted, trials or {}, pruned, level))
    rows: list[Row] = []
    for _, members in sorted(sections.items()):
        ordered = sorted(members, key=lambda row: _rank(row, wanted[0])) if wanted else members
        if one_per_optimizer:
            ordered = _best_of_each(ordered, trials or {})
        shown = differing([row.settings for row in ordered], [row.optimizer for row in ordered], ignore=("epochs",))
        ordered = [replace(row, shown=own) for row, own in zip(ordered, shown, strict=True)]
        for column in wanted:
            if column.direction is not None and not column.is_cost:
                ordered = _mark(ordered, column, level)
        rows += ordered
    table = Table(tuple(wanted), tuple(rows), level)
    return replace(table, notes=tuple(_notes(table, one_per_optimizer)))


def default_columns(runs: Sequence[Run], known: Known | None = None) -> list[Column]:
    """Best validation objective, test loss, and the other validation metrics that any run has, by name."""
    keys = {key for run in runs for key in run.results}
    best = sorted(key for key in keys if key.startswith("best_val_")) or ["best_val_loss"]
    objectives = {key.removeprefix("best_") for key in best}
    test = [key for key in ("test_loss",) if key in keys]
    test += sorted(f"test_{o.removeprefix('val_')}" for o in objectives if f"test_{o.removeprefix('val_')}" in keys)
    others = sorted(key for key in keys if key.startswith("val_") and key != "val_loss" and key not in objectives)
    return [Column.of(key, known) for key in dict.fromkeys(best + test + others)]


def _row(
    group: Group, columns: Sequence[Column], trials: Mapping[int, int], pruned: Collection[int], level: float
) -> Row:
    task, dataset, fingerprint, preset = group.section
    epochs = group.settings.get("epochs")
    machine_matters = any(c.is_cost for c in columns)
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
        hardware=tuple(sorted({_machine(run) for run in group.runs})) if machine_matters else (),
        cells={c.key: Cell(summary(_values(group, c), direction=c.direction or "min", level=level)) for c in columns},
    )


def _values(group: Group, column: Column) -> list[float]:
    """The column's values: NaN for a diverged run, and nothing where a completed run did not record it."""
    if column.is_cost:
        return [r.results[column.key] for r in group.runs if r.status == "completed" and column.key in r.results]
    return [
        math.nan if run.status == "diverged" else run.results[column.key]
        for run in group.runs
        if run.status == "diverged" or column.key in run.results
    ]


def _machine(run: Run) -> str:
    device = run.provenance.get("device")
    return str(device if device not in (None, "cpu") else run.provenance.get("cpu", ""))


def _rank(row: Row, column: Column) -> tuple[float, float, float, str]:
    """Sort key, smaller is better: the mean, infinite once a run diverged; then the median; then the finite mean.

    Rows of an unknown direction rise, with the diverged ones last.
    """
    found = row.cells[column.key].summary
    direction = column.direction or "min"
    values = oriented(found.values, direction)
    sign = 1.0 if direction == "min" else -1.0
    finite = sign * found.mean if math.isfinite(found.mean) else math.inf
    median = sign * found.median if math.isfinite(found.median) else math.inf
    mean = float(values.mean()) if len(values) else math.inf
    return mean, median, finite, row.optimizer


def _best_of_each(rows: Sequence[Row], trials: Mapping[int, int]) -> list[Row]:
    """The first row of each optimizer; where no search was named, its rows count as the trials of one."""
    tried = Counter(row.optimizer for row in rows)
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.optimizer, row)
    return [
        row if any(i in trials for i in row.run_ids) else replace(row, trials=tried[row.optimizer])
        for row in first.values()
    ]


def _mark(rows: Sequence[Row], column: Column, level: float) -> list[Row]:
    """Mark the best of one column, and the rows that cannot be told from it."""
    usable = [row for row in rows if math.isfinite(row.cells[column.key].summary.mean)]
    if not usable:
        return list(rows)
    best = min(usable, key=lambda row: _rank(row, column))
    others = [row for row in usable if row is not best]
    adjusted = holm([_p_against(best, row, column) for row in others])
    tied = {id(row) for row, p in zip(others, adjusted, strict=True) if p > 1 - level}
    return [
        replace(
            row,
            cells={
                **row.cells,
                column.key: replace(row.cells[column.key], best=row is best, tied=id(row) in tied),
            },
        )
        for row in rows
    ]


def _p_against(best: Row, row: Row, column: Column) -> float:
    a, b = best.cells[column.key].summary.values, row.cells[column.key].summary.values
    paired = best.seeds == row.seeds and len(a) == len(b) == len(row.seeds)
    direction = column.direction or "min"
    return p_of(oriented(a, direction), oriented(b, direction), paired)


def _notes(table: Table, one_per_optimizer: bool) -> list[str]:
    rows, columns, level = table.rows, table.columns, table.level
    quality = [c.key for c in columns if not c.is_cost]
    cells = [row.cells[key] for row in rows for key in quality]
    notes = []
    if any(math.isfinite(cell.summary.half_width) for row in rows for cell in row.cells.values()):
        notes.append(f"± is a {100 * level:g}% interval for the mean over n seeds")
    if any(cell.tied for cell in cells):
        notes.append(f"† not significantly different from the best (Holm, {100 * (1 - level):.3g}%)")
    if any(0 < cell.summary.diverged < cell.summary.n for cell in cells):
        notes.append(PARTLY)
    if any(row.diverged == row.n for row in rows):
        notes.append("NaN: every run diverged")
    if table.unequal_budgets:
        notes.append(UNEQUAL)
    if any(row.pruned for row in rows):
        notes.append(PRUNED)
    sizes = Counter(row.section for row in rows)
    if any(row.n == 1 and sizes[row.section] > 1 and row.diverged == 0 for row in rows):
        notes.append("a row with n = 1 is not tested against the best: repeat it with --seeds 5")
    if one_per_optimizer:
        notes.append(f"each optimizer with its best settings by {columns[0].title}; trials are the settings stored")
    if repeats := sum(row.repeats for row in rows):
        notes.append(f"{repeats} repeated run{'s' * (repeats != 1)} of a seed counted once, by the newest")
    machines = {m for row in rows for m in row.hardware}
    if len(machines) > 1 and any(c.key in COSTS for c in columns):
        notes.append("times come from different machines: " + "; ".join(sorted(machines)))
    return notes
