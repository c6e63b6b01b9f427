"""`vr report`: tables of what was stored, and the page that has everything."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import typer

from vrcli.cli import filters
from vrcli.cli import request as req
from vrcli.cli.filters import Filter
from vrcli.cli.lazy import verb
from vrcli.cli.report_table import EMPTY, Wish, table_of
from vrcli.db.location import Location, masked
from vrcli.errors import UsageError, nearest
from vrcli.output import Target
from vrcli.results.types import Column, Spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store

#: Formats by the ending of the file, where none is named.
ENDINGS = {
    ".html": "html", ".htm": "html", ".md": "markdown", ".tex": "latex_booktabs", ".csv": "csv", ".tsv": "tsv",
    ".json": "json", ".txt": "text", ".rst": "rst",
}  # fmt: skip

#: How the names of the formats begin that a file of such an ending may hold; other endings are text of any kind.
KINDS: dict[str | None, tuple[str, ...]] = {
    "html": ("html", "unsafehtml"), "latex_booktabs": ("latex",), "csv": ("csv",), "tsv": ("tsv",), "json": ("json",),
}  # fmt: skip

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
BEST = typer.Option(
    False, "--best",
    help="one row per optimizer: the settings found with the most trials, of those the best on validation",
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


@filters.selecting
def report(
    chosen: Filter,
    metric: list[str] = typer.Option([], "--metric", metavar="RESULT", help="results to show, the first orders rows"),
    columns: str | None = COLUMNS,
    pivot: list[str] = PIVOT,
    rows: str | None = ROWS,
    group_by: list[str] = GROUP_BY,
    sort: str | None = SORT,
    spread: str = SPREAD,
    level: float = typer.Option(0.95, "--level", help="of intervals; 1 - level is the error rate of the marks"),
    every_trial: bool = typer.Option(False, "--trials", help="also every trial of a sweep, as a row of its own"),
    best_only: bool = BEST,
    format: str | None = FORMAT,
    output: Path | None = OUTPUT,
    force: bool = req.FORCE,
    database: Location = req.DB,
    debug: bool = req.DEBUG,
) -> None:
    """Print task x optimizer: best validation loss, test loss, seeds and budget (trials x epochs).

    Of a sweep stand the runs on fresh seeds (--confirm-seeds), or its best trial where there are none.

    \b
    For a paper:  vr report --pivot test_loss --format latex_booktabs
    Columns:      vr report --columns optimizer,lr,best_val_loss,n,budget --sort lr
    Laid out:     vr report --pivot test_loss --rows lr --columns optimizer --trials
    """
    with no_garbage_collection():
        wish = Wish(
            metric, _names("--columns", [] if columns is None else [columns]),
            _names("--pivot", pivot) if pivot or rows else None, rows, _names("--group-by", group_by), sort,
            _spread(spread), level, every_trial, best_only, _format(format, output), output is not None,
        )  # fmt: skip
        target = None if output is None else Target(output, database=database, force=force)
        check(wish, target)
        make(chosen, wish, target, database)


app = verb(report)


def make(chosen: Filter, wish: Wish, output: Target | None, database: Location) -> None:
    """Read the runs and write the table, or the page."""
    import sys

    from vrcli.cli.console import err, notice, say
    from vrcli.cli.request import open_existing
    from vrcli.results.selection import all_searches, stopped_early

    with open_existing(database) as store:
        found = chosen.select(store, results=needed(store, wish, output))
        if output is not None and wish.format == "html":
            write_page(store, found, output, wish)
            return
        searches, stopped = all_searches(store, _searches(found)), stopped_early(store, _searches(found))
    text, notices = table_of(found, wish, searches, stopped)
    for line in notices:
        notice(line)
    if wish.format == "html" and text:
        notice("--output report.html makes a whole page of it: tables, curves, sweeps and runs")
    if output is None:
        sys.stdout.write(text)
    elif text:
        output.write_text(text)
        say(f"wrote {output.path}: {wish.format}", to=err())


def needed(store: Store, wish: Wish, output: Target | None) -> list[str] | None:
    """Names of the results that the usual table may show; None, for all, where something else was asked for."""
    asked = wish.metrics or wish.columns or wish.group_by or wish.sort or wish.pivot is not None
    if asked or (output is not None and wish.format == "html"):
        return None
    usual = ("best_val_", "test_", "val_accuracy", "val_perplexity")
    return [
        name
        for name in store.runs.metric_names()
        if name.startswith(usual) or (name.startswith("val_") and Column.of(name).direction is None)  # a task's own
    ]


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Libraries and ten thousand records are no garbage: looking for some among them is a twentieth of a report."""
    import gc

    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def write_page(store: Store, found: Sequence[RunRecord], output: Target, wish: Wish) -> None:
    """The page, which must be made while the store is open."""
    import sys

    from vrcli.cli.console import notice
    from vrcli.cli.report_page import write_page as write
    from vrcli.report.wording import command

    if not found:
        notice(EMPTY)
        return
    write(store, found, output, metrics=list(wish.metrics), command=command(list(map(masked, sys.argv))))


# -- what was asked for -----------------------------------------------------------------------------------------------


def _names(flag: str, texts: Sequence[str]) -> list[str]:
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    if texts and not names:
        raise UsageError(f"{flag} names nothing; vr report --help says what it takes")
    return names


def _spread(name: str) -> Spread:
    known = get_args(Spread)
    if name not in known:
        raise UsageError(f"--spread {name} is not known{nearest(name, known) or '; ' + ', '.join(known)}")
    return cast(Spread, name)


def _format(name: str | None, output: Path | None) -> str:
    from vrcli.report.tables.render import formats

    if name is not None and name not in formats():
        raise UsageError(f"--format {name} is not known{nearest(name, formats()) or '; ' + ', '.join(formats())}")
    ending = output.suffix.lower() if output is not None else ""
    usual = ENDINGS.get(ending)
    if name is None and ending and usual is None:
        raise UsageError(f"--output {output}: tables end in {', '.join(ENDINGS)}; another ending needs a --format")
    if name is not None and usual in KINDS and not name.startswith(KINDS[usual]):
        raise UsageError(f"--output {output} would hold {name}; leave out --format, or name another ending")
    return name or usual or "markdown"


def check(wish: Wish, output: Target | None) -> None:
    """Refuse what cannot be, before anything is read.

    Raises:
        UsageError: names the option that is to blame.
    """
    if not 0 < wish.level < 1:
        raise UsageError(f"--level must be between 0 and 1, got {wish.level:g}")
    for flag, text in (("--sort", wish.sort), ("--rows", wish.rows)):
        if text is not None and not text.strip(" -"):
            raise UsageError(f"{flag} names nothing; vr report --help says what it takes")
    if wish.pivot is not None:
        if len(wish.columns) > 1:
            raise UsageError("--columns names one thing with --pivot: task, dataset, preset, optimizer or a setting")
        if wish.group_by:
            raise UsageError("--group-by pools settings, --pivot shows the best of them; leave one of them out")
        if wish.best_only:
            raise UsageError("--best: --pivot shows the best settings in each cell anyway; leave one of them out")
    if output is not None:
        if wish.format == "html":
            check_page(wish)
        output.check()


def check_page(wish: Wish) -> None:
    """Refuse what would have no effect on the page, which lays out tables of its own.

    Raises:
        UsageError: names the option that is to blame.
    """
    usual = Wish(wish.metrics, [], None, None, [], None, "ci", 0.95, False, False, wish.format)
    flags = {"--pivot": "pivot", "--rows": "rows", "--columns": "columns", "--group-by": "group_by", "--sort": "sort",
             "--spread": "spread", "--level": "level", "--trials": "every_trial", "--best": "best_only"}  # fmt: skip
    for flag, name in flags.items():
        if getattr(wish, name) != getattr(usual, name):
            raise UsageError(f"{flag} does not change the page; leave it out, or write the table: --format unsafehtml")


# -- sweeps -----------------------------------------------------------------------------------------------------------


def _searches(runs: Iterable[RunRecord]) -> set[int]:
    return {run.search_id for run in runs if run.search_id is not None}
