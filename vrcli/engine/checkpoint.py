"""The state of a run between two steps, as plain values and tensors that `torch.load(weights_only=True)` takes back.

What is derived from the seed at every step or epoch (the data order, the noise of a step) is not kept: its position is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

State = dict[str, Any]

#: Of an optimizer whose state cannot be put back bit for bit; see `vrcli.optim.rows.CAPABILITIES`.
NO_RESUME = "no_resume"


@dataclass(frozen=True)
class Every:
    """How often a run is written down; an orderly stop always is.

    Args:
        seconds: so long after the last time.
        steps: so many steps after the last time; comes before seconds.
    """

    seconds: float = 60.0
    steps: int | None = None

    def due(self, seconds: float, steps: int) -> bool:
        """Whether it is time, so long and so many steps after the last time."""
        return seconds >= self.seconds if self.steps is None else steps >= self.steps


def optimizer_state(optimizer: torch.optim.Optimizer) -> State:
    """What the optimizer has gathered: its own `state_dict`, and what it keeps beside that in plain attributes."""
    return {"own": optimizer.state_dict(), "beside": dict(_beside(optimizer))}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: State) -> None:
    """Put back what `optimizer_state` gave, with the numbers' own precision."""
    optimizer.load_state_dict(state["own"])
    # torch brings what it loads to the parameters' precision: an average that was kept in another one goes back to it.
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, kept in state["own"]["state"].items():
        loaded = optimizer.state[parameters[index]] if isinstance(index, int) else optimizer.state[index]
        loaded.update(_own_precision(loaded, kept))
    for name, value in state["beside"].items():
        setattr(optimizer, name, value)


def _own_precision(loaded: Mapping[str, Any], kept: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, value in kept.items():
        now = loaded.get(name)
        if isinstance(value, Tensor) and isinstance(now, Tensor) and now.dtype != value.dtype:
            yield name, value.to(now.device)


def _beside(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Any]]:
    """Numbers and texts that an optimizer counts in attributes of its own."""
    for name, value in vars(optimizer).items():
        if isinstance(value, bool | int | float | str) and not name.startswith("_optimizer_"):
            yield name, value


def global_generators(device: torch.device) -> State:
    """Where the generators of Python, numpy, torch and the device are."""
    version, numbers, gauss = random.getstate()
    kind, key, position, has_gauss, cached = np.random.get_state()
    found: State = {
        "python": [version, list(numbers), gauss],
        "numpy": [str(kind), np.asarray(key).tolist(), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def restore_generators(state: State, device: torch.device) -> None:
    """Put back what `global_generators` gave."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, key, *rest = state["numpy"]
    np.random.set_state((kind, np.array(key, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
