"""Which stored runs a command is about: the options that select runs, the same for every command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import typer

from vrcli.results import filter

TASKS = typer.Argument(None, metavar="TASK", help="only these tasks", show_default=False)
OPT = typer.Option([], "--opt", metavar="NAME", help="only this optimizer; repeat for several")
PRESET = typer.Option(None, "--preset", metavar="NAME", help="only this preset", show_default=False)
TAG = typer.Option(None, "--tag", metavar="WORD", help="only runs with this tag", show_default=False)
GROUP = typer.Option(None, "--group", metavar="NAME", help="only runs of this group", show_default=False)
SWEEP = typer.Option([], "--sweep", metavar="SWEEP", help="only runs of this sweep (number or name); repeatable")
WHERE = typer.Option([], "--where", metavar="CONDITIONS", help="only runs like this: 'dataset=cifar10 lr>1e-3'")
SINCE = typer.Option(None, "--since", metavar="TIME", help="only runs since: 2026-11-20, 12h, 7d", show_default=False)

#: By field of a filter: name, option and type of the parameter of a command.
OPTIONS: dict[str, tuple[str, Any, Any]] = {
    "tasks": ("tasks", TASKS, list[str]),
    "opts": ("opt", OPT, list[str]),
    "preset": ("preset", PRESET, str | None),
    "tag": ("tag", TAG, str | None),
    "group": ("group", GROUP, str | None),
    "sweeps": ("sweep", SWEEP, list[str]),
    "where": ("where", WHERE, list[str]),
    "since": ("since", SINCE, str | None),
}


class Filter(filter.Filter):
    """What was asked for on the command line."""

    def say(self, text: str) -> None:
        """A notice."""
        from vrcli.cli.console import notice

        notice(text)


def selecting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the task argument and the options above, in the place of its parameter `chosen: Filter`."""
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def called(**given: Any) -> None:
        asked = {field: given.pop(name) for field, (name, _, _) in OPTIONS.items()}
        command(chosen=Filter(**{**asked, "tasks": asked["tasks"] or ()}), **given)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    own = [inspect.Parameter(name, kind, default=way, annotation=what) for name, way, what in OPTIONS.values()]
    parameters = [new for old in signature.parameters.values() for new in (own if old.name == "chosen" else [old])]
    # What typer reads to know what a command takes.
    vars(called)["__signature__"] = signature.replace(parameters=parameters)
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called
