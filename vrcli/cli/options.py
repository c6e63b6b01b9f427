"""Bundles of options: in a command's signature one type stands for all of its options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

B = TypeVar("B", bound="Bundle")


@dataclass(frozen=True)
class Bundle:
    """A dataclass whose fields are options: `name: Annotated[TYPE, typer.Option(...)]`; other fields are none."""

    @classmethod
    def parameters(cls, only: Collection[str] | None = None) -> Iterator[inspect.Parameter]:
        """The parameters that typer makes options of, in order.

        Args:
            only: of these fields; of all by default.
        """
        hints = get_type_hints(cls, include_extras=True)
        for field in fields(cls):
            hint = hints[field.name]
            if get_origin(hint) is Annotated and (only is None or field.name in only):
                kind, way = get_args(hint)
                yield parameter(field.name, way, kind)

    @classmethod
    def taken(cls: type[B], given: dict[str, Any], only: Collection[str] | None = None) -> B:
        """The bundle of a call's values, which are taken out of it."""
        names = [one.name for one in cls.parameters(only)]
        return cls(**{name: value for name in names if (value := given.pop(name)) is not None})


def parameter(name: str, way: Any, kind: Any) -> inspect.Parameter:
    """A parameter that typer makes an option of."""
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=way, annotation=kind)


def unpacked(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of its bundles, in the place of its parameters of such types."""
    parameters: list[inspect.Parameter] = []
    bundles: dict[str, type[Bundle]] = {}
    for one in inspect.signature(command, eval_str=True).parameters.values():
        if inspect.isclass(one.annotation) and issubclass(one.annotation, Bundle):
            bundles[one.name] = one.annotation
            parameters += one.annotation.parameters()
        else:
            parameters.append(one)

    @functools.wraps(command)
    def called(**given: Any) -> None:
        made = {name: bundle.taken(given) for name, bundle in bundles.items()}
        command(**made, **given)

    return declared(called, parameters)


def declared(called: Callable[..., None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    """A function that says it has these parameters: what typer reads to know what a command takes."""
    vars(called)["__signature__"] = inspect.Signature(parameters)
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called
