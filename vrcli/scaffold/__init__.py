"""`vr tasks new`: a package with one task, copied from a template that is itself a working task."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path

from vrcli.errors import UsageError

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


def write_task(name: str, folder: Path) -> list[Path]:
    """Write `folder/pyproject.toml` and `folder/NAME_task.py`.

    Args:
        name: the task's name: lower-case letters, digits and underscores.
        folder: made; must not hold anything.

    Returns:
        The files written.

    Raises:
        UsageError: the name cannot be one, is taken, or the folder is in use.
    """
    from tasks.registry import names

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UsageError(f"{name!r} cannot name a task: use lower-case letters, digits and underscores")
    if name in names():
        raise UsageError(f"a task is called {name!r} already (vr tasks list)")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already and not an empty folder")
    cls = "".join(part.capitalize() for part in name.split("_"))
    template = (files(__package__) / "task_template.py").read_text()
    module = f"{name}_task"
    body = {
        folder / "pyproject.toml": _PYPROJECT.format(name=name, dashed=name.replace("_", "-"), module=module, cls=cls),
        folder / f"{module}.py": template.replace("Spirals", cls).replace("spirals", name),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in body.items():
            path.write_text(text)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from None
    return list(body)
