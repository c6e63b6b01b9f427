"""What must be said below a table for it to be believed."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from vrcli.report.wording import counted
from vrcli.results.reading import Reading
from vrcli.results.types import Column, Note, Row, Spread, Table

PARTLY = Note("partly", "‡ mean of the runs that did not diverge; comparisons count the others as worst", warns=True)
PRUNED = Note("pruned", "¶ hopeless trials were stopped early: the search cost less than its budget says", warns=True)
UNEQUAL = Note("budget", "§ budgets (trials x epochs) differ within a task: compare with care", warns=True)
DIVERGED = Note("diverged", "NaN: every run diverged")
#: How one of several settings is chosen, see `tables.preference`.
CHOSEN = "with the settings found with the most trials, of those the best by"
SEARCHED = Note(
    "searched",
    "‖ trials of a search on its own seed: the best of many is flattered, fresh seeds (--confirm-seeds) are not",
)


def stopped_early(reading: Reading) -> list[str]:
    """What must be said of trials that a search stopped."""
    early = sum(map(len, reading.stopped.values()))
    of = counted(reading.sweeps_stopped, "sweep")
    return [f"{counted(early, 'trial')} of {of}: stopped early (--prune)"] if early else []


def texts(table: Table) -> list[str]:
    """The footnotes of a table as they are read."""
    return [note.text for note in notes(table)]


def notes(table: Table) -> list[Note]:
    """Footnotes for what the rows show, the most needed first, and what was said of them besides."""
    rows, level, chosen_by, names = table.rows, table.level, table.chosen_by, table.noted
    columns = [column for column in table.columns if names is None or column.key in names]
    cells = [row.cells[c.key] for row in rows for c in columns if not c.is_cost]
    found = spread_notes(rows, columns, level, table.spread)
    if any(cell.tied for cell in cells):
        found.append(tied(level))
    if any(0 < cell.summary.diverged < cell.summary.n for cell in cells):
        found.append(PARTLY)
    if any(cell.summary.diverged == cell.summary.n > 0 for cell in cells):
        found.append(DIVERGED)
    if names is None or "budget" in names:
        found += [UNEQUAL] if table.unequal_budgets else []
        found += [PRUNED] if any(row.pruned for row in rows) else []
    found += [SEARCHED] if any(row.searched for row in rows) else []
    found += pooled_notes(rows)
    sizes = Counter(row.section for row in rows)
    tested = any(c.direction is not None and not c.is_cost for c in columns)
    if tested and any(row.n == 1 and sizes[row.section] > 1 and row.diverged == 0 for row in rows):
        found.append(Note("untested", "a row with n = 1 is not tested against the best: repeat it with --seeds 5"))
    if chosen_by is not None:
        by = chosen_by.title or chosen_by.key
        found.append(Note("chosen", f"each optimizer {CHOSEN} {by}; trials are the settings stored"))
    if repeats := sum(row.repeats for row in rows):
        text = f"{repeats} repeated run{'s' * (repeats != 1)} of a seed counted once, by the newest"
        found.append(Note("repeats", text))
    return [*found, *machine_notes(rows, columns), *table.said]


def tied(level: float) -> Note:
    """What the dagger means."""
    return Note("tied", f"† not significantly different from the best (Holm, {100 * (1 - level):.3g}%)")


def spread_notes(rows: Sequence[Row], columns: Sequence[Column], level: float, spread: Spread) -> list[Note]:
    """What stands beside the means, where anything does."""
    what = "runs" if any(row.varying for row in rows) else "seeds"
    found = [row.cells[c.key].summary for row in rows for c in columns if not c.is_cost]
    if not any(math.isfinite(one.sd) for one in found):
        return []
    if spread == "ci":
        return [Note("spread", f"± is a {100 * level:g}% interval for the mean over n {what}")]
    if spread == "sd":
        return [Note("spread", f"± is the standard deviation over n {what}")]
    text = f"in brackets the smallest and the largest of n {what}"
    return [Note("spread", text)] if spread == "minmax" else []


def pooled_notes(rows: Iterable[Row]) -> list[Note]:
    """Which settings rows were pooled over."""
    varying: dict[str, int] = defaultdict(int)
    for row in rows:
        for name, count in row.varying.items():
            varying[name] = max(varying[name], count)
    if not varying:
        return []
    names = ", ".join(f"{name} (up to {count} values)" for name, count in varying.items())
    text = f"rows pool runs that differ in {names}: n counts runs, not seeds, and no row is tested against the best"
    return [Note("pooled", text)]


def machine_notes(rows: Sequence[Row], columns: Sequence[Column]) -> list[Note]:
    """Where runs of different machines stand side by side in a cost, or together in a row."""
    machines = {name for row in rows for name in row.hardware}
    if len(machines) > 1 and any(c.measures_machine for c in columns):
        return [Note("machines", "times and memory come from different machines: " + "; ".join(sorted(machines)))]
    mixed = {name for row in rows if len(row.hardware) > 1 for name in row.hardware}
    text = "runs of one row come from different machines: " + "; ".join(sorted(mixed))
    return [Note("machines", text)] if mixed else []
