"""All commands of `vr` with their parameters, read from the tree that typer makes the command line of."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from vrcli.cli.lazy import COMMANDS

#: Paths that are read, and where runs leave what they go on from.
INPUTS = ("config", "data_dir", "checkpoint_dir")
#: What stands for an argument that a command cannot do without.
NEEDED = {"ref": "1", "name": "mine"}


@dataclass(frozen=True)
class Place:
    """A parameter that names what a command writes.

    Args:
        words: the command, with what it needs.
        flag: empty for an argument.
    """

    command: tuple[str, ...]
    words: tuple[str, ...]
    name: str
    flag: str
    forces: bool

    def __str__(self) -> str:
        return " ".join([*self.command, self.flag])

    def aimed(self, at: Path) -> list[str]:
        """The words of a call that writes there."""
        return [*self.words, *filter(None, [self.flag]), str(at)]


def commands() -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every command's words and parameters."""
    for name in COMMANDS:
        group: typer.Typer = importlib.import_module(f"vrcli.cli.{name}").app
        for command in group.registered_commands:
            assert command.name
            assert command.callback
            words = (name,) if command.name == name else (name, command.name)
            yield words, dict(inspect.signature(command.callback, eval_str=True).parameters)


def places() -> Iterator[Place]:
    """Every parameter that is a path and not read from."""
    for command, parameters in commands():
        found = [p for p in parameters.values() if p.annotation in (Path, Path | None) and p.name not in INPUTS]
        assert found or "output" not in parameters, f"{' '.join(command)}: --output is not a Path"
        needed = [p.name for p in parameters.values() if p.default.default is ... and p not in found] if found else []
        for one in found:
            flag = "" if isinstance(one.default, typer.models.ArgumentInfo) else one.default.param_decls[0]
            words = (*command, *(NEEDED[name] for name in needed))
            yield Place(command, words, one.name, flag, "force" in parameters)
