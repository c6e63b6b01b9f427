"""`vr plot`: figures of what was stored, as files, windows, numbers or text.

Each figure declares its options; the commands are made of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import typer

from vrcli.cli import request as req
from vrcli.cli.console import notice
from vrcli.cli.filters import Filter
from vrcli.cli.lazy import noun
from vrcli.cli.options import declared, parameter
from vrcli.cli.plot_output import Output
from vrcli.cli.waiting import waiting
from vrcli.report.figures import NAMES, load
from vrcli.report.figures.base import Computed, Figure, Option
from vrcli.results.lines import Reader


def command_of(figure: type[Figure]) -> Callable[..., None]:
    """The function that typer makes a command of."""

    def called(**given: Any) -> None:
        given.pop("debug")
        chosen, output = Filter.taken(given, figure.selects), Output.taken(given, _goes(figure))
        several = {name: tuple(given[name] or ()) for name in given if isinstance(given[name], list)}
        draw(figure(**{name: value for name, value in given.items() if value is not None} | several), chosen, output)

    called.__doc__ = figure.__doc__
    return declared(called, list(_parameters(figure)))


def _parameters(figure: type[Figure]) -> Iterator[inspect.Parameter]:
    """First what says which runs, then what the figure is to show, then where it goes."""

    options = figure.options()
    own = {name: parameter(name, *_typed(*about)) for name, about in options.items()}
    first = [name for name, (_, option, _) in options.items() if not option.flag or option.selects]
    yield from (own.pop(name) for name in first)
    yield from Filter.parameters(figure.selects)
    yield from own.values()
    yield from Output.parameters(_goes(figure))
    yield parameter("debug", req.DEBUG, bool)


def _goes(figure: type[Figure]) -> list[str]:
    """What says where a figure goes; one that reads no runs has no database."""
    names = [one.name for one in Output.parameters()]
    return [name for name in names if name != "database"] if issubclass(figure, Computed) else names


def _typed(kind: Any, option: Option, default: Any) -> tuple[Any, Any]:
    """An option as typer has it, and the type of its value."""
    if kind == tuple[str, ...]:
        kind, default = list[str], [] if option.flag else None
    about: dict[str, Any] = {"metavar": option.metavar, "help": option.help, "show_default": default is not None}
    return typer.Option(default, option.flag, **about) if option.flag else typer.Argument(default, **about), kind


def draw(figure: Figure, chosen: Filter, output: Output) -> None:
    """Make the figure and bring it where it was asked for."""
    output.check()
    figure.check()
    if isinstance(figure, Computed):
        with waiting("computing"):
            computed = figure.compute()
        return output.deliver(computed)
    notes: list[str] = []
    with req.open_existing(output.database) as store:
        try:
            with waiting("reading curves"):
                drawn = figure.make(Reader(store, chosen), notes)
        finally:
            for note in notes:
                notice(note)
        if drawn is not None:
            output.deliver(drawn)


app = noun("Draw curves, sweeps and comparisons.")
for name in NAMES:
    app.command(name)(command_of(load(name)))
