"""Which tasks there are. A task that cannot be imported is listed with its error and never breaks the others."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.errors import first_line
from vrcli.importing import entry_points, in_working_directory, installed, why_not

if TYPE_CHECKING:  # torch comes with it, and listing names must not pay for that
    from vrcli.tasks.base import Task

ENTRY_POINT_GROUP = "vrcli.tasks"

#: How a file of this package defines a task: a class of a configuration, and the name in it.
_DEFINED = re.compile(r'^class (\w+)\(\w+\[.*?^    name = "(\w+)"', re.S | re.M)


class UnknownTask(Exception):
    """No task of that name, or the task cannot be imported. One line, with the nearest name."""

    exit_code = 2


@dataclass(frozen=True)
class Listing:
    """One line of `vr tasks list`.

    Args:
        target: "module:Class".
        origin: "vr", or the distribution that provides the entry point.
        task: the class, or None where it is unavailable.
        error: why it is unavailable, in one line.
    """

    name: str
    target: str
    origin: str
    task: type[Task[Any]] | None
    error: str = ""


@cache
def own() -> Mapping[str, str]:
    """Target by name of the tasks in this package; their files are read, not imported."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    found = [(path, _DEFINED.search(path.read_text(encoding="utf-8"))) for path in files]
    return {match[2]: f"{__package__}.{path.stem}:{match[1]}" for path, match in found if match}


@cache
def targets() -> Mapping[str, tuple[str, str]]:
    """(target, origin) by task name; imports no task.

    Raises:
        ValueError: an installed package registers a name that is taken.
    """
    found = {name: (target, "vr") for name, target in own().items()}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        origin = entry.dist.name if entry.dist else "entry point"
        if entry.name in found and found[entry.name] != (entry.value, origin):
            taken = found[entry.name][0]
            raise ValueError(f"two tasks are called {entry.name!r}: {taken} and {entry.value} ({origin})")
        found[entry.name] = (entry.value, origin)
    return found


def names() -> list[str]:
    """Every registered task's name, built-in ones first; imports none of them."""
    return list(targets())


def load(name: str) -> type[Task[Any]]:
    """The task class called `name`, or at "package.module:Class".

    Raises:
        UnknownTask: no such task, or its module cannot be imported.
    """
    if ":" in name:
        return _import(name, name, find=in_working_directory)
    if name not in targets():
        match = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
        hint = f"did you mean {match[0]}?" if match else f"tasks: {', '.join(names())}"
        raise UnknownTask(f"no task is called {name!r}; {hint} (vr tasks list)")
    return _import(name, targets()[name][0])


def reference(task: type[Task[Any]]) -> str:
    """What a command calls a class: the name it is registered by, or where it is defined, "module:Class"."""
    where = f"{task.__module__}:{task.__qualname__}"
    return next((name for name, (target, _) in targets().items() if target == where), where)


def is_built_in(task: type[Task[Any]]) -> bool:
    """Whether the class is one of vr's own tasks."""
    return f"{task.__module__}:{task.__qualname__}" in own().values()


def built_in(module: str) -> dict[str, type[Task[Any]]]:
    """vr's own tasks in a module, by name."""
    return {name: load(name) for name, target in own().items() if target.partition(":")[0] == module}


def _import(name: str, target: str, find: Callable[[str], Any] = installed) -> type[Task[Any]]:
    from vrcli.tasks.base import Task

    try:
        found = find(target)
    except Exception as error:  # whatever a plugin's import raises must not break the others
        why = first_line(error) if find is installed else why_not(target, error)
        raise UnknownTask(f"task {name!r} is unavailable: {why}") from error
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise UnknownTask(f"task {name!r} is unavailable: {target} is not a vrcli.tasks.base.Task")
    return found


def catalogue() -> list[Listing]:
    """Every registered task, imported; those that fail carry their error."""
    rows = []
    for name, (target, origin) in targets().items():
        try:
            rows.append(Listing(name, target, origin, load(name)))
        except UnknownTask as error:
            rows.append(Listing(name, target, origin, None, str(error).partition("unavailable: ")[2]))
    return rows
