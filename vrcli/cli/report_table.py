"""The table behind `vr report`: from what was asked for to text, and what is said beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vrcli.errors import UsageError, nearest
from vrcli.results.types import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from vrcli.db.records import RunRecord
    from vrcli.results.selection import Searches, Selection
    from vrcli.results.types import Known, Run, Spread, Table

#: What is said where there is nothing to show.
EMPTY = "no finished runs yet; start with: vr run cnn --opt vradam"
RAW = ("csv", "tsv", "json")
#: The column that stands for every column.
ALL = "all"


@dataclass(frozen=True)
class Wish:
    """What the table is to look like.

    Args:
        pivot: results to lay out by rows and columns; None for the plain table.
        whole: leave no column out to fit a line, as for a file.
    """

    metrics: Sequence[str]
    columns: Sequence[str]
    pivot: Sequence[str] | None
    rows: str | None
    group_by: Sequence[str]
    sort: str | None
    spread: Spread
    level: float
    every_trial: bool
    best_only: bool
    format: str
    whole: bool = False


def _known(flag: str, names: Iterable[str], known: set[str], what: str) -> None:
    for name in names:
        if name not in known:
            hint = nearest(name, known) or f"; known: {', '.join(sorted(known))}"
            raise UsageError(f"{flag} {name} is no {what} of these runs{hint}")


def table_of(
    found: Sequence[RunRecord],
    wish: Wish,
    searches: Searches,
    stopped: Mapping[int, set[int]],
) -> tuple[str, list[str]]:
    """The output, and what must be said beside it."""
    from vrcli.report.tables.render import render
    from vrcli.report.wording import counted
    from vrcli.results.groups import FINISHED
    from vrcli.results.selection import Selection, budgets, quotable
    from vrcli.results.types import Table

    finished = [run for run in found if run.status in FINISHED]
    notices = unfinished(found, stopped)
    empty = render(Table((), ()), wish.format).rstrip("\n") + "\n" if wish.format in RAW else ""
    if not finished:
        return empty, [*notices, EMPTY]
    selection = quotable(finished, searches)
    if wish.every_trial:
        runs = [run for run in finished if not searches.repeats(run)]
        selection = Selection(runs, budgets(runs, searches), 0, 0)
    if repeated := sum(map(searches.repeats, finished)):
        notices.append(f"{counted(repeated, 'run')} of a trial's settings and seed: that trial again, not in the table")
    if not selection.runs:
        return empty, [*notices, "nothing is left to show: " + counted(len(finished), "run") + " of sweeps' trials"]
    if selection.searched > repeated:
        trials = counted(selection.searched - repeated, "run")
        notices.append(f"{trials} of sweeps' trials: not in the table (--trials shows them)")
    if selection.flattered:
        notices.append("some rows show the best trial of a sweep on the search's own seed; --confirm-seeds is fair")
    pruned = {run.id for run in selection.runs if run.search_id in stopped}
    text, more = (_plain if wish.pivot is None else _pivoted)(selection, wish, pruned)
    return text.rstrip("\n") + "\n", notices + more


def unfinished(found: Sequence[RunRecord], stopped: Mapping[int, set[int]]) -> list[str]:
    """What is said of the runs that are in no table."""
    from collections import Counter

    from vrcli.report.wording import counted
    from vrcli.results.groups import FINISHED

    early = {trial for trials in stopped.values() for trial in trials}
    left = Counter(run.status for run in found if run.status not in FINISHED and run.trial_id not in early)
    sweeps = {run.sweep_id for run in found if run.search_id in stopped}
    said = (
        [f"{counted(len(early), 'trial')} of {counted(len(sweeps), 'sweep')}: stopped early (--prune)"] if early else []
    )
    if left:
        said.append(", ".join(f"{n} {status}" for status, n in left.items()) + ": runs that are not in the table")
    return said


def _plain(selection: Selection, wish: Wish, pruned: set[int]) -> tuple[str, list[str]]:
    from vrcli.cli.grid import terminal_width
    from vrcli.report.tables.layout import WIDTH, fit
    from vrcli.report.tables.notes import texts
    from vrcli.report.tables.render import render
    from vrcli.results.summary import selector, summarise

    runs = selection.runs
    known = declared_of(runs)
    columns = _asked(selection, wish, known)
    if wish.best_only:
        _choosable("--best", selector(columns, runs, known))
    table = summarise(
        runs, columns, trials=selection.trials, pruned=pruned, known=known, one_per_optimizer=wish.best_only,
        group_by=wish.group_by, sort=wish.sort, level=wish.level, spread=wish.spread,
    )  # fmt: skip
    _sorted_by_what_is_there(table, wish)
    table, notices = _shaped(table, wish), []
    screen = not wish.whole and wish.format not in (*RAW, "html", "unsafehtml") and not wish.format.startswith("latex")
    if screen and not wish.columns and not wish.metrics:
        width = terminal_width()
        table, dropped = fit(table, width)
        if dropped:
            most = f"to keep to {width or WIDTH} columns"
            notices.append(f"not shown, {most}: {', '.join(dropped)} (--columns all shows everything)")
    if wish.format in ("tsv", "csv"):
        notices += texts(table)
    return render(table, wish.format), notices


def _asked(selection: Selection, wish: Wish, known: Known) -> list[Column]:
    """The results that the plain table is about, the first of which orders it; refuses names that no run has."""
    from vrcli.report.tables.layout import FIELDS
    from vrcli.results.summary import SORTS, default_columns

    results, settings = _vocabulary(selection, wish)
    _known("--columns", [name for name in wish.columns if name != ALL], {*FIELDS, *results, *settings, ALL}, "column")
    _known("--group-by", wish.group_by, settings, "setting")
    if wish.sort:
        _known("--sort", [wish.sort.removeprefix("-")], {*SORTS, *results, *settings}, "column")
    names = [*wish.metrics, *(name for name in wish.columns if name in results)]
    if ALL in wish.columns:
        names += [column.key for column in default_columns(selection.runs, known)] + sorted(results)
    return _columns(selection, names, known, exact=bool(wish.columns))


def _choosable(flag: str, by: Column) -> None:
    if by.direction is None:
        raise UsageError(
            f"{flag}: whether less or more {by.key} is better is not known; choose by another result on validation "
            "with --metric"
        )


def _sorted_by_what_is_there(table: Table, wish: Wish) -> None:
    """Refuse to order rows by a setting that they were pooled over."""
    from vrcli.results.summary import SORTS

    name = (wish.sort or "").removeprefix("-")
    if name in SORTS or any(name in row.cells for row in table.rows):
        return
    if any(name in row.varying for row in table.rows):
        raise UsageError(f"--sort {name}: --group-by pools runs that differ in it; leave one of them out")


def _shaped(table: Table, wish: Wish) -> Table:
    """The table with the columns that were asked for."""
    from vrcli.report.tables.layout import every_name, show

    if not wish.columns:
        return table
    names = [own for name in wish.columns for own in (every_name(table) if name == ALL else [name])]
    names = list(dict.fromkeys([*names, *wish.metrics]))
    # What has every number has every note as well.
    return replace(table, shown=tuple(names)) if wish.format in RAW else show(table, names)


def _pivoted(selection: Selection, wish: Wish, pruned: set[int]) -> tuple[str, list[str]]:
    from vrcli.report.tables.pivot import pivot, render, sorts
    from vrcli.results.summary import default_columns, selector, summarise

    runs = selection.runs
    rows, columns = _axes(selection, wish)
    known = declared_of(runs)
    default = default_columns(runs, known)[0]
    metrics = _columns(selection, [*(wish.pivot or []), *wish.metrics] or [default.key], known)
    chosen_by = selector(metrics, runs, known)
    if chosen_by.direction is None:
        chosen_by = default
    table = summarise(
        runs, list(dict.fromkeys([*metrics, chosen_by])), trials=selection.trials, pruned=pruned,
        level=wish.level, spread=wish.spread,
    )  # fmt: skip
    if wish.sort:
        places = sorts(table, metrics, rows=rows, columns=columns)
        _known("--sort", [wish.sort.removeprefix("-")], places, "row or result")
    try:
        found = pivot(table, metrics, rows=rows, columns=columns, chosen_by=chosen_by, sort=wish.sort)
    except ValueError:
        _choosable("--pivot", chosen_by)
        raise
    return render(found, wish.format), list(found.notes) if wish.format in ("tsv", "csv") else []


def _axes(selection: Selection, wish: Wish) -> tuple[str, str]:
    """What rows and columns are; refuses names that no run has."""
    from vrcli.report.tables.pivot import FIELDS

    results, settings = _vocabulary(selection, wish)
    rows = wish.rows or ("optimizer" if wish.columns != ["optimizer"] else "task")
    columns = wish.columns[0] if wish.columns else ("task" if rows != "task" else "optimizer")
    _known("--pivot", wish.pivot or [], results, "result")
    _known("--rows", [rows], {*FIELDS, *settings}, "row")
    _known("--columns", [columns], {*FIELDS, *settings}, "column")
    if rows == columns:
        raise UsageError(f"--rows and --columns are both {rows}; one of them must be another")
    return rows, columns


def _vocabulary(selection: Selection, wish: Wish) -> tuple[set[str], set[str]]:
    """Names of the results and of the settings that the runs have; settings only where one may be meant."""
    from vrcli.results.groups import group_runs

    results = {name for run in selection.runs for name in run.results}
    asked = {*wish.columns, *wish.group_by, *([wish.rows] if wish.rows else [])}
    asked |= {wish.sort.removeprefix("-")} if wish.sort else set()
    if not wish.group_by and wish.pivot is None and asked <= results:
        return results, set()
    return results, {name for group in group_runs(selection.runs) for name in group.settings}


def _columns(selection: Selection, names: Sequence[str], known: Known, *, exact: bool = False) -> list[Column]:
    """The results to show, by their names."""
    from vrcli.results.summary import default_columns

    runs = selection.runs
    _known("--metric", names, {name for run in runs for name in run.results}, "result")
    wanted = [Column.of(name, known) for name in dict.fromkeys(names)]
    return wanted or default_columns(runs, known)[: 1 if exact else None]


def declared_of(runs: Sequence[Run]) -> Known:
    """What tasks say of results of their own making; nothing where there are none: it takes the tasks' libraries."""
    own = {name for run in runs for name in run.results if name.startswith(("best_val_", "val_", "test_"))}
    if all(Column.of(name).direction is not None for name in own):
        return {}
    return declared(run.task for run in runs)


def declared(tasks: Iterable[str]) -> Known:
    """What the tasks say of their metrics, by result name; nothing of a task that is not available here."""
    from vrcli.results.types import Declared
    from vrcli.tasks.registry import UnknownTask, load

    found: dict[str, Declared] = {}
    for task in sorted(set(tasks)):
        try:
            metrics = load(task).metrics
        except UnknownTask:
            continue
        for metric in metrics:
            for prefix in ("best_val", "final_val", "val", "test"):
                key = f"{prefix}_{metric.name}"
                own = Declared(metric.direction, metric.percent, metric.shown)
                other = found.get(key, own)
                same = own.direction if own.direction == other.direction else None
                found[key] = Declared(same, own.percent and other.percent, own.shown or other.shown)
    return found
