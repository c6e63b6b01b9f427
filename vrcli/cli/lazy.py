"""Commands whose module is imported when they are called, or their own help is asked for.

The list of commands, their one-line helps and completion are answered from a table, so that a command's module may
import at its top what the command needs.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import typer
from typer.core import TyperGroup

#: The base class of the parser's errors, by way of one that typer exports: which module has it depends on the version.
ParserError: Any = typer.BadParameter.__mro__[2]
#: By command: the first paragraph of its help. Its module is called like it and has its `app`.
COMMANDS: Mapping[str, str] = {
    "run": "Train a task with an optimizer, and store the run.",
    "sweep": "Search settings; every optimizer gets the same budget.",
    "compare": "Tune optimizers alike, and say which can be called better.",
    "study": "Run a whole experiment that a file describes.",
    "report": "Print a table of stored results, task by optimizer.",
    "plot": "Draw curves, sweeps and comparisons.",
    "runs": "List, show, compare, export and repeat stored runs.",
    "sweeps": "List, show, resume, stop and export sweeps.",
    "tasks": "List and show tasks.",
    "opts": "List, show and check optimizers.",
    "probes": "List, show and check probes.",
    "db": "Look after the database.",
    "bench": "Measure speed, side by side.",
}


class LazyGroup(TyperGroup):
    """The commands of the table, as stubs until one of them is chosen."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name and name in COMMANDS:
            command = load(name, completing=ctx.resilient_parsing)
        return name, command, rest


def load(name: str, *, completing: bool = False) -> Any:
    """The command called `name`, of its module.

    Args:
        completing: for a shell, with what completes values.
    """
    from vrcli.cli.waiting import waiting

    with nullcontext() if completing else waiting("starting"), uncollected():
        app = importlib.import_module(f"vrcli.cli.{name}").app
        if completing:
            importlib.import_module("vrcli.cli.completion").complete_values(app, name)
        return typer.main.get_command(app)


@contextmanager
def uncollected() -> Iterator[None]:
    """While inside, imports are not searched for garbage, and what they made is not searched later.

    The modules of torch are a million objects that stay: one search among them costs as much as many a command.
    """
    before = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
            atexit.register(gc.unfreeze)  # some libraries report on stderr what was not collected at the end
        gc.enable()


def add_stubs(app: typer.Typer) -> None:
    """Give an app the commands of the table."""

    def stub() -> None: ...

    for name, text in COMMANDS.items():
        app.command(name, help=text)(stub)


def noun(text: str) -> typer.Typer:
    """An app for the commands about one thing."""
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, add_completion=False)


def verb(command: Callable[..., None], cls: Any = None) -> typer.Typer:
    """An app that is one command, called like its function."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command(command.__name__, cls=cls)(command)
    return app
