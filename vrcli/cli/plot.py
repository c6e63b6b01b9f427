"""`vr plot`: figures of what was stored, as files, windows, numbers or text.

Each figure declares its options; the commands are made of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import request as req
from vrcli.cli.filters import OPTIONS, Filter
from vrcli.cli.lazy import noun
from vrcli.cli.plot_output import Output
from vrcli.db.location import Location

if TYPE_CHECKING:
    from vrcli.report.figures.base import Figure, Option

#: Where the figure goes and what it is made from: name, option and type of the parameters that every command has.
SHARED: dict[str, tuple[Any, Any]] = {
    "output": (
        typer.Option(None, "--output", "-o", metavar="FILE", help="write FILE.png, .svg or .pdf", show_default=False),
        Path | None,
    ),
    "data": (
        typer.Option(
            None, "--data", metavar="FILE", help="write the numbers behind it as FILE.csv", show_default=False
        ),
        Path | None,
    ),
    "show": (typer.Option(False, "--show", help="open it in a window or the system's viewer"), bool),
    "force": (req.FORCE, bool),
    "database": (req.DB, Location),
    "debug": (req.DEBUG, bool),
}


def figures() -> typer.Typer:
    """A command for each figure."""
    from vrcli.report.figures import NAMES, load

    made = noun("Draw curves, sweeps and comparisons.")
    for name in NAMES:
        made.command(name)(command_of(load(name)))
    return made


def command_of(figure: type[Figure]) -> Callable[..., None]:
    """The function that typer makes a command of."""
    parameters = list(_parameters(figure))
    several = [one.name for one in parameters if one.annotation == list[str]]

    def called(**given: Any) -> None:
        chosen = {field: given.pop(OPTIONS[field][0]) for field in figure.selects}
        figure_file, data, show, force, database, _ = (given.pop(name) for name in SHARED)
        output = Output(figure_file, data, show, force, database)
        own = {name: tuple(value or ()) if name in several else value for name, value in given.items()}
        _draw(figure(**own), Filter(**{**chosen, "tasks": chosen.get("tasks") or ()}), output)

    # What typer reads to know what a command takes.
    vars(called)["__signature__"] = inspect.Signature(parameters)
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    called.__doc__ = figure.__doc__
    return called


def _parameters(figure: type[Figure]) -> Iterator[inspect.Parameter]:
    """First what says which runs, then what the figure is to show, then where it goes."""

    def parameter(name: str, way: Any, kind: Any) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=way, annotation=kind)

    options = figure.options()
    own = {name: parameter(name, *_typed(*about)) for name, about in options.items()}
    first = [name for name, (_, option, _) in options.items() if not option.flag or option.selects]
    yield from (own.pop(name) for name in first)
    yield from (parameter(*OPTIONS[field]) for field in figure.selects)
    yield from own.values()
    yield from (parameter(name, *way) for name, way in SHARED.items())


def _typed(kind: Any, option: Option, default: Any) -> tuple[Any, Any]:
    """An option as typer has it, and the type of its value."""
    if kind == tuple[str, ...]:
        kind, default = list[str], [] if option.flag else None
    about: dict[str, Any] = {"metavar": option.metavar, "help": option.help, "show_default": default is not None}
    return typer.Option(default, option.flag, **about) if option.flag else typer.Argument(default, **about), kind


def _draw(figure: Figure, chosen: Filter, output: Output) -> None:
    """Make the figure and bring it where it was asked for."""
    output.check()
    figure.check()
    from vrcli.cli.console import notice
    from vrcli.cli.report_table import declared
    from vrcli.cli.request import open_existing
    from vrcli.results.lines import Reader

    notes: list[str] = []
    with open_existing(output.database) as store:
        try:
            drawn = figure.make(Reader(store, chosen, declared), notes)
        finally:
            for note in notes:
                notice(note)
        if drawn is not None:
            output.deliver(drawn)


app = figures()
