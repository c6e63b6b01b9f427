"""What must be said below a table for it to be believed."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence

from vrcli.results.types import Column, Row, Spread, Table

PARTLY = "‡ mean of the runs that did not diverge; comparisons count the others as worst"
PRUNED = "¶ hopeless trials were stopped early: the search cost less than its budget says"
UNEQUAL = "§ budgets (trials x epochs) differ within a task: compare with care"
#: How one of several settings is chosen, see `tables.preference`.
CHOSEN = "with the settings found with the most trials, of those the best by"
SEARCHED = "‖ trials of a search on its own seed: the best of many is flattered, fresh seeds (--confirm-seeds) are not"


def notes(table: Table, names: Collection[str] | None = None) -> list[str]:
    """Footnotes for what the rows show, the most needed first.

    Args:
        names: of the columns that are shown; None for all.
    """
    rows, level, chosen_by = table.rows, table.level, table.chosen_by
    columns = [column for column in table.columns if names is None or column.key in names]
    cells = [row.cells[c.key] for row in rows for c in columns if not c.is_cost]
    found = spread_notes(rows, columns, level, table.spread)
    if any(cell.tied for cell in cells):
        found.append(f"† not significantly different from the best (Holm, {100 * (1 - level):.3g}%)")
    if any(0 < cell.summary.diverged < cell.summary.n for cell in cells):
        found.append(PARTLY)
    if any(cell.summary.diverged == cell.summary.n > 0 for cell in cells):
        found.append("NaN: every run diverged")
    if names is None or "budget" in names:
        found += [UNEQUAL] if table.unequal_budgets else []
        found += [PRUNED] if any(row.pruned for row in rows) else []
    found += [SEARCHED] if any(row.searched for row in rows) else []
    found += pooled_notes(rows)
    sizes = Counter(row.section for row in rows)
    tested = any(c.direction is not None and not c.is_cost for c in columns)
    if tested and any(row.n == 1 and sizes[row.section] > 1 and row.diverged == 0 for row in rows):
        found.append("a row with n = 1 is not tested against the best: repeat it with --seeds 5")
    if chosen_by is not None:
        by = chosen_by.title or chosen_by.key
        found.append(f"each optimizer {CHOSEN} {by}; trials are the settings stored")
    if repeats := sum(row.repeats for row in rows):
        found.append(f"{repeats} repeated run{'s' * (repeats != 1)} of a seed counted once, by the newest")
    return found + machine_notes(rows, columns)


def spread_notes(rows: Sequence[Row], columns: Sequence[Column], level: float, spread: Spread) -> list[str]:
    """What stands beside the means, where anything does."""
    what = "runs" if any(row.varying for row in rows) else "seeds"
    found = [row.cells[c.key].summary for row in rows for c in columns if not c.is_cost]
    if not any(math.isfinite(one.sd) for one in found):
        return []
    if spread == "ci":
        return [f"± is a {100 * level:g}% interval for the mean over n {what}"]
    if spread == "sd":
        return [f"± is the standard deviation over n {what}"]
    return [f"in brackets the smallest and the largest of n {what}"] if spread == "minmax" else []


def pooled_notes(rows: Iterable[Row]) -> list[str]:
    """Which settings rows were pooled over."""
    varying: dict[str, int] = defaultdict(int)
    for row in rows:
        for name, count in row.varying.items():
            varying[name] = max(varying[name], count)
    if not varying:
        return []
    names = ", ".join(f"{name} (up to {count} values)" for name, count in varying.items())
    return [f"rows pool runs that differ in {names}: n counts runs, not seeds, and no row is tested against the best"]


def machine_notes(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Where runs of different machines stand side by side in a cost, or together in a row."""
    machines = {name for row in rows for name in row.hardware}
    if len(machines) > 1 and any(c.measures_machine for c in columns):
        return ["times and memory come from different machines: " + "; ".join(sorted(machines))]
    mixed = {name for row in rows if len(row.hardware) > 1 for name in row.hardware}
    return ["runs of one row come from different machines: " + "; ".join(sorted(mixed))] if mixed else []
