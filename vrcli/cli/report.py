"""`vr report`: tables of what was stored, and the page that has everything."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vrcli.cli import request as req
from vrcli.cli.console import err, notice, put, say
from vrcli.cli.filters import Filter
from vrcli.cli.lazy import uncollected, verb
from vrcli.cli.options import Bundle, unpacked
from vrcli.cli.screen import is_terminal, show_next, show_rows, terminal_width
from vrcli.cli.waiting import waiting
from vrcli.db.location import Location
from vrcli.output import Target
from vrcli.passwords import masked
from vrcli.report.study.blocks import Rows
from vrcli.report.tables.columns import COLUMNS as FIELDS
from vrcli.report.tables.options import EMPTY, TableOptions
from vrcli.report.wording import command, counted
from vrcli.results.reading import Reading, read, usual_results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vrcli.db.store import Store
    from vrcli.report.page.data import Source

#: Runs whose curves take long enough to read that it is said.
MANY = 100

METRIC = typer.Option([], "--metric", metavar="RESULT", help="results to show; the first sorts the rows")
COLUMNS = typer.Option(
    [], "--columns", metavar="NAMES", show_default=False,
    help=f"what to print, separated by commas: {', '.join(FIELDS)}, a result or a setting; or all. "
    "With --pivot: what the columns are (task)",
)  # fmt: skip
PIVOT = typer.Option(
    [], "--pivot", metavar="RESULT",
    help="a table as in papers: this result (or several, separated by commas) of every optimizer by task",
)  # fmt: skip
ROWS = typer.Option(
    None, "--rows", metavar="NAME", show_default=False,
    help="with --pivot, what the rows are: optimizer (default), task, dataset, preset or a setting",
)  # fmt: skip
GROUP_BY = typer.Option(
    [], "--group-by", metavar="SETTING",
    help="one row per value of this setting; runs are pooled, and a note names what else differs",
)  # fmt: skip
SORT = typer.Option(
    None, "--sort", metavar="NAME", show_default=False,
    help="order rows by a result (the best first), setting or column (the smallest first); with - reversed "
    "[the first result]",
)  # fmt: skip
SPREAD = typer.Option("ci", "--spread", metavar="KIND", help="beside a mean: ci (interval), sd, minmax or none")
LEVEL = typer.Option(0.95, "--level", help="of intervals; 1 - level is the error rate of the marks")
TRIALS = typer.Option(False, "--trials", help="also every trial of a sweep, as a row of its own")
BEST = typer.Option(
    False, "--best",
    help="one row per optimizer: the settings found with the most trials, of those the best on validation",
)  # fmt: skip
NAMES = typer.Option([], "--names", metavar="NAMES", help="names to show for optimizers: vradam=VRAdam,sgd=SGD")
CAPTION = typer.Option(None, "--caption", help="make a LaTeX table a float with this caption", show_default=False)
LABEL = typer.Option(None, "--label", help="the label of that float", show_default=False)
FORMAT = typer.Option(
    None, "--format", metavar="FORMAT", show_default=False,
    help="markdown (default), text, csv, tsv, json, latex_booktabs, html, ...; else by the ending of --output",
)  # fmt: skip
OUTPUT = typer.Option(
    None, "--output", metavar="FILE", show_default=False,
    help="write to this file; .html makes the whole page: tables, curves, sweeps, runs",
)  # fmt: skip


@dataclass(frozen=True)
class Asked(TableOptions, Bundle):
    """The options of a table."""

    metric: Annotated[list[str], METRIC] = field(default_factory=list)
    columns: Annotated[list[str], COLUMNS] = field(default_factory=list)
    pivot: Annotated[list[str], PIVOT] = field(default_factory=list)
    rows: Annotated[str | None, ROWS] = None
    group_by: Annotated[list[str], GROUP_BY] = field(default_factory=list)
    sort: Annotated[str | None, SORT] = None
    spread: Annotated[str, SPREAD] = "ci"
    level: Annotated[float, LEVEL] = 0.95
    trials: Annotated[bool, TRIALS] = False
    best: Annotated[bool, BEST] = False
    names: Annotated[list[str], NAMES] = field(default_factory=list)
    caption: Annotated[str | None, CAPTION] = None
    label: Annotated[str | None, LABEL] = None


@unpacked
def report(
    chosen: Filter,
    asked: Asked,
    format: str | None = FORMAT,
    output: Path | None = OUTPUT,
    force: bool = req.FORCE,
    database: Location = req.DB,
    debug: bool = req.DEBUG,
) -> None:
    """Print a table of stored results, task by optimizer.

    A sweep is shown by its runs on fresh seeds (--confirm-seeds), or by its best trial where it has none. Several
    searches of an optimizer are one row: n is searches x seeds, the budget is searches x trials x epochs.

    \b
    For a paper:  vr report --pivot test_loss --format latex_booktabs
    Columns:      vr report --columns optimizer,lr,best_val_loss,n,budget --sort lr
    Laid out:     vr report --pivot test_loss --rows lr --columns optimizer --trials
    """
    from vrcli.report.tables.render import format_of

    screen = format is None and output is None and is_terminal() and not (asked.caption or asked.label)
    format = format_of(format, output)
    target = None if output is None else Target(output, database=database, force=force)
    with uncollected():
        if target is not None and format == "html":
            write_page(chosen, asked, target, database)
        elif screen:
            show_table(chosen, asked, database)
        else:
            write_table(chosen, asked, format, target, database)


app = verb(report)


def write_table(chosen: Filter, asked: TableOptions, format: str, target: Target | None, database: Location) -> None:
    """Print the table, or write it to a file."""
    from vrcli.report.tables.asked import table_text  # scipy is slow to import
    from vrcli.report.tables.render import DATA

    if target is not None:
        target.check()
    with req.open_existing(database) as store:
        reading = read(store, chosen, results=usual_results(store) if asked.is_usual else None)
    text, notices = table_text(reading, asked, format, whole=target is not None, width=terminal_width())
    for line in notices:
        notice(line)
    if format == "html" and text:
        notice("--output report.html makes a whole page of it: tables, curves, sweeps and runs")
    if target is None:
        put(text, exact=format in DATA)
    elif text:
        target.write_text(text)
        say(f"wrote {target.path}: {format}", to=err())


def show_table(chosen: Filter, asked: TableOptions, database: Location) -> None:
    """Show the table to a person."""
    with waiting("reading runs"):
        from vrcli.report.tables.asked import table_columns  # scipy is slow to import

        with req.open_existing(database) as store:
            reading = read(store, chosen, results=usual_results(store) if asked.is_usual else None)
        found, notices = table_columns(reading, asked)
    for line in notices:
        notice(line)
    if found is None:
        return
    names = [one.title for one in found.columns]
    rows = [dict(zip(names, texts, strict=True)) for texts in zip(*([t for t, _ in one.cells] for one in found.columns),
                                                                  strict=True)]  # fmt: skip
    best = {one.title: {place for place, (_, bold) in enumerate(one.cells) if bold} for one in found.columns
            if one.title in found.results}  # fmt: skip
    least = [*reversed(found.results[2:]), *(name for name in ("dataset", "preset", "budget") if name in names)]
    if len({row["task"] for row in rows if row.get("task")}) == 1:  # rows of different tasks must not look alike
        least.append("task")
    least += found.results[1:2]  # before n: no result without it
    right = [one.title for one in found.columns if one.side == "right"]
    wrap = [name for name in ("task", "settings") if name in names]
    shown = show_rows(Rows(names, rows, right, wrap, least, best, "the best of its task"))
    for line in found.notes(shown):
        say(line, prose=True)
    steps = [("vr plot curves", "the loss curves behind it"), ("vr report --format latex_booktabs", "for a paper")]
    show_next([*steps, ("vr report --output report.html", "a page with curves, sweeps and runs")], database=database)


def write_page(chosen: Filter, asked: TableOptions, target: Target, database: Location) -> None:
    """Write the page of the runs, whatever became of them."""
    from vrcli.report.page.data import page_of
    from vrcli.report.page.render import render_page

    asked.refuse_on_page()
    target.check()
    with req.open_existing(database) as store:
        reading = read(store, chosen)
        if not reading.runs:
            notice(EMPTY)
            return
        if len(reading.runs) >= MANY:
            notice(f"reading the curves of {len(reading.runs)} runs")
        with waiting("reading curves, drawing the page"):
            source = page_source(store, reading, asked.metric, command(list(map(masked, sys.argv))))
            text = render_page(page_of(source))
    target.write_text(text)
    size = len(text.encode(errors="replace")) / 1e6
    say(f"wrote {target.path}: {counted(len(reading.runs), 'run')} on one page, {size:.1f} MB", to=err())


def page_source(store: Store, reading: Reading, metric: Sequence[str] = (), words: str = "") -> Source:
    """What the page is made from, with the commands that repeat what it shows.

    Args:
        words: the command that asked for it.
    """
    from vrcli.cli.repeat import best_command, command_of
    from vrcli.report.figures.difference import picture
    from vrcli.report.page.data import source_of
    from vrcli.results.lines import Reader
    from vrcli.results.trials import searches_of

    differences = picture(Reader(store, Filter()), reading.runs)
    return source_of(
        reading, searches_of(store, reading.runs, best_command), store.curves.read, metric=metric,
        commands={run.id: command_of(run) for run in reading.runs}, database=store.label, command=words,
        differences=differences,
    )  # fmt: skip
