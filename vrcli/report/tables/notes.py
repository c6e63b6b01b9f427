"""What must be said below a table for it to be believed."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from vrcli.report.wording import best_over, counted, setting, unconfirmed
from vrcli.results.groups import unsearched
from vrcli.results.reading import Reading
from vrcli.results.types import Column, Note, Row, Section, Spread, Table, repeatable, unequal_axes, unequal_budgets

PARTLY = Note("partly", "‡ mean of the runs that did not diverge; comparisons count the others as worst", warns=True)
PRUNED = Note("pruned", "¶ hopeless trials were stopped early: the search cost less than its budget says", warns=True)
RERANKED = Note("reranked", "(a + b): the trials of each search, and the runs that ranked its best trials again")
UNREPEATABLE = Note(
    "unrepeatable", "seconds: such runs end at another step each time, on any other machine most of all", warns=True
)
NO_MEAN = Note("diverged", "NaN of several searches: runs diverged, so there is no mean (json and csv have the median)")
DIVERGED = Note("diverged", "NaN: every run diverged")
#: How one of several settings is chosen, see `tables.preference`.
CHOSEN = "has the settings found with the most trials, fresh seeds before a search's own, and of equals the best by"
SEARCHED = Note(
    "searched",
    "‖ trials of a search on its own seed: the best of many is optimistic, fresh seeds (--confirm-seeds) are not",
)


def stopped_early(reading: Reading) -> list[str]:
    """What must be said of trials that a search stopped."""
    early = sum(map(len, reading.stopped.values()))
    of = counted(reading.sweeps_stopped, "sweep")
    return [f"{counted(early, 'trial')} of {of}: stopped early (--prune)"] if early else []


def hidden_searches(reading: Reading) -> list[str]:
    """What must be said where only some searches of an optimizer were asked for: their number is the n of the table."""
    return [f"{name}: {here} of its {there} searches match" for name, (here, there) in reading.hidden.items()]


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
    found += minimum_notes(columns, rows)
    found += diverged_notes(rows, columns)
    costs = [*unequal_notes(rows), *([PRUNED] if any(row.pruned for row in rows) else [])]
    if names is None or "budget" in names:
        found += costs
        found += [RERANKED] if any(row.reranked for row in rows) else []
    else:  # a warning stands without the column, and then has no mark there
        found += [replace(note, text=note.text.lstrip("§¶ ")) for note in costs]
    found += [] if all(repeatable({"until": row.until}) for row in rows) else [UNREPEATABLE]
    found += [SEARCHED] if any(row.searched for row in rows) else []
    found += [*unconfirmed_notes(rows), *pooled_notes(rows), *several_notes(rows), *fairness_notes(rows)]
    found += _same_values(rows, [c.key for c in columns if c.direction is not None and not c.is_cost][:1])
    found += untested_notes(rows, columns)
    if chosen_by is not None:
        by = chosen_by.title or chosen_by.key
        found.append(Note("chosen", f"each optimizer {CHOSEN} {by}"))
        found += passed_over_notes(rows, by)
    if repeats := sum(row.repeats for row in rows):
        text = f"{repeats} repeated run{'s' * (repeats != 1)} of a seed counted once, by the newest"
        found.append(Note("repeats", text))
    return [*found, *machine_notes(rows, columns), *table.said]


def untested_notes(rows: Sequence[Row], columns: Sequence[Column]) -> list[Note]:
    """That a single run is no evidence beside others."""
    sizes = Counter(row.section for row in rows)
    tested = any(c.direction is not None and not c.is_cost for c in columns)
    if not tested or not any(row.n == 1 and sizes[row.section] > 1 and row.diverged == 0 for row in rows):
        return []
    text = "n = 1 is not tested, nor called best where others have more: repeat it with --seeds 5"
    return [Note("untested", text)]


def unconfirmed_notes(rows: Iterable[Row]) -> list[Note]:
    """That some optimizers were searched, and that other settings stand for them."""
    names = {row.optimizer for row in rows if row.unconfirmed}
    return [Note("unconfirmed", unconfirmed(names), warns=True)] if names else []


def tied(level: float) -> Note:
    """What the dagger means."""
    share = f"{100 * (1 - level):.3g}%"
    return Note("tied", f"† not significantly different from the best (Holm over all pairs, {share})")


def minimum_notes(columns: Sequence[Column], rows: Iterable[Row]) -> list[Note]:
    """What the best value of a curve is: runs with another end than epochs are evaluated as often as they say."""
    until = any(row.until for row in rows)
    best = [column for column in columns if column.key.startswith("best_val_") and column.direction]
    return [
        Note("minimum", f"{column.title or column.key}: the {best_over(column.direction, until=until)}")
        for column in best
    ]


def diverged_notes(rows: Sequence[Row], columns: Sequence[Column]) -> list[Note]:
    """What diverged runs did to the means."""
    own = [(row, row.cells[c.key].summary) for row in rows for c in columns if not c.is_cost]
    found = []
    if any(0 < one.diverged < one.n and math.isfinite(one.mean) for _, one in own):
        found.append(PARTLY)
    if any(row.per_search and row.diverged and one.n for row, one in own):
        found.append(NO_MEAN)
    if any(not row.per_search and one.diverged == one.n > 0 for row, one in own):
        found.append(DIVERGED)
    return found


def unequal_notes(rows: Sequence[Row]) -> list[Note]:
    """In what optimizers of one task were given more than others."""
    found = []
    if unequal_budgets(rows):
        searches = "searches x " if any(row.per_search for row in rows) else ""
        end = "what ended each run" if any(row.until for row in rows) else "epochs"
        text = f"§ budgets ({searches}trials x {end}) differ within a task: compare with care"
        found.append(Note("budget", text, warns=True))
    if sections := unequal_axes(rows):
        counts = {row.optimizer: len(row.axes) for row in rows if row.section in sections and row.axes}
        words = ", ".join(f"{name} {counted(number, 'setting')}" for name, number in counts.items())
        found.append(
            Note(
                "searched settings",
                f"§ equal trials are not equal budgets; searched: {words}",
                warns=True,
            )
        )
    return found


def several_notes(rows: Iterable[Row]) -> list[Note]:
    """What a row of several searches is."""
    several = [row for row in rows if row.per_search]
    if not several:
        return []
    found = [Note("searches", "n = searches x fresh seeds: a search is one observation, the mean of its runs")]
    if any(row.ranges for row in several):
        found.append(Note("settings", "a..b: every search chose settings of its own, from a to b"))
    if left := sum(row.replaced for row in several):
        found.append(Note("replaced", f"{counted(left, 'run')} of settings that a search has replaced: not counted"))
    return found


def passed_over_notes(rows: Iterable[Row], by: str) -> list[Note]:
    """Where the row of an optimizer is the best of several searches, although none was to be chosen."""
    found = []
    for row in rows:
        if row.passed_over:
            others = f"{row.passed_over} other search{'es' * (row.passed_over > 1)}, of another protocol,"
            text = f"{row.optimizer}: {others} did worse in {by} and do not stand in its budget"
            found.append(Note("passed over", text, warns=True))
    return found


def fairness_notes(rows: Sequence[Row]) -> list[Note]:
    """What optimizers of one task differ in beside themselves: the size of the model, and weight decay."""
    sections: dict[Section, list[Row]] = defaultdict(list)
    for row in rows:
        sections[row.section].append(row)
    found = []
    for section, members in sections.items():
        found += model_size_notes(section[0], {size for row in members for size in row.parameters})
        rows_of = [(row.optimizer, row.settings, row.axes) for row in members]
        found += weight_decay_notes(section[0], unsearched("weight_decay", rows_of))
    return found


def model_size_notes(task: str, sizes: Collection[int]) -> list[Note]:
    """That runs side by side trained models of different size."""
    if len(sizes) < 2:
        return []
    words = ", ".join(f"{size:,}" for size in sorted(sizes))
    return [Note("model size", f"{task}: models of different size stand side by side, {words} parameters", warns=True)]


def weight_decay_notes(task: str, decays: Mapping[str, Sequence[object]]) -> list[Note]:
    """That optimizers differ in it by what they were given, see `groups.unsearched`."""
    if not decays:
        return []
    words = ", ".join(f"{name} {' and '.join(map(setting, own))}" for name, own in decays.items())
    return [Note("weight decay", f"{task}: weight decay differs and was not searched: {words}", warns=True)]


def same_values_notes(values: Mapping[str, Iterable[float]]) -> list[Note]:
    """That seeds change nothing, so that a difference cannot be tested.

    Args:
        values: of what is compared, by optimizer.
    """
    still = [name for name, own in values.items() if len(every := list(own)) > 1 and len({*every}) == 1]
    if len(still) < 2:
        return []
    text = f"{', '.join(still)}: the same value on every seed; a difference without a spread cannot be tested"
    return [Note("same values", text, warns=True)]


def _same_values(rows: Sequence[Row], results: Sequence[str]) -> Iterator[Note]:
    sections: dict[Section, dict[str, Sequence[float]]] = defaultdict(dict)
    for row in rows:
        for key in results:
            sections[row.section][row.optimizer] = row.cells[key].summary.values
    for values in sections.values():
        yield from same_values_notes(values)


def spread_notes(rows: Sequence[Row], columns: Sequence[Column], level: float, spread: Spread) -> list[Note]:
    """What stands beside the means, where anything does."""
    what = "runs" if any(row.varying for row in rows) else "seeds"
    if any(row.per_search for row in rows):
        what = "searches" if all(row.per_search for row in rows) else f"{what}, or over the searches"
    found = [row.cells[c.key].summary for row in rows for c in columns if not c.is_cost]
    if not any(math.isfinite(one.sd) for one in found):
        return []
    what = what if what == "searches" else f"n {what}"
    if spread == "ci":
        return [Note("spread", f"± is a {100 * level:g}% interval for the mean over {what}")]
    if spread == "sd":
        return [Note("spread", f"± is the standard deviation over {what}")]
    text = f"in brackets the smallest and the largest of {what}"
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
