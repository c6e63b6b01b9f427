"""What the names in a request stand for, and by which name a class is known."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from vrcli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vrcli.tasks.base import Metric, Task
    from vrcli.tasks.space import Space

    TaskClass: TypeAlias = type[Task[Any]]
    TaskMetric: TypeAlias = Metric


def task_of(name: str) -> TaskClass:
    """The class of that name.

    Raises:
        UnknownTask: there is none; the nearest name is in the message.
    """
    from vrcli.tasks.registry import load

    return load(name)


def space_of(optimizer: str) -> Space:
    """What an optimizer's search varies unless a task says otherwise."""
    from vrcli.optim import registry

    return registry.find(optimizer).space


def registered(what: str) -> list[str]:
    """Names of all "tasks" or "optimizers" that can be run here."""
    if what == "tasks":
        return task_names()
    from vrcli.optim.registry import names

    return list(names())


def task_names() -> list[str]:
    """Every registered task."""
    from vrcli.tasks.registry import names

    return names()


def headline_of(task: TaskClass) -> Sequence[TaskMetric]:
    """The metrics of a task that tables show, the objective first."""
    from vrcli.tasks.base import headline

    return headline(task.metrics)


def device_of(name: str) -> str:
    """The device behind --device.

    Raises:
        UsageError: it is not there.
    """
    from vrcli.engine.prepare import pick_device

    return pick_device(name)


# -- classes ----------------------------------------------------------------------------------------------------------


def task_name(task: str | TaskClass) -> str:
    """The name of a task; a class is known by where it is defined, as "module:Class".

    Raises:
        UsageError: it is neither a name nor a task, or other processes could not import it.
    """
    if isinstance(task, str):
        return task
    from vrcli.tasks.base import Task
    from vrcli.tasks.registry import reference, targets

    if not (isinstance(task, type) and issubclass(task, Task)):
        raise UsageError(f"task must be a name or a class made from vrcli.tasks.base.Task, got {task!r}")
    name = reference(task)
    return name if name in targets() else _importable("task", task)


def optimizer_name(optimizer: Any) -> str:
    """The name of an optimizer; one of vr's or torch's own has the name it is listed by, any other is "module:Class".

    Raises:
        UsageError: it is neither a name nor an optimizer, or other processes could not import it.
    """
    if isinstance(optimizer, str):
        return optimizer
    from torch.optim import Optimizer

    from vrcli.importing import installed
    from vrcli.optim.rows import TORCH_ROWS, VR_ROWS

    if not (isinstance(optimizer, type) and issubclass(optimizer, Optimizer)):
        raise UsageError(f"opt must be a name or a class made from torch.optim.Optimizer, got {optimizer!r}")
    for row in (*VR_ROWS, *TORCH_ROWS):
        if row.target.endswith(f":{optimizer.__name__}") and installed(row.target) is optimizer:
            return row.name
    return _importable("opt", optimizer)


def _importable(word: str, found: type) -> str:
    """ "module:Class" of a class that every process finds there.

    Raises:
        UsageError: it would not.
    """
    module, name = found.__module__, found.__qualname__
    how = f"put the class into a file of its own and import it from there: {word} must be found by other processes"
    if module == "__main__":
        raise UsageError(f"{word} {name} is defined in the script or notebook itself; {how}")
    if "." in name:
        where = "inside a function" if "<locals>" in name else "inside another class"
        raise UsageError(f"{word} {name} is defined {where}; {how}")
    if getattr(sys.modules.get(module), name, None) is not found or not _findable(module):
        raise UsageError(f"{word} {module}.{name} cannot be imported from {module} again; {how}")
    return f"{module}:{name}"


def _findable(module: str) -> bool:
    """Whether a new process finds the module, or the package it is in."""
    top = module.partition(".")[0]
    if PathFinder.find_spec(top, [str(Path.cwd())]) is not None:
        return True
    return any(finder.find_spec(top, None) is not None for finder in sys.meta_path)


def curves_of(optimizer: str) -> Any:
    """The names of the curves that runs with a registered optimizer have of it; None where it does not say."""
    from vrcli.optim.registry import find

    return find(optimizer).curves
