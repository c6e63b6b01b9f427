"""What the functions of the API have in common: a command in the place of a task, and whoever watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from vrcli.errors import UsageError

if TYPE_CHECKING:
    from vrcli.study.events import Event


def commanded(task: Any, command: str | None, metric: str | None, opt: Any) -> tuple[Any, Any]:
    """Task and optimizers; of a command the task by which it is found, called `task` where that is a name.

    Raises:
        UsageError: the command cannot be one.
    """
    from vrcli.study.asked import listed

    if command is None:
        if metric is not None:
            raise UsageError("--metric needs --command; a task has its own objective")
        return task, opt
    from vrcli.record.command import optimizers_of, reference

    if task is not None and (not isinstance(task, str) or ":" in task):
        raise UsageError("--command takes a plain name before it, not a task class")
    return reference(command, metric, task), optimizers_of(command, listed(opt))


def follow(
    study: Callable[[Callable[[], bool]], Iterator[Event]],
    watch: Callable[[Any], object] | None,
    what: Literal["run", "sweep", "compare", "study"],
    metric: str | None = None,
) -> Any:
    """Carry out a study; without a watcher a person sees the progress, on stderr, where there is one."""
    from vrcli.study.follow import follow as carry_out

    if watch is not None or not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        return carry_out(study, watch or (lambda event: None))
    from vrcli.cli.watching import display_of
    from vrcli.cli.watching import watch as shown

    return shown(study, display_of(what, metric))
