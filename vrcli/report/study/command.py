"""A trial's settings as a command to copy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vrcli.study.confirm import fresh_seeds
from vrcli.study.naming import words_of

if TYPE_CHECKING:
    from vrcli.search.definition import Definition


def run_command(definition: Definition, params: Mapping[str, Any]) -> str:
    """The `vr run` that trains with a trial's settings, on a seed that did not choose them."""
    words = ["vr", "run", *words_of(definition.task, definition.optimizer)]
    if definition.preset != "quick":
        words += ["--preset", definition.preset]
    words += ["--seed", str(fresh_seeds(definition.seeds, 1)[0])]
    return shlex.join([*words, *options({**definition.explicit, **params})])


def options(values: Mapping[str, Any]) -> list[str]:
    """Settings as they are typed."""
    words = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list | tuple):
            words += [f"--{flag}", ",".join(map(str, value))]
        else:
            words += [f"--{flag}", "none" if value is None else str(value)]
    return words
