"""`vr tasks new`: a package with one task, copied from a template that is itself a working task."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path

from vrcli.errors import UsageError
from vrcli.output import Folder

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "vr-task-{dashed}"
version = "0.1.0"
dependencies = ["vrcli"]

# vr finds the task by this entry point: `vr run {name}`.
[project.entry-points."vrcli.tasks"]
{name} = "{module}:{cls}"

[tool.setuptools]
py-modules = ["{module}"]
"""


def write_task(name: str, folder: Path, *, loop: bool = False) -> list[Path]:
    """Write `folder/pyproject.toml` and `folder/NAME_task.py`.

    Args:
        loop: of a task with a training loop of its own.
        name: the task's name: lower-case letters, digits and underscores.
        folder: made; must not hold anything.

    Returns:
        The files written.

    Raises:
        UsageError: the name cannot be one, is taken, or the folder is in use.
    """
    from vrcli.tasks.registry import names

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UsageError(f"{name!r} cannot name a task: use lower-case letters, digits and underscores")
    if name in names():
        raise UsageError(f"a task is called {name!r} already (vr tasks list)")
    cls = "".join(part.capitalize() for part in name.split("_"))
    template = (files(__package__) / ("loop_template.py" if loop else "task_template.py")).read_text()
    module = f"{name}_task"
    body = {
        "pyproject.toml": _PYPROJECT.format(name=name, dashed=name.replace("_", "-"), module=module, cls=cls),
        f"{module}.py": template.replace("Spirals", cls).replace("spirals", name),
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--folder {folder}: {error.strerror}") from None
    with Folder(folder, "--folder", kind="a new task").part() as part:
        part.mkdir()
        for file, text in body.items():
            (part / file).write_text(text, encoding="utf-8")
    return [folder / file for file in body]
