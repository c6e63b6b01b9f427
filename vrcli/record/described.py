"""What is known of a run that a script trains: its optimizer, its settings, the script itself."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError
from vrcli.optim.rows import TORCH_ROWS, VR_ROWS
from vrcli.optim.zoo import ZOO_ROWS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Longest text of a setting that is kept as it is; longer ones are cut.
LONGEST = 500
#: The optimizer of a run that named none.
UNKNOWN = "unknown"


def optimizer_name(optimizer: torch.optim.Optimizer) -> str:
    """The registered name of an optimizer's class, or the class's own name in small letters."""
    found = type(optimizer)
    package = found.__module__.partition(".")[0]
    for row in (*VR_ROWS, *TORCH_ROWS, *ZOO_ROWS):
        home, _, name = row.target.partition(":")
        if name == found.__name__ and home.partition(".")[0] == package and not row.defaults:
            return row.name
    return found.__name__.lower()


def optimizer_settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The hyperparameters of an optimizer; where its groups differ, those of each under `groups`."""
    own = [
        {name: plain(value) for name, value in _of_group(group).items()}
        for group in optimizer.param_groups
    ]  # fmt: skip
    first = own[0]
    differ = sorted({name for group in own for name in group if group.get(name) != first.get(name)})
    if not differ:
        return first
    sizes = [sum(p.numel() for p in group["params"]) for group in optimizer.param_groups]
    groups = [
        {"parameters": size, **{name: group.get(name) for name in differ}}
        for size, group in zip(sizes, own, strict=True)
    ]
    return {**{name: value for name, value in first.items() if name not in differ}, "groups": groups}


def _of_group(group: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in group.items() if name not in ("params", "initial_lr")}
    if "initial_lr" in group:  # a schedule has taken its first step already
        values["lr"] = group["initial_lr"]
    return values


def plain(value: Any) -> Any:
    """A setting as a JSON value: numbers, texts, and lists and tables of them stay; anything else is its text."""
    if value is None or isinstance(value, bool | int | str):
        return value[:LONGEST] if isinstance(value, str) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if hasattr(value, "item") and getattr(value, "numel", lambda: 2)() == 1:  # a tensor of one number
        return plain(value.item())
    return str(value)[:LONGEST]


def script() -> dict[str, str]:
    """The identity of the script that runs: an edit of it begins another configuration. None in a notebook."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main is None or not Path(main).is_file():
        return {}
    return {"script": f"source {hashlib.blake2b(Path(main).read_bytes(), digest_size=8).hexdigest()}"}


def spec_of(
    task: str, dataset: str, optimizer: torch.optim.Optimizer | str | None, settings: Mapping[str, Any],
    optimizer_settings_given: Mapping[str, Any], seed: int | None,
) -> dict[str, Any]:  # fmt: skip
    """The configuration of a recorded run, as plain JSON values; a setting called `seed` is the run's seed.

    Raises:
        UsageError: a name is empty, or the seed is not a whole number.
    """
    if not task.strip():
        raise UsageError("vrcli.track: the task needs a name")
    settings = dict(settings)
    own = settings.pop("seed", None)
    seed = own if seed is None else seed
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise UsageError(f"vrcli.track: seed must be a whole number, got {seed!r}")
    if optimizer is None or isinstance(optimizer, str):
        name, values = optimizer or UNKNOWN, {}
    else:
        name, values = optimizer_name(optimizer), optimizer_settings(optimizer)
    values |= {name: plain(value) for name, value in optimizer_settings_given.items()}
    told = {name: plain(value) for name, value in settings.items()}
    return {
        "task": task,
        "dataset": dataset or None,
        "optimizer": name,
        "seed": seed,
        # What the optimizer says, too, stands there alone.
        "task_settings": {name: value for name, value in told.items() if (name, value) not in values.items()},
        "training": {"until": "scripts:1"},  # the script says where it ends
        "optimizer_settings": values,
        "code": script(),
    }


def parameters_of(optimizer: Any) -> list[Tensor]:
    """What an optimizer trains; nothing where it is a name."""
    if optimizer is None or isinstance(optimizer, str):
        return []
    return [p for group in optimizer.param_groups for p in group["params"]]
