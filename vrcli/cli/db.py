"""`vr db`: the database file itself."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote

import typer

from vrcli.cli import db_merge
from vrcli.cli import request as req
from vrcli.cli.console import err, notice, say
from vrcli.cli.lazy import noun
from vrcli.cli.request import open_existing
from vrcli.cli.screen import facts, suggest
from vrcli.cli.waiting import waiting
from vrcli.db.location import Location
from vrcli.db.store import Store
from vrcli.leftovers import leftovers
from vrcli.output import Target
from vrcli.report import wording
from vrcli.report.wording import counted

app = noun("Look after the database.")


@app.command("info")
def info(database: Location = req.DB, format: str = req.FORMAT, debug: bool = req.DEBUG) -> None:
    """Show the schema's revision, what is stored, and its size."""
    req.check_format(format)

    from vrcli.execute.checkpoints import weigh

    with open_existing(database) as store:
        found = store.info()
        found["checkpoints"], found["checkpoint_bytes"] = weigh(store)
    if format == "json":
        print(json.dumps(found, default=str))
        return
    statuses = found.pop("runs_by_status")
    for name, value in found.items():
        text = f"{value:,}" if isinstance(value, int) else str(value)
        if name.endswith("_bytes"):
            name, text = name.removesuffix("size_bytes").removesuffix("bytes") + "size", wording.size(value)
        if name == "runs" and statuses:
            text += f" ({', '.join(f'{count:,} {status}' for status, count in sorted(statuses.items()))})"
        facts([(name.replace("_", " "), text)], indent=0, width=16)
    suggest(("vr runs list", "what was run"), ("vr db check", "is every cell in order?"), database=database)


@app.command("check")
def check(
    repair: bool = typer.Option(
        False,
        "--repair",
        help="move damaged rows to the table damaged_rows; a backup made first keeps all",
    ),
    database: Location = req.DB,
    debug: bool = req.DEBUG,
) -> None:
    """Check every cell of the database. Exit code 1 where something is wrong."""
    from vrcli.spec import digest_of

    if repair:
        put_aside(database)
    with waiting("checking every cell"), open_existing(database) as store:
        problems = store.check(digest_of)
    for left in leftovers(database.path.resolve().parent) if database.path else ():
        notice(f"{left} is of a vr that was killed; the next command that writes a file or a backup there removes it")
    for problem in problems:
        say(problem, prose=True)
    if problems:
        suggest(("vr db check --repair", "put the damaged rows aside, after a backup"), database=database)
        raise typer.Exit(1)
    say(f"{database}: no problems found")
    suggest(("vr db backup vr.backup.db", "a copy, also while runs are writing"), database=database)


def put_aside(database: Location) -> None:
    """Move damaged rows aside, and say which."""
    from vrcli.spec import digest_of

    with waiting("checking every cell"), open_existing(database, mode="write") as store:
        moved, copy = store.repair(digest_of)
    for line in moved:
        say(f"moved to damaged_rows: {line}", prose=True)
    if copy is not None:
        say(f"{counted(len(moved), 'row')} moved; the database as it was is {copy}", prose=True)


@app.command("backup")
def backup(
    path: Path = typer.Argument(help="file to write"),
    force: bool = typer.Option(False, "--force", help="replace a file that is there, an earlier backup too"),
    database: Location = req.DB,
    debug: bool = req.DEBUG,
) -> None:
    """Copy the database to a file, also while runs are writing to it."""

    # A backup may be all that is left of runs: not even an earlier one is replaced unasked.
    target = Target(path.expanduser(), "PATH", database, force, keep=True)
    target.check()
    with waiting("copying"), open_existing(database) as store, target.part() as part:
        store.backup(part)
    say(f"wrote {path}", to=err())
    suggest((f"vr runs list --db {quote(str(path))}", "what is in it"))


@app.command("upgrade")
def upgrade(database: Location = req.DB, debug: bool = req.DEBUG) -> None:
    """Bring an older database to this version's schema, after a backup."""

    with waiting("upgrading"):
        done = Store.upgrade(database)
    if done.before == done.after:
        say(f"{database}: schema {done.after}, nothing to do")
        return
    say(
        f"{database}: schema {done.before or 'none'} -> {done.after}"
        + (f", backup in {done.backup}" if done.backup else "")
    )


app.command("merge")(db_merge.merge)
