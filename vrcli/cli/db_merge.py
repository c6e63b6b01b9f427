"""`vr db merge`: bring the runs of other databases in."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import request as req
from vrcli.cli.runs_export import progress
from vrcli.cli.screen import hanging, is_terminal, show_next
from vrcli.cli.waiting import waiting
from vrcli.db.location import Location
from vrcli.db.store import Store, StoreError
from vrcli.errors import UsageError, VrError
from vrcli.report.wording import command

if TYPE_CHECKING:
    from vrcli.db.records import MergeReport


def merge(
    others: list[Location] = typer.Argument(
        parser=Location, metavar="OTHER", help="database files, or SQLAlchemy URLs"
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="say what would come in, change nothing"),
    database: Location = req.DB,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Bring in the runs and sweeps of other databases.

    Each comes in once, however often it is done, and in full or not at all. The others are only read; where one of them
    cannot be, none comes in. Runs that have not ended there are left out until they have.
    """
    req.check_format(format)

    bodies: list[dict[str, Any]] = []
    with ExitStack() as stack:
        with waiting("opening the databases"):
            sources = [stack.enter_context(opened(other, database)) for other in others]
            store = stack.enter_context(own(database, dry_run))
        for other, source in zip(others, sources, strict=True):
            with said_before(bodies, dry_run):
                report = copy(store, source, dry_run)
            bodies.append({"other": str(other), **as_json(report)})
            if format == "text":
                for line in lines(other, report, dry_run):
                    hanging(line, 4)
    if format == "json":
        print(json.dumps({"database": str(database), "dry_run": dry_run, "merged": bodies}))
    elif is_terminal():
        words = [word for word in sys.argv if word != "--dry-run"]
        show_next([(command(words), "bring them in")] if dry_run else [("vr report", "all runs as a table")],
                  database=None if dry_run else database)  # fmt: skip


@contextmanager
def said_before(bodies: list[dict[str, Any]], dry_run: bool) -> Iterator[None]:
    """A failure inside says which databases came in before it.

    Raises:
        VrError: something has been written, so that this is no refusal any more.
    """

    try:
        yield
    except (StoreError, VrError) as error:
        if dry_run or not bodies:
            raise
        raise VrError(f"{error}; came in before it: {', '.join(body['other'] for body in bodies)}") from error


@contextmanager
def own(database: Location, dry_run: bool) -> Iterator[Store]:
    """The database that takes the runs; one that is not there is made, but not for a rehearsal."""
    from vrcli.leftovers import scratch_folder

    if dry_run and database.path is not None:
        if not database.path.exists():
            with scratch_folder() as folder, Store.open(folder / "new.db") as store:
                yield store
            return
        if Store.is_older(database):
            Store.open(database, mode="read").close()  # refuses it: opening it for writing would upgrade it
    with req.open_store(database) as store:
        yield store


@contextmanager
def opened(other: Location, database: Location) -> Iterator[Store]:
    """Another database for reading. One of an older schema is read from a copy that is upgraded; it stays as it is.

    Raises:
        UsageError: it is not there, or is the very database that it would be merged into.
    """

    path = other.path
    if path is None:
        with Store.open(other, mode="read") as source:
            yield source
        return
    if not path.exists():
        raise UsageError(f"there is no database {other}")
    if database.path is not None and database.path.exists() and path.samefile(database.path):
        raise UsageError(f"{other} is the database that it would be merged into; --db names another")
    with Store.reading(other) as source:
        yield source


def copy(store: Store, source: Store, dry_run: bool) -> MergeReport:
    """Merge, with a bar on a terminal."""

    if dry_run:
        with waiting("comparing"):
            return store.merge(source, dry_run=True)
    with progress(source.info()["runs"]) as advance:
        return store.merge(source, advance=advance)


def lines(other: Location, report: MergeReport, dry_run: bool) -> list[str]:
    """What a merge did, for people."""
    would = "would bring in" if dry_run else "brought in"
    parts = [f"{len(report.added):,} run{'s' * (len(report.added) != 1)} ({report.points:,} points)"]
    if report.sweeps or report.trials:
        parts.append(f"{len(report.sweeps):,} sweep{'s' * (len(report.sweeps) != 1)}")
        parts.append(f"{report.trials:,} trial{'s' * (report.trials != 1)}")
    found = [f"{other}: {would} {', '.join(parts)}; {report.known:,} known already"]
    # Of a rehearsal only counts: the numbers that runs would get depend on what comes in before them.
    which = (lambda ids: f"{len(ids):,} run{'s' * (len(ids) != 1)}") if dry_run else numbers
    if report.added and not dry_run:
        found.append(f"  new here: {numbers(report.added)}")
    if report.updated:
        found.append(f"  gone on over there, {'to be ' if dry_run else ''}replaced here: {numbers(report.updated)}")
    if report.repeated:
        found.append(f"  same settings and seed as a run that is here: {which(report.repeated)} (reports count one)")
    if report.running:
        found.append(f"  left out: {report.running} still running there")
    if report.conflicting_trials:
        found.append(f"  left out: {report.conflicting_trials} trials, in whose place this database has others")
    return found


def numbers(ids: tuple[int, ...]) -> str:
    """Numbers of runs in few characters: 3-7, 9."""
    ranges: list[list[int]] = []
    for number in sorted(ids):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    shown = texts if len(texts) <= 12 else [*texts[:12], f"and {len(texts) - 12} more"]
    return f"run{'s' * (len(ids) != 1)} {', '.join(shown)}"


def as_json(report: MergeReport) -> dict[str, Any]:
    """A report as plain values."""

    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(report).items()}
