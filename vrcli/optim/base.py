"""What the optimizers of this package share: how a state comes back after loading, and the moments of Adam."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

#: Parameters, gradients, first moments, second moments and step counts of the tensors that take part, in one order.
Rows: TypeAlias = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]


class OwnOptimizer(Optimizer):
    """A `torch.optim.Optimizer` whose `state_dict` is the same before and after a round trip."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up a state; a group saved before a setting existed gets that setting's default."""
        super().__setstate__(state)
        # torch adds this default to every optimizer it restores; one without that setting would hand it to its groups
        self.defaults.pop("differentiable", None)
        for group in self.param_groups:
            for key, value in self.defaults.items():
                group.setdefault(key, value)


class MomentsOptimizer(OwnOptimizer):
    """Two moments and a step count per parameter, and groups with a setting `foreach`: a subclass updates the rows.

    State per parameter: `exp_avg` and `exp_avg_sq` like the parameter, `step` ().
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure returns.

        Raises:
            RuntimeError: a gradient is sparse or complex.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for rows in self._gather(group):
                on_cpu = rows[0][0].device.type == "cpu"
                self._update(rows, group, foreach=not on_cpu if group["foreach"] is None else group["foreach"])
        return loss

    @abstractmethod
    def _update(self, rows: Rows, group: dict[str, Any], *, foreach: bool) -> None:
        """Update parameters and moments in place."""

    def _gather(self, group: dict[str, Any]) -> Sequence[Rows]:
        """The group's tensors with a gradient, by device and dtype; their step counts advanced."""
        by_kind: dict[tuple[torch.device, torch.dtype], Rows] = {}
        for p in group["params"]:
            if p.grad is None:
                continue
            if p.grad.layout is not torch.strided or p.is_complex():
                raise RuntimeError(f"{type(self).__name__} does not support sparse gradients or complex parameters")
            state = self.state[p]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            state["step"] += 1
            rows = by_kind.setdefault((p.device, p.dtype), ([], [], [], [], []))
            for row, tensor in zip(
                rows, (p, p.grad, state["exp_avg"], state["exp_avg_sq"], state["step"]), strict=True
            ):
                row.append(tensor)
        return list(by_kind.values())
