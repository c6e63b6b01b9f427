"""`vr runs export`: stored runs in the formats of other programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

import typer

from vrcli.cli import filters
from vrcli.cli import request as req
from vrcli.cli.console import err, notice, say
from vrcli.cli.options import unpacked
from vrcli.cli.screen import show_next
from vrcli.cli.waiting import waiting
from vrcli.db.location import Location
from vrcli.report.wording import counted
from vrcli.results.export import FORMATS, chosen, format_of, write
from vrcli.results.single import check_metrics

TO = typer.Option(
    None, "--to", metavar="FORMAT", help=f"{', '.join(FORMATS)} [default: from --output]", show_default=False
)

#: What opens a format, and what that shows.
READERS = {
    "tensorboard": ("tensorboard --logdir {}", "the curves in a browser"),
    "mlflow": ("mlflow ui --backend-store-uri {}", "the runs in a browser"),
    "sqlite": ("vr runs list --db {}", "what is in it"),
}


@unpacked
def export(
    asked: filters.Beside,
    refs: list[str] = typer.Argument(None, metavar="RUN", help="numbers or names [default: all]"),
    to: str | None = TO,
    output: Path = typer.Option(..., "--output", "-o", metavar="PATH", help="file, or folder of event files"),
    force: bool = req.FORCE,
    metric: list[str] = typer.Option([], "--metric", metavar="NAME", help="only these curves [default: all]"),
    database: Location = req.DB,
    debug: bool = req.DEBUG,
) -> None:
    """Write runs with their curves for other programs.

    csv and parquet are two files: results.csv has a row per run (settings and results as columns), results.curves.csv
    a row per point. sqlite is a database of vr. tensorboard and mlflow are folders their viewers open; weights is
    a folder with the safetensors files of runs that kept theirs (vr run --keep-weights).

    NaN and infinities are words in csv and json, and numbers in parquet and tensorboard (whose numbers have 32 bits);
    mlflow itself keeps infinities as 1.8e308.
    """
    format = format_of(to, output)
    with req.open_existing(database) as store:
        with waiting("reading runs"):
            records = chosen(store, refs or [], asked)
        if not records:
            notice(f"{database} has no runs yet; `vr run` makes some, nothing was written")
            return
        check_metrics(store, records, metric)
        with progress(len(records)) as advance:
            done = write(store, records, format, output, metrics=metric or None, force=force, advance=advance)
    names = " and ".join(map(str, done.paths))
    runs = counted(len(records) if done.runs is None else done.runs, "run")
    for line in [f"wrote {names}: {runs}, {done.points:,} points", *done.lines]:
        say(line, to=err(), prose=True)
    if err().is_terminal and format in READERS:
        command, why = READERS[format]
        show_next([(command.format(quote(str(output))), why)], to=err())


@contextmanager
def progress(total: int) -> Iterator[Callable[[], object]]:
    """A bar on stderr for what takes longer than a moment; nothing where that is no terminal."""
    if not sys.stderr.isatty() or total < 2:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True) as bar:
        job = bar.add_task("", total=total)
        yield lambda: bar.advance(job)
