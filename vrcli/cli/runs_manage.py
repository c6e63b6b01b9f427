"""`vr runs rm`, `tag`, `resume`, `rerun` and `retry`: what can be done with stored runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import typer

from vrcli.cli import request as req
from vrcli.cli.console import err, notice, say
from vrcli.cli.run import exit_code
from vrcli.cli.run_display import RunDisplay
from vrcli.cli.screen import show_next, suggest
from vrcli.cli.waiting import waiting
from vrcli.db.location import Location
from vrcli.errors import UsageError
from vrcli.execute.checkpoints import remove as remove_checkpoints
from vrcli.report.tables.runs import title
from vrcli.report.wording import counted
from vrcli.results.flat import as_json
from vrcli.results.single import holdings
from vrcli.study.asked import checked_tag

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store


def rm(
    refs: list[str] = typer.Argument(metavar="RUN", help="numbers or names of runs"),
    yes: bool = typer.Option(False, "--yes", "-y", help="do not ask"),
    database: Location = req.DB,
    debug: bool = req.DEBUG,
) -> None:
    """Remove runs with their curves, results and files; asks first."""
    with req.open_existing(database, mode="write") as store:
        records = chosen(store, refs)
        running = [record for record in records if record.status == "running"]
        if running:
            first = running[0]
            raise UsageError(f"run {first.id} is still running (pid {first.pid} on {first.host}); nothing was removed")
        for line in losses(store, records):
            say(line, to=err(), prose=True)
        if not yes:
            confirm(f"remove {counted(len(records), 'run')} for good?")
        store.runs.delete([record.id for record in records])
        for record in records:
            remove_checkpoints(database, record)
    say(f"removed run{'s' * (len(records) != 1)} {', '.join(str(record.id) for record in records)}")


def tag(
    ref: str = typer.Argument(metavar="RUN", help="number or name of a run"),
    word: str | None = typer.Argument(None, metavar="[WORD]", help="the tag; without one it is taken away"),
    database: Location = req.DB,
    debug: bool = req.DEBUG,
) -> None:
    """Change the word that a run is found by (--tag)."""
    wanted = checked_tag(word, "WORD")
    with req.open_existing(database, mode="write") as store:
        before = store.runs.get(ref)
        after = store.runs.tag(before.id, wanted)
    say(f"run {after.id}: tag {before.tag or 'none'} -> {after.tag or 'none'}")
    if after.tag:
        suggest((f"vr runs list --tag {quote(after.tag)}", "the runs that have it"), database=database)


def rerun(
    ref: str = typer.Argument(metavar="RUN", help="number or name of a run"),
    data_dir: Path | None = req.DATA_DIR,
    database: Location = req.DB,
    format: str = req.FORMAT,
    quiet: bool = req.QUIET,
    debug: bool = req.DEBUG,
) -> None:
    """Train the same again and compare it bit for bit.

    The stored settings and seed are trained as a new run with the same tag; the last line says whether its curves are
    those of the stored run, or at which step they part.
    """
    again(ref, database, data_dir, format=format, quiet=quiet, retry=False)


def resume(
    ref: str = typer.Argument(
        None, metavar="[RUN]", help="number or name of a run [default: the newest interrupted one]", show_default=False
    ),
    checkpoint_every: str = req.CHECKPOINT_EVERY,
    checkpoint_dir: Path | None = req.CHECKPOINT_DIR,
    data_dir: Path | None = req.DATA_DIR,
    database: Location = req.DB,
    format: str = req.FORMAT,
    quiet: bool = req.QUIET,
    debug: bool = req.DEBUG,
) -> None:
    """Go on with an interrupted run from its last checkpoint.

    It keeps its number, and ends with the curves and weights that it would have had without the interruption, bit for
    bit on the same machine. What it recorded after the checkpoint is replaced.
    """
    req.check_format(format)
    from vrcli.cli.run import exit_code
    from vrcli.execute.checkpoints import Checkpoints
    from vrcli.study.resume import resume as go_on

    checkpoints, text = Checkpoints.asked(checkpoint_every, checkpoint_dir), format == "text"
    checkpoints.check()
    reading = waiting("reading the run and its data", quiet=quiet or not text)
    display = RunDisplay({}, quiet=quiet or not text, summary=text, database=database)
    with req.open_existing(database, mode="write") as store, reading:
        run = go_on(
            store, ref, checkpoints=checkpoints, data_dir=data_dir, notice=notice,
            watcher=display.of,
        )  # fmt: skip
    if not text:
        print(json.dumps(as_json(run)))
    display.say_next()
    raise typer.Exit(exit_code([run]))


def retry(
    ref: str = typer.Argument(metavar="RUN", help="number or name of a run that failed or was interrupted"),
    data_dir: Path | None = req.DATA_DIR,
    database: Location = req.DB,
    format: str = req.FORMAT,
    quiet: bool = req.QUIET,
    debug: bool = req.DEBUG,
) -> None:
    """Train a failed or interrupted run again.

    It starts from the beginning, as a new run with the same tag and group; what the stored run recorded stays, and the
    curves are compared as far as it went.
    """
    again(ref, database, data_dir, format=format, quiet=quiet, retry=True)


def again(ref: str, database: Location, data_dir: Path | None, *, format: str, quiet: bool, retry: bool) -> None:
    """Train a stored run's spec once more; compare its curves with the stored ones."""
    req.check_format(format)
    from vrcli.report.difference import verdict  # numpy is slow to import
    from vrcli.study.again import again as train_again

    text = format == "text"
    reading = waiting("reading the run and its data", quiet=quiet or not text)
    display = RunDisplay({}, quiet=quiet or not text, summary=text, database=database)
    with req.open_existing(database, mode="write") as store, reading:
        found = train_again(
            store, ref, retry=retry, data_dir=data_dir, notice=notice,
            watcher=display.of,
        )  # fmt: skip
    stored, run, same = found.stored, found.run, found.difference.same_curves
    words = verdict(found.difference, f"run {stored.id}", f"run {run.id}")
    if not text:
        print(json.dumps({**as_json(run), "again": stored.id, "bit_identical": same, "verdict": words}))
    elif found.compares:
        say(f"same curves as run {stored.id}, bit for bit" if same else words, prose=True)
        if not same and not quiet:
            show_next([(f"vr runs diff {stored.id} {run.id}", "what differs between them")], database=database)
            raise typer.Exit(exit_code([run]))
    display.say_next()
    raise typer.Exit(exit_code([run]))


def chosen(store: Store, refs: list[str]) -> list[RunRecord]:
    """The runs that were named, each once; none is touched where one is not there."""
    return list({record.id: record for record in map(store.runs.get, refs)}.values())


def losses(store: Store, records: list[RunRecord]) -> list[str]:
    """What removing runs destroys, one line each."""
    lines = []
    for record in records:
        held = holdings(store, record)
        parts = [f"run {record.id}", record.name, title(record), f"{held.points:,} points"]
        parts += [f"{counted(held.files, 'file')} ({held.bytes:,} bytes)"] if held.files else []
        parts += [f"a {'trial' if record.trial_id else 'confirmation'} of sweep {held.sweep}"] if held.sweep else []
        lines.append(" · ".join(parts))
    return lines


def confirm(question: str) -> None:
    """Ask on a terminal; elsewhere --yes must have been given.

    Raises:
        UsageError: nobody can be asked, or the answer is no.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"{question} This is not a terminal, so nothing was asked and nothing was removed; --yes removes unasked"
        )
    if not typer.confirm(question, err=True):
        raise UsageError("nothing was removed")
