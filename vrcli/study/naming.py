"""How a command line names a task and its optimizer, and how people read the task's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vrcli.execute.lookup import task_names, task_of
from vrcli.variants import base_of

_COMMANDS = "vrcli.record.command:"


def is_command(task: str) -> bool:
    """Whether a task, as a search knows it, is a command."""
    return task.startswith(_COMMANDS)


def command_of(task: str) -> str:
    """The command that a task is, as a search or a run knows it; empty where it is none."""
    return str(getattr(task_of(task), "command", "")) if is_command(task) else ""


def words_of(task: str, optimizer: str) -> list[str]:
    """The words after `vr run` that name a task, as a search knows it, and an optimizer."""
    if is_command(task):
        return words_of_command(task_of(task), optimizer)
    return [task, "--opt", base_of(optimizer)]


def words_of_command(task: Any, optimizer: str) -> list[str]:
    """The same of the task of a command."""
    objective = task.metrics[0]
    opt = ["--opt", base_of(optimizer)] if takes_optimizer(task) else []
    return [task.name, "--command", task.command, "--metric", f"{objective.name}:{objective.direction}", *opt]


def words_of_run(task: Any, reference: str, optimizer: str) -> list[str]:
    """The same of a run's task.

    Args:
        reference: of its class, "module:Class".
    """
    if hasattr(task, "command"):
        return words_of_command(task, optimizer)
    name = task.name if task.name in task_names() and task_of(task.name) is task else reference
    return [name, "--opt", base_of(optimizer)]


def takes_optimizer(task: Any) -> bool:
    """Whether the task can be trained with one optimizer or another; a command without `{opt}` cannot."""
    return not hasattr(task, "command") or "opt" in task.placeholders()


def by_command(spec: Mapping[str, Any]) -> bool:
    """Whether the run was one of a command (`--command`), which has a loop of its own."""
    return bool(spec.get("training", {}).get("until") == "commands:1")


def usual_dataset(task: Any, preset: str | None) -> str:
    """What a task trains on where nobody says."""
    own = task.presets[preset].settings if preset in task.presets else {}
    return str(own["dataset"].value if "dataset" in own else task.Config.model_fields["dataset"].default)


def shown(task: str) -> str:
    """The name of a task, as a search knows it, for people."""
    return task_of(task).name if is_command(task) else task
