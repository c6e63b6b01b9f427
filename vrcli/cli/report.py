"""`vr report`: tables of what was stored, and the page that has everything."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from vrcli.cli import filters
from vrcli.cli import request as req
from vrcli.cli.filters import Filter
from vrcli.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from db.records import RunRecord
    from db.store import Store
    from vrcli.report.selection import Selection
    from vrcli.report.types import Column, Known, Spread, Table

#: Formats by the ending of the file, where none is named.
ENDINGS = {
    ".html": "html", ".htm": "html", ".md": "markdown", ".tex": "latex_booktabs", ".csv": "csv", ".tsv": "tsv",
    ".json": "json", ".txt": "text", ".rst": "rst",
}  # fmt: skip
RAW = ("csv", "tsv", "json")
SPREADS = ("ci", "sd", "minmax", "none")

COLUMNS = typer.Option(
    None, "--columns", metavar="NAMES", show_default=False,
    help="what to print, separated by commas: task, dataset, preset, optimizer, settings, n, diverged, budget, a "
    "result or a setting; or all. With --pivot: what the columns are (task)",
)  # fmt: skip
PIVOT = typer.Option(
    [], "--pivot", metavar="RESULT",
    help="a table as papers have them: this result (or several, separated by commas) of every optimizer by task",
)  # fmt: skip
ROWS = typer.Option(
    None, "--rows", metavar="NAME", show_default=False,
    help="with --pivot, what the rows are: optimizer (default), task, dataset, preset or a setting",
)  # fmt: skip
GROUP_BY = typer.Option(
    [], "--group-by", metavar="SETTING",
    help="one row for each value of this setting, pooling runs whatever else they differ in; the table says in what",
)  # fmt: skip
SORT = typer.Option(
    None, "--sort", metavar="NAME", show_default=False,
    help="order rows by a result, setting or column; with - before it the largest first [the first result]",
)  # fmt: skip
SPREAD = typer.Option("ci", "--spread", metavar="KIND", help="beside a mean: ci (interval), sd, minmax or none")
FORMAT = typer.Option(
    None, "--format", metavar="FORMAT", show_default=False,
    help="markdown (default), text, csv, tsv, json, latex_booktabs, html, ... as tabulate has them; "
    "else by the ending of --output",
)  # fmt: skip
OUTPUT = typer.Option(
    None, "--output", metavar="FILE", show_default=False,
    help="write to this file; .html makes the whole page: tables, curves, sweeps, runs",
)  # fmt: skip


@dataclass(frozen=True)
class Wish:
    """What the table is to look like.

    Args:
        pivot: results to lay out by rows and columns; None for the plain table.
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


def report(
    tasks: list[str] = filters.TASKS,
    opt: list[str] = filters.OPT,
    preset: str | None = filters.PRESET,
    tag: str | None = filters.TAG,
    group: str | None = filters.GROUP,
    sweep: list[str] = filters.SWEEP,
    where: list[str] = filters.WHERE,
    since: str | None = filters.SINCE,
    metric: list[str] = typer.Option([], "--metric", metavar="RESULT", help="results to show, the first orders rows"),
    columns: str | None = COLUMNS,
    pivot: list[str] = PIVOT,
    rows: str | None = ROWS,
    group_by: list[str] = GROUP_BY,
    sort: str | None = SORT,
    spread: str = SPREAD,
    level: float = typer.Option(0.95, "--level", help="of intervals; 1 - level is the error rate of the marks"),
    every_trial: bool = typer.Option(False, "--trials", help="also every trial of a sweep, as a row of its own"),
    best_only: bool = typer.Option(False, "--best", help="one row per optimizer: its best settings on validation"),
    format: str | None = FORMAT,
    output: Path | None = OUTPUT,
    database: str = req.DB,
    debug: bool = req.DEBUG,
) -> None:
    """Print task x optimizer: best validation loss, test loss, seeds and budget (trials x epochs).

    Of a sweep stand the runs on fresh seeds (--confirm-seeds), or its best trial where there are none.

    For a paper:  vr report --pivot test_loss --format latex_booktabs
    Columns:      vr report --columns optimizer,lr,best_val_loss,n,budget --sort lr
    Laid out:     vr report --pivot test_loss --rows lr --columns optimizer --trials
    """
    wanted = Filter(tasks or (), opt, preset, tag, group, sweep, where, since)
    wish = Wish(
        metric, _names([columns or ""]), _names(pivot) if pivot or rows else None, rows, _names(group_by), sort,
        _spread(spread), level, every_trial, best_only, _format(format, output),
    )  # fmt: skip
    check(wish, output)
    make(wanted, wish, output, database)


def make(wanted: Filter, wish: Wish, output: Path | None, database: str) -> None:
    """Read the runs and write the table, or the page."""
    import sys

    from vrcli.cli.console import notice, say
    from vrcli.cli.runs import open_existing

    with open_existing(database) as store, no_garbage_collection():
        found = wanted.select(store)
        if output is not None and wish.format == "html":
            write_page(store, found, output, wish)
            return
        ended, stopped = trial_counts(store, _sweeps(found)), stopped_early(store, _sweeps(found))
    text, notices = table_of(found, wish, ended, stopped)
    for line in notices:
        notice(line)
    if wish.format == "html" and text:
        notice("--output report.html makes a whole page of it: tables, curves, sweeps and runs")
    if output is None:
        sys.stdout.write(text)
    elif text:
        output.write_text(text, encoding="utf-8")
        say(f"{output}: {wish.format}")


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Ten thousand records are no garbage: looking for some among them takes half the time of reading them."""
    import gc

    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def write_page(store: Store, found: Sequence[RunRecord], output: Path, wish: Wish) -> None:
    """The page, which must be made while the store is open."""
    import shlex
    import sys

    from vrcli.cli.console import notice
    from vrcli.cli.report_page import write_page as write

    if not found:
        notice(EMPTY)
        return
    if wish.pivot is not None or wish.columns or wish.group_by or wish.sort:
        notice("the page lays out its own tables; --format unsafehtml writes the one asked for here")
    write(store, found, output, metrics=list(wish.metrics), command=shlex.join(["vr", *sys.argv[1:]]))


# -- what was asked for -----------------------------------------------------------------------------------------------

EMPTY = "no finished runs yet; start with: vr run cnn --opt vradam"


def _names(texts: Iterable[str]) -> list[str]:
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def _spread(name: str) -> Spread:
    for known in ("ci", "sd", "minmax", "none"):
        if name == known:
            return known
    raise UsageError(f"--spread {name} is not known{nearest(name, SPREADS) or '; ' + ', '.join(SPREADS)}")


def _format(name: str | None, output: Path | None) -> str:
    from vrcli.report.render import formats

    if name is None:
        return ENDINGS.get(output.suffix.lower(), "markdown") if output is not None else "markdown"
    if name not in formats():
        raise UsageError(f"--format {name} is not known{nearest(name, formats()) or '; ' + ', '.join(formats())}")
    return name


def check(wish: Wish, output: Path | None) -> None:
    """Refuse what cannot be, before anything is read."""
    if not 0 < wish.level < 1:
        raise UsageError(f"--level must be between 0 and 1, got {wish.level:g}")
    if wish.pivot is not None:
        if len(wish.columns) > 1:
            raise UsageError("--columns names one thing with --pivot: task, dataset, preset, optimizer or a setting")
        if wish.group_by:
            raise UsageError("--group-by pools settings, --pivot shows the best of them; leave one of them out")
    if output is not None:
        filters.check_output(output)


def _known(flag: str, names: Iterable[str], known: set[str], what: str) -> None:
    for name in names:
        if name not in known:
            hint = nearest(name, known) or f"; known: {', '.join(sorted(known))}"
            raise UsageError(f"{flag} {name} is no {what} of these runs{hint}")


# -- the table --------------------------------------------------------------------------------------------------------


def table_of(
    found: Sequence[RunRecord], wish: Wish, ended: dict[tuple[int, str], list[datetime]], stopped: dict[int, set[int]]
) -> tuple[str, list[str]]:
    """The output, and what must be said beside it."""
    from vrcli.report.groups import FINISHED
    from vrcli.report.selection import Selection, budgets, quotable
    from vrcli.report.tables import render
    from vrcli.report.types import Table

    finished = [run for run in found if run.status in FINISHED]
    notices = unfinished(found, stopped)
    if not finished:
        empty = render(Table((), ()), wish.format).rstrip("\n") + "\n" if wish.format in RAW else ""
        return empty, [*notices, EMPTY]
    selection = quotable(finished, ended)
    if wish.every_trial:
        selection = Selection(finished, budgets(finished, ended), 0, 0)
    if selection.searched:
        notices.append(f"{selection.searched} runs of sweeps' trials: not in the table (--trials shows them)")
    if selection.flattered:
        notices.append("some rows show the best trial of a sweep on the search's own seed; --confirm-seeds is fair")
    pruned = {run.id for run in selection.runs if run.sweep_id in stopped}
    text, more = (_plain if wish.pivot is None else _pivoted)(selection, wish, pruned)
    return text.rstrip("\n") + "\n", notices + more


def unfinished(found: Sequence[RunRecord], stopped: dict[int, set[int]]) -> list[str]:
    """What is said of the runs that are in no table."""
    from collections import Counter

    from vrcli.report.groups import FINISHED

    early = {trial for trials in stopped.values() for trial in trials}
    left = Counter(run.status for run in found if run.status not in FINISHED and run.trial_id not in early)
    said = [f"{len(early)} trials of {len(stopped)} sweep(s) were stopped early (--prune)"] if early else []
    if left:
        said.append(", ".join(f"{n} {status}" for status, n in left.items()) + ": runs that are not in the table")
    return said


def _plain(selection: Selection, wish: Wish, pruned: set[int]) -> tuple[str, list[str]]:
    from vrcli.report.layout import FIELDS, fit
    from vrcli.report.tables import SORTS, render, selector, summarise

    runs = selection.runs
    results, settings = _vocabulary(selection, wish)
    everything = wish.columns == ["all"]
    if not everything:
        _known("--columns", wish.columns, {*FIELDS, *results, *settings, "all"}, "column")
    _known("--group-by", wish.group_by, settings, "setting")
    if wish.sort:
        _known("--sort", [wish.sort.removeprefix("-")], {*SORTS, *results, *settings}, "column")
    names = [*wish.metrics, *(name for name in wish.columns if name in results)]
    columns = _columns(selection, names or (sorted(results) if everything else []), exact=bool(wish.columns))
    if wish.best_only and selector(columns, runs).direction is None:
        raise UsageError(f"--best: whether less or more {columns[0].key} is better is not known; order by a --metric")
    table = summarise(
        runs, columns, trials=selection.trials, pruned=pruned, one_per_optimizer=wish.best_only,
        group_by=wish.group_by, sort=wish.sort, level=wish.level, spread=wish.spread,
    )  # fmt: skip
    table, notices = _shaped(table, wish, everything)
    if not wish.columns and not wish.metrics and wish.format not in (*RAW, "html", "unsafehtml"):
        table, dropped = fit(table)
        if dropped:
            notices.append(f"not shown, to keep to 100 columns: {', '.join(dropped)} (--columns all shows everything)")
    if wish.format in ("tsv", "csv"):
        notices += table.notes
    return render(table, wish.format), notices


def _shaped(table: Table, wish: Wish, everything: bool) -> tuple[Table, list[str]]:
    """The table with the columns that were asked for."""
    from vrcli.report.layout import every_name

    if everything:
        return replace(table, shown=tuple(every_name(table))), []
    if not wish.columns:
        return table, []
    return replace(table, shown=tuple(dict.fromkeys([*wish.columns, *wish.metrics]))), []


def _pivoted(selection: Selection, wish: Wish, pruned: set[int]) -> tuple[str, list[str]]:
    from vrcli.report.pivot import FIELDS, pivot, render
    from vrcli.report.tables import default_columns, selector, summarise

    results, settings = _vocabulary(selection, wish)
    rows = wish.rows or ("optimizer" if wish.columns != ["optimizer"] else "task")
    columns = wish.columns[0] if wish.columns else ("task" if rows != "task" else "optimizer")
    _known("--pivot", wish.pivot or [], results, "result")
    _known("--rows", [rows], {*FIELDS, *settings}, "row")
    _known("--columns", [columns], {*FIELDS, *settings}, "column")
    if rows == columns:
        raise UsageError(f"--rows and --columns are both {rows}; one of them must be another")
    default = default_columns(selection.runs)[0]
    metrics = _columns(selection, [*(wish.pivot or []), *wish.metrics] or [default.key])
    chosen_by = selector(metrics, selection.runs)
    if chosen_by.direction is None:
        chosen_by = default
    if wish.sort:
        known = {"task", "optimizer", rows, *(metric.key for metric in metrics)}
        _known("--sort", [wish.sort.removeprefix("-")], known, "row or result")
    table = summarise(
        selection.runs, list(dict.fromkeys([*metrics, chosen_by])), trials=selection.trials, pruned=pruned,
        level=wish.level, spread=wish.spread,
    )  # fmt: skip
    found = pivot(table, metrics, rows=rows, columns=columns, chosen_by=chosen_by, sort=wish.sort)
    return render(found, wish.format), list(found.notes) if wish.format in ("tsv", "csv") else []


def _vocabulary(selection: Selection, wish: Wish) -> tuple[set[str], set[str]]:
    """Names of the results and of the settings that the runs have; settings only where one may be meant."""
    from vrcli.report.groups import group_runs

    results = {name for run in selection.runs for name in run.results}
    asked = {*wish.columns, *wish.group_by, *([wish.rows] if wish.rows else [])}
    asked |= {wish.sort.removeprefix("-")} if wish.sort else set()
    if asked <= results:
        return results, set()
    return results, {name for group in group_runs(selection.runs) for name in group.settings}


def _columns(selection: Selection, names: Sequence[str], *, exact: bool = False) -> list[Column]:
    """The results to show; those of the tasks' own making are looked up, which takes the tasks' libraries."""
    from vrcli.report.tables import default_columns
    from vrcli.report.types import Column

    runs = selection.runs
    _known("--metric", names, {name for run in runs for name in run.results}, "result")
    wanted = [Column.of(name) for name in dict.fromkeys(names)]
    if not wanted:
        wanted = default_columns(runs)[: 1 if exact else None]
    if all(column.direction is not None or column.is_cost for column in wanted):
        return wanted
    known = declared(run.task for run in runs)
    return [Column.of(column.key, known) for column in wanted]


def declared(tasks: Iterable[str]) -> Known:
    """What the tasks say of their metrics, by result name; nothing of a task that is not available here."""
    from tasks.registry import UnknownTask, load

    found: dict[str, tuple[Literal["min", "max"] | None, bool]] = {}
    for task in sorted(set(tasks)):
        try:
            metrics = load(task).metrics
        except UnknownTask:
            continue
        for metric in metrics:
            for prefix in ("best_val", "final_val", "val", "test"):
                key = f"{prefix}_{metric.name}"
                direction, percent = found.get(key, (metric.direction, metric.percent))
                found[key] = (direction if direction == metric.direction else None, percent and metric.percent)
    return found


# -- sweeps -----------------------------------------------------------------------------------------------------------


def _sweeps(runs: Iterable[RunRecord]) -> set[int]:
    return {run.sweep_id for run in runs if run.sweep_id is not None}


def stopped_early(store: Store, sweeps: Iterable[int]) -> dict[int, set[int]]:
    """The trials that were pruned, by sweep; of sweeps that have some."""
    found = {sweep: {trial.id for trial in store.trials(sweep, state="pruned")} for sweep in sweeps}
    return {sweep: trials for sweep, trials in found.items() if trials}


def trial_counts(store: Store, sweeps: Iterable[int] | None = None) -> dict[tuple[int, str], list[datetime]]:
    """When the trials of each sweep's optimizer ended, in order.

    Args:
        sweeps: of these, None for all.
    """
    from collections import defaultdict

    found: dict[tuple[int, str], list[datetime]] = defaultdict(list)
    for sweep in sweeps if sweeps is not None else [sweep.id for sweep in store.sweeps()]:
        for trial in store.trials(sweep):
            if trial.state not in ("pending", "running", "interrupted") and trial.finished_at is not None:
                found[sweep, trial.optimizer].append(trial.finished_at)
    return {key: sorted(times) for key, times in found.items()}
