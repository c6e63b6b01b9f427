"""What the names in a request stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
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
