"""`vr runs export`: stored runs in the formats of other programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import filters
from vrcli.cli import request as req
from vrcli.db.location import Location
from vrcli.errors import UsageError, nearest, no_curve

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.output import Target
    from vrcli.results.export.selection import Written

#: Format -> suffix of its file, or None for a folder.
FORMATS: dict[str, str | None] = {
    "csv": ".csv",
    "json": ".json",
    "parquet": ".parquet",
    "sqlite": ".db",
    "tensorboard": None,
    "mlflow": None,
}
_BY_SUFFIX = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".db": "sqlite", ".sqlite": "sqlite"}


def export(
    refs: list[str] = typer.Argument(None, metavar="RUN", help="numbers or names [default: all]"),
    to: str | None = typer.Option(
        None, "--to", metavar="FORMAT", help=f"{', '.join(FORMATS)} [default: from --output]", show_default=False
    ),
    output: Path = typer.Option(..., "--output", "-o", metavar="PATH", help="file, or folder of event files"),
    force: bool = req.FORCE,
    metric: list[str] = typer.Option([], "--metric", metavar="NAME", help="only these curves [default: all]"),
    task: list[str] = typer.Option([], "--task", metavar="NAME", help="only this task; repeat for several"),
    opt: list[str] = filters.OPT,
    preset: str | None = filters.PRESET,
    tag: str | None = filters.TAG,
    group: str | None = filters.GROUP,
    sweep: list[str] = filters.SWEEP,
    where: list[str] = filters.WHERE,
    since: str | None = filters.SINCE,
    database: Location = req.DB,
    debug: bool = req.DEBUG,
) -> None:
    """Write runs with their curves for other programs.

    csv and parquet are two files: results.csv has a row per run (settings and results as columns), results.curves.csv
    a row per point. sqlite is a database of vr. tensorboard and mlflow are folders their viewers open.

    NaN and infinities are words in csv and json, and numbers in parquet and tensorboard (whose numbers have 32 bits);
    mlflow itself keeps infinities as 1.8e308.
    """
    from vrcli.cli.console import err, notice, say
    from vrcli.cli.request import open_existing
    from vrcli.output import Target

    chosen = filters.Filter(task, opt, preset, tag, group, sweep, where, since)
    format = format_of(to, output)
    with open_existing(database) as store:
        records = select(store, refs or [], chosen)
        if not records:
            notice(f"{database} has no runs yet; `vr run` makes some, nothing was written")
            return
        if FORMATS[format] and output.name and not output.suffix and not Target(output).is_stream:
            output = output.with_suffix(str(FORMATS[format]))
        check_metrics(store, records, metric)
        for line in write(store, records, metric or None, format, output, force=force):
            say(line, to=err())


def format_of(given: str | None, output: Path) -> str:
    """The format that was asked for, or that the file's suffix means.

    Raises:
        UsageError: there is no such format, or the suffix is none that says one.
    """
    if given is None:
        found = _BY_SUFFIX.get(output.suffix.lower())
        if found is None:
            raise UsageError(f"--to is missing, and {output} does not say the format; one of {', '.join(FORMATS)}")
        return found
    if given not in FORMATS:
        raise UsageError(f"--to {given} is not one of {', '.join(FORMATS)}{nearest(given, FORMATS)}")
    return given


def select(store: Store, refs: list[str], chosen: filters.Filter) -> list[RunRecord]:
    """The runs that are both named and match, in the order of their numbers.

    Raises:
        UsageError: there are none, although the database has runs.
    """
    wanted = {store.runs.get(ref).id for ref in refs}
    found = [record for record in chosen.select(store) if not refs or record.id in wanted]
    if refs and not found:
        raise UsageError(f"none of the runs {', '.join(refs)} matches {chosen.words()}")
    return sorted(found, key=lambda record: record.id)


def check_metrics(store: Store, records: list[RunRecord], metrics: list[str]) -> None:
    """Refuse curves that none of the runs has.

    Raises:
        UsageError: names the first of them.
    """
    if not metrics:
        return
    known = store.curves.metrics([record.id for record in records])
    of = f"run {records[0].id}" if len(records) == 1 else "these runs"
    for name in metrics:
        if name not in known:
            raise no_curve(name, known, of=of)


def write(
    store: Store, records: list[RunRecord], metrics: list[str] | None, format: str, output: Path, *, force: bool
) -> list[str]:
    """Write the runs, and say what was written."""
    from importlib import import_module

    from vrcli.results.export.selection import Selection

    target: Any = import_module(f"vrcli.results.export.{format}")
    to = place(target, output, store, format, force=force)
    with progress(len(records)) as advance:
        done: Written = target.write(Selection(store, records, metrics, advance), to)
    runs = len(records) if done.runs is None else done.runs
    names = " and ".join(str(path) for path in done.paths)
    return [f"wrote {names}: {runs:,} run{'s' * (runs != 1)}, {done.points:,} points", *done.lines]


def place(target: Any, output: Path, store: Store, format: str, *, force: bool) -> Target:
    """Where an export goes.

    Raises:
        UsageError: it cannot be written, or holds what an export may not replace.
    """
    from dataclasses import replace

    from vrcli.output import Folder, Target

    database = store.location
    if hasattr(target, "owns"):
        to: Target = Folder(output, database=database, force=force, kind=f"an export to {format}", owns=target.owns)
    else:
        adds = f", vr db merge --db {output} adds to it" if format == "sqlite" else ""
        to = Target(output, database=database, force=force, hint=adds)
    paths = target.paths(output)
    if to.is_stream and len(paths) > 1:
        raise UsageError(f"--output {output} takes one file, and {format} has {len(paths)}; name a file")
    for path in paths:
        replace(to, path=path).check()
    return to


@contextmanager
def progress(total: int) -> Iterator[Callable[[], object]]:
    """A bar on stderr for what takes longer than a moment; nothing where that is no terminal."""
    if not sys.stderr.isatty() or total < 2:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from vrcli.cli.console import err

    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True) as bar:
        job = bar.add_task("", total=total)
        yield lambda: bar.advance(job)
