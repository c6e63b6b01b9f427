"""`vr runs`: what was run, and one run in full."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from vrcli.cli import filters, runs_diff, runs_export, runs_manage, runs_show, runs_slices
from vrcli.cli import request as req
from vrcli.cli.console import notice, say
from vrcli.cli.lazy import noun
from vrcli.cli.options import unpacked
from vrcli.cli.screen import is_terminal, show_rows, suggest
from vrcli.db.location import Location
from vrcli.report.study.blocks import Rows
from vrcli.report.tables.runs import LEAST, LEFT, best_places, list_rows
from vrcli.results.flat import as_json
from vrcli.results.known import known_of
from vrcli.study.naming import command_of

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.results.types import Known

#: Letters of a command in a list.
LONGEST = 60

app = noun("List, show, compare, export and repeat stored runs.")


@app.command("list")
@unpacked
def list_runs(
    asked: filters.Beside,
    limit: int = typer.Option(50, "--limit", "-n", min=1, max=2**31 - 1, help="at most this many, newest first"),
    database: Location = req.DB,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """List stored runs, newest first. Under settings stand lr, what a search chose, and what differs between them."""
    req.check_format(format)
    with req.open_existing(database) as store:
        found = asked.select(store, limit=limit + 1)
        known = known_of(store, (run.task for run in found))
    more, found = len(found) > limit, found[:limit]
    if format == "json":
        print(json.dumps([as_json(record) for record in found]))
        return
    if not found:
        say(f"no runs are {asked.status}" if asked.status else "no runs yet; start with: vr run cnn --opt vradam")
        return
    show_rows(table(found, known))
    if more:
        notice(f"the newest {limit}; --limit shows more")
    first = (f"vr runs show {found[0].id}", "curves, all settings, and the command that repeats it")
    suggest(first, ("vr report", "the runs as a table of optimizers"), database=database)


def table(runs: Sequence[RunRecord], known: Known) -> Rows:
    """A row for each run."""
    rows = list_rows(by_commands(runs), known, rounded=is_terminal())
    right = [name for name in rows[0] if name not in LEFT]
    best = {"best val": best_places(runs, known)}
    return Rows(list(rows[0]), rows, right, ["settings"], LEAST, best, "best of its task, data and preset")


def by_commands(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The same runs, those of commands told apart by the commands, and not by a digest of each."""
    commands = {run.id: command_of(run.provenance.get("task", "")) for run in runs}
    named = dict(zip(texts := sorted({*commands.values()}), shortened(texts), strict=True))
    code: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        code[commands[run.id]].add(run.spec.get("code", {}).get("task", ""))
    return [_by_command(run, named[text], len(code[text]) > 1) if (text := commands[run.id]) else run for run in runs]


def _by_command(run: RunRecord, command: str, edited: bool) -> RunRecord:
    """A run whose settings name its command; what tells runs before and after an edit of a script apart stays."""
    own = {name: text for name, text in run.spec["code"].items() if name != "task" or edited}
    return replace(run, spec_json=json.dumps({"command": shlex.quote(command), **run.spec, "code": own}))


def shortened(texts: Sequence[str]) -> list[str]:
    """Lines without the middle of long ones; whole where that would make several alike."""
    half = LONGEST // 2
    found = [text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}" for text in texts]
    return found if len({*found}) == len({*texts}) else list(texts)


app.command("show")(runs_show.show)
app.command("diff")(runs_diff.diff)
app.command("export")(runs_export.export)
app.command("path")(runs_slices.path)
app.command("plane")(runs_slices.plane)
app.command("rerun")(runs_manage.rerun)
app.command("resume")(runs_manage.resume)
app.command("retry")(runs_manage.retry)
app.command("tag")(runs_manage.tag)
app.command("rm")(runs_manage.rm)
