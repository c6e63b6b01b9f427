"""Which stored runs a command is about: the options that select runs, the same for every command."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated

import typer

from vrcli.cli.console import notice
from vrcli.cli.options import Bundle
from vrcli.execute.lookup import registered
from vrcli.results import filter

TASKS = typer.Argument(None, metavar="TASK", help="only these tasks", show_default=False)
TASK = typer.Option([], "--task", metavar="NAME", help="only this task; repeat for several")
OPT = typer.Option([], "--opt", metavar="NAME", help="only this optimizer; repeat for several")
PRESET = typer.Option(None, "--preset", metavar="NAME", help="only this preset", show_default=False)
TAG = typer.Option(None, "--tag", metavar="WORD", help="only runs with this tag", show_default=False)
GROUP = typer.Option(None, "--group", metavar="NAME", help="only runs of this group", show_default=False)
SWEEP = typer.Option([], "--sweep", metavar="SWEEP", help="only runs of this sweep (number or name); repeatable")
WHERE = typer.Option([], "--where", metavar="CONDITIONS", help="only runs like this: 'dataset=cifar10 lr>1e-3'")
SINCE = typer.Option(None, "--since", metavar="TIME", help="only runs since: 2026-11-20, 12h, 7d", show_default=False)
STATUS = typer.Option(
    None, "--status", metavar="STATUS", help="running, completed, diverged, failed or interrupted", show_default=False
)


@dataclass(frozen=True)
class Filter(filter.Filter, Bundle):
    """What was asked for on the command line."""

    tasks: Annotated[list[str], TASKS] = field(default_factory=list)
    opts: Annotated[list[str], OPT] = field(default_factory=list)
    preset: Annotated[str | None, PRESET] = None
    tag: Annotated[str | None, TAG] = None
    group: Annotated[str | None, GROUP] = None
    sweeps: Annotated[list[str], SWEEP] = field(default_factory=list)
    where: Annotated[list[str], WHERE] = field(default_factory=list)
    since: Annotated[str | None, SINCE] = None
    status: Annotated[str | None, STATUS] = None
    registered: Callable[[str], Iterable[str]] = registered

    def say(self, text: str) -> None:
        """A notice."""
        notice(text)


@dataclass(frozen=True)
class Beside(Filter):
    """The same beside runs that are named: tasks are an option."""

    tasks: Annotated[list[str], TASK] = field(default_factory=list)
