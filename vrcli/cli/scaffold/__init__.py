"""`vr tasks new` and `vr probes new`: a package with one of them, copied from a template that itself works."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from vrcli.errors import UsageError
from vrcli.output import Folder

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "vr-{kind}-{dashed}"
version = "0.1.0"
dependencies = ["vrcli"]

# vr finds the {kind} by this entry point: `{command}`.
[project.entry-points."vrcli.{kind}s"]
{name} = "{module}:{cls}"

[tool.setuptools]
py-modules = ["{module}"]
"""


def address(kind: str, name: str) -> str:
    """What commands call a written task or probe in its folder, before it is installed: "rings_task:Rings"."""
    return f"{name}_{kind}:{''.join(part.capitalize() for part in name.split('_'))}"


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

    template = "loop_template.py" if loop else "task_template.py"
    return _write("task", name, folder, names(), template, "spirals", f"vr run {name}")


def write_probe(name: str, folder: Path) -> list[Path]:
    """The same for a probe, in `folder/NAME_probe.py`.

    Raises:
        UsageError: as `write_task`.
    """
    from vrcli.engine.probes.registry import names

    return _write("probe", name, folder, names(), "probe_template.py", "distance", f"vr run cnn --probe {name}")


def _write(
    kind: str, name: str, folder: Path, taken: Sequence[str], file: str, called: str, command: str
) -> list[Path]:  # fmt: skip
    """Write a package with the template's contents.

    Args:
        file: the template's.
        called: what the template's task or probe is called.
        command: that uses it.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UsageError(f"{name!r} cannot name a {kind}: use lower-case letters, digits and underscores")
    if name in taken:
        raise UsageError(f"a {kind} is called {name!r} already (vr {kind}s list)")
    module, _, cls = address(kind, name).partition(":")
    text = (files(__package__) / file).read_text().replace(called.capitalize(), cls).replace(called, name)
    body = {
        "pyproject.toml": _PYPROJECT.format(
            kind=kind, name=name, dashed=name.replace("_", "-"), module=module, cls=cls, command=command
        ),
        f"{module}.py": text,
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--folder {folder}: {error.strerror}") from None
    with Folder(folder, "--folder", kind=f"a new {kind}").part() as part:
        part.mkdir()
        for own, content in body.items():
            (part / own).write_text(content, encoding="utf-8")
    return [folder / own for own in body]
