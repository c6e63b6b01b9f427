"""Objects of a loop that is not the engine's, as plain values and tensors that are read back without running code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vrcli.engine.checkpoint import keepable, optimizer_state, restore_optimizer
from vrcli.errors import UsageError


def captured(objects: Mapping[str, Any]) -> dict[str, Any]:
    """The state of each object: its `state_dict`, or itself where it is a plain value.

    Raises:
        UsageError: one cannot be written down.
    """
    found = {name: _captured(one) for name, one in objects.items()}
    for name, state in found.items():
        if not keepable(state):
            raise UsageError(f"save({name}=...): {type(objects[name]).__name__} has no state that can be read back")
    return found


def put_back(objects: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Put what `captured` gave into the same objects.

    Raises:
        UsageError: they are others, or do not take it.
    """
    wanted = {name for name, one in state.items() if not _is_plain(one)}
    if objects.keys() != wanted:
        names = ", ".join(sorted(wanted)) or "nothing with a state_dict"
        raise UsageError(f"restore got {', '.join(sorted(objects)) or 'nothing'}; save wrote {names}")
    for name, one in objects.items():
        try:
            if isinstance(one, torch.optim.Optimizer):
                restore_optimizer(one, state[name]["state"])
            else:
                one.load_state_dict(state[name]["state"])
        except (KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
            raise UsageError(f"restore({name}=...): {' '.join(str(error).split())}") from error


def plain_value(state: Mapping[str, Any] | None, name: str) -> Any:
    """A plain value among what `captured` gave.

    Raises:
        UsageError: there is none of that name.
    """
    if state is None:
        return None
    if name not in state or not _is_plain(state[name]):
        raise UsageError(f"restored({name!r}): no plain value was saved under that name")
    return state[name]["value"]


def _captured(one: Any) -> dict[str, Any]:
    if isinstance(one, torch.optim.Optimizer):
        return {"state": optimizer_state(one)}
    if callable(getattr(one, "state_dict", None)):
        return {"state": dict(one.state_dict())}
    return {"value": one}


def _is_plain(state: Mapping[str, Any]) -> bool:
    return "value" in state
