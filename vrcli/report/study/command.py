"""A trial's settings as a command to copy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vrcli.study.confirm import fresh_seeds

if TYPE_CHECKING:
    from vrcli.search.definition import Definition


def run_command(definition: Definition, params: Mapping[str, Any]) -> str:
    """The `vr run` that trains with a trial's settings, on a seed that did not choose them."""
    words = ["vr", "run", definition.task, "--opt", definition.optimizer]
    if definition.preset != "quick":
        words += ["--preset", definition.preset]
    words += ["--seed", str(fresh_seeds(definition.seeds, 1)[0])]
    for name, value in {**definition.explicit, **params}.items():
        words += _option(name, value)
    return shlex.join(words)


def _option(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, list | tuple):
        return [f"--{flag}", ",".join(map(str, value))]
    return [f"--{flag}", "none" if value is None else str(value)]
