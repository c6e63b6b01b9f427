"""The state of a run between two steps, as plain values and tensors that `torch.load(weights_only=True)` takes back.

What is derived from the seed at every step or epoch (the data order, the noise of a step) is not kept: its position is.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vrcli.engine.recorder import Recorder

State = dict[str, Any]

#: Of an optimizer whose state cannot be put back bit for bit; see `vrcli.optim.rows.CAPABILITIES`.
NO_RESUME = "no_resume"
#: What the loop counts.
_COUNTED = (
    "step", "samples", "evaluations", "gradient_evaluations", "hessian_products", "train_s", "optimizer_s", "used_up",
    "kept_files_of", "mode",
)  # fmt: skip


def capture(loop: Any, *, next_epoch: bool) -> State:
    """Everything that the steps to come depend on. Its tensors are the loop's own, which go on changing.

    Args:
        loop: a training loop of `vrcli.engine.loop` between two steps.
        next_epoch: the epoch is over and evaluated.
    """
    inside = loop.augment is not None and not next_epoch
    return {
        "place": [loop.epoch + 1, 0] if next_epoch else [loop.epoch, loop.batch],
        "counted": {name: getattr(loop, name) for name in _COUNTED},
        "wall_s": time.perf_counter() - loop.started,
        "model": dict(loop.p.model.state_dict()),
        "gradients": [p.grad for p in loop.parameters] if loop.training.accumulate_gradients else [],
        "optimizer": optimizer_state(loop.p.optimizer),
        "best": {**vars(loop.best), "values": dict(loop.best.values)},
        "before": dict(loop.before),
        "last": dict(loop.last),
        "losses": loop.recorder.losses,
        "probes": loop.probes.state,
        "augment": loop.augment.get_state() if inside else None,
        "generators": generators(loop.p.device),
    }


def restore(loop: Any, state: State) -> None:
    """Put back what `capture` gave, into a loop on what was prepared anew."""
    device = loop.p.device
    (loop.epoch, loop.batch), loop.wall_s, loop.last = state["place"], state["wall_s"], state["last"]
    for name, value in state["counted"].items():
        setattr(loop, name, value)
    loop.saved_step = loop.step
    loop.p.model.load_state_dict(state["model"])
    loop.p.model.train(loop.mode is not False)
    for p, gradient in zip(loop.parameters, state["gradients"], strict=False):
        p.grad = None if gradient is None else gradient.to(device)
    restore_optimizer(loop.p.optimizer, state["optimizer"])
    weights = {name: tensor.to(device) for name, tensor in state["best"]["weights"].items()}
    vars(loop.best).update({**state["best"], "weights": weights})
    loop.before = state.get("before", {})
    loop.recorder = Recorder(loop.step, state["losses"])
    loop.probes.state = state.get("probes", {})
    if state["augment"] is not None:
        loop.augment = torch.Generator(device=device)
        loop.augment.set_state(state["augment"])
    restore_generators(state["generators"], device)


def keepable(value: Any) -> bool:
    """Whether a value is made of what `torch.load(weights_only=True)` takes back, all the way down."""
    if isinstance(value, Mapping):
        return all(keepable(key) and keepable(one) for key, one in value.items())
    if type(value) in (list, tuple):
        return all(map(keepable, value))
    return value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str)


def optimizer_state(optimizer: torch.optim.Optimizer) -> State:
    """Its own `state_dict`, and what it counts beside that in plain attributes."""
    own = optimizer.state_dict()
    # What is not a plain value was given to the constructor, which is given it again.
    groups = [{name: value for name, value in group.items() if keepable(value)} for group in own["param_groups"]]
    return {"own": {**own, "param_groups": groups}, "beside": dict(_beside(optimizer))}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: State) -> None:
    own = state["own"]
    now = optimizer.state_dict()["param_groups"]
    groups = [{**fresh, **kept} for fresh, kept in zip(now, own["param_groups"], strict=True)]
    optimizer.load_state_dict({**own, "param_groups": groups})
    # torch brings what it loads to the parameters' precision: an average that was kept in another one goes back to it.
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, kept in own["state"].items():
        loaded = optimizer.state[parameters[index] if isinstance(index, int) else index]
        if isinstance(loaded, dict):
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


def generators(device: torch.device) -> State:
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
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, key, *rest = state["numpy"]
    np.random.set_state((kind, np.array(key, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
