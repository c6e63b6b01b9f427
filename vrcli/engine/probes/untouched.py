"""A run as it was: what a measurement does to it is undone, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vrcli.engine import checkpoint
from vrcli.engine.prepare import Prepared


@contextmanager
def untouched(prepared: Prepared, generators: Sequence[torch.Generator | None] = ()) -> Iterator[None]:
    """Put back whatever is done inside to the model, the optimizer, the task and every generator.

    Args:
        generators: of the loop's own.
    """
    around = checkpoint.generators(prepared.device)
    found = [one for one in (*generators, *vars(prepared.task).values()) if isinstance(one, torch.Generator)]
    states = [(one, one.get_state()) for one in found]
    gradients = [(p, p.grad) for p in prepared.model.parameters()]
    optimizer, clones = prepared.optimizer, dict[int, tuple[Tensor, Tensor]]()
    kept = [_Kept(vars(one), clones) for one in prepared.model.modules()]
    kept += [_Kept(one, clones) for one in (optimizer.state, optimizer.param_groups, vars(optimizer))]
    attributes = dict(vars(prepared.task))  # its tensors are data, which may be large
    for p, _ in gradients:
        p.grad = None
    try:
        yield
    finally:
        for one in kept:
            one.put_back()
        for tensor, value in clones.values():
            tensor.detach().copy_(value)
        vars(prepared.task).clear()
        vars(prepared.task).update(attributes)
        for p, gradient in gradients:
            p.grad = gradient
        for one_generator, state in states:
            one_generator.set_state(state)
        checkpoint.restore_generators(around, prepared.device)


class _Kept:
    """What a dictionary or a list held, and those within it.

    Args:
        clones: gets the tensors that it held, with their values.
    """

    def __init__(self, held: Any, clones: dict[int, tuple[Tensor, Tensor]]) -> None:
        self.held = held
        self.entries = dict(held) if isinstance(held, dict) else list(held)
        values = list(held.values() if isinstance(held, dict) else held)
        for one in values:
            if isinstance(one, Tensor) and id(one) not in clones:
                clones[id(one)] = (one, one.detach().clone())
        self.inner = [_Kept(one, clones) for one in values if type(one) in (dict, list)]

    def put_back(self) -> None:
        self.held.clear()
        if isinstance(self.held, dict):
            self.held.update(self.entries)
        else:
            self.held.extend(self.entries)
        for inner in self.inner:
            inner.put_back()
