"""The optimizer around line 6 of Algorithm 1: validation, state, gathering and telemetry of VRAdam and VRMomentum."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import StateDict

from vrcli.optim.base import OwnOptimizer
from vrcli.optim.fused import works
from vrcli.optim.velocity import CHUNK, Batch, Regularised

SCOPES = ("global", "group", "tensor")
Path = Literal["single", "foreach", "fused"]


class VelocityOptimizer(OwnOptimizer):
    """A subclass names its state and its kernel, and updates the batches it is given.

    Attributes:
        last_step: line 6 of the last step, one entry per parameter group, device and dtype that took part.
    """

    #: State tensors of a parameter, in its own layout, the velocity first.
    state_names: ClassVar[tuple[str, ...]]
    #: Whether a parameter's state counts its steps.
    counts_steps: ClassVar[bool]
    #: The function of `vrcli.optim.fused` that the fused path stands on.
    kernel: ClassVar[Callable[..., None]]

    last_step: list[Regularised]

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self._reset()
        super().__init__(params, defaults)

    def _reset(self) -> None:
        self.last_step = []
        self._last_power = 2.0
        self._scratch: dict[torch.dtype, Tensor] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As the base class, and one step count for all that agree."""
        super().__setstate__(state)
        self._reset()
        shared: dict[tuple[torch.device, float], Tensor] = {}
        for p, own in self.state.items():
            if "step" in own:
                count = float(own["step"])
                mark = (p.device, count)
                if mark not in shared:
                    shared[mark] = torch.full((), count, dtype=torch.float32, device=p.device)
                own["step"] = shared[mark]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, refusing bad values by name. See `torch.optim.Optimizer.add_param_group`."""
        settings = {**self.defaults, **param_group}
        validate(settings)
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            problem = self._refused(p, fused=bool(settings["fused"]))
            if problem:
                self.param_groups.pop()
                raise problem

    def _refused(self, p: Tensor, *, fused: bool) -> Exception | None:
        name = type(self).__name__
        if not p.is_floating_point():
            return TypeError(f"{name} takes real floating-point parameters, got {p.dtype}")
        if fused and not works(type(self).kernel, p.device.type, p.dtype):
            return RuntimeError(f"{name}: no fused kernel for {p.dtype} on {p.device.type}; leave fused unset")
        return None

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Load a copy of the state: two optimizers never share a buffer."""
        super().load_state_dict(copy.deepcopy(state_dict))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure returns.

        Raises:
            RuntimeError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        batches = self._gather()
        if batches:
            self.last_step = self._update(batches, self._path(batches))
            self._last_power = batches[0].group["power"]
        return loss

    @abstractmethod
    def _update(self, batches: Sequence[Batch], path: Path) -> list[Regularised]:
        """Update parameters and state in place."""

    def telemetry(self) -> dict[str, Tensor]:
        """`lr_effective`, `velocity_norm` and `gate` of the last step, 0-dim on the device, without synchronisation.

        Those of the first group. The norm is the gradient's where `normgrad` holds. With norm_scope "tensor" the rate
        and the gate are means over the tensors, and the norm is over all of them. Empty before the first step.
        """
        if not self.last_step:
            return {}
        power_sum, gate, lr = self.last_step[0]
        norm = power_sum.sum().pow(1 / self._last_power)
        return {"lr_effective": lr.mean(), "velocity_norm": norm, "gate": gate.mean()}

    def _gather(self) -> list[Batch]:
        """The tensors that take part, by group, device and dtype; their step counts advanced."""
        batches: list[Batch] = []
        newborn: dict[torch.device, Tensor] = {}
        idle: set[int] = set()
        for group in self.param_groups:
            by_kind: dict[tuple[torch.device, torch.dtype], Batch] = {}
            for p in group["params"]:
                grad = p.grad
                state = self.state[p] if grad is not None or p in self.state else None
                if grad is None:
                    if state and self.counts_steps:
                        idle.add(id(state["step"]))
                    continue
                if grad.layout is not torch.strided:
                    raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
                if not state:
                    state = self._init_state(p, newborn)
                kind = (p.device, p.dtype)
                if kind not in by_kind:
                    by_kind[kind] = Batch(group)
                by_kind[kind].add(p, grad, state, self.state_names)
            batches.extend(by_kind.values())
        if self.counts_steps:
            self._advance(batches, idle)
        return batches

    def _init_state(self, p: Tensor, newborn: dict[torch.device, Tensor]) -> dict[str, Any]:
        state: dict[str, Any] = self.state[p]
        if self.counts_steps:
            if p.device not in newborn:
                newborn[p.device] = torch.zeros((), dtype=torch.float32, device=p.device)
            state["step"] = newborn[p.device]
        for name in self.state_names:
            state[name] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return state

    def _advance(self, batches: Sequence[Batch], idle: set[int]) -> None:
        """Count this step. Parameters with equal counts share one tensor; those left out of this step part from it."""
        if idle:
            clones: dict[int, Tensor] = {}
            for batch in batches:
                for i, step in enumerate(batch.steps):
                    if id(step) in idle:
                        batch.steps[i] = self.state[batch.params[i]]["step"] = clones.setdefault(id(step), step.clone())
        for step in {id(step): step for batch in batches for step in batch.steps}.values():
            step.add_(1)

    def _path(self, batches: Sequence[Batch]) -> Path:
        """One way for the whole step, since the norm may run over all of it: the one asked for, or the fastest."""
        if torch.compiler.is_compiling():
            return "foreach"
        foreach = [batch.group["foreach"] for batch in batches]
        fused = [batch.group["fused"] for batch in batches]
        if all(fused):
            return "fused"
        if any(fused) or any(foreach):
            return "foreach"
        if False in foreach:
            return "single"
        if False not in fused and all(works(type(self).kernel, b.device.type, b.params[0].dtype) for b in batches):
            return "fused"
        return "single" if all(b.device.type == "cpu" for b in batches) else "foreach"

    def _scratch_for(self, batch: Batch) -> Tensor | None:
        """The persistent buffer for `coming_power_sums`; only CPU works chunk by chunk."""
        if batch.device.type != "cpu":
            return None
        dtype = batch.params[0].dtype
        if dtype not in self._scratch:
            self._scratch[dtype] = torch.empty(CHUNK, dtype=dtype)
        return self._scratch[dtype]


def validate(group: dict[str, Any]) -> None:
    """Refuse settings outside their range, naming the argument.

    Raises:
        ValueError: as said.
        RuntimeError: two implementations are asked for at once.
    """
    lr = group["lr"]
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError(f"a tensor lr must have one element, got {lr.numel()}")
        if lr.device.type == "cpu":
            lr = float(lr)
    if not isinstance(lr, Tensor) and not 0 <= lr < math.inf:
        raise ValueError(f"lr must be finite and >= 0, got {lr}")
    for name, value in (("betas", b) for b in group.get("betas", ())):
        if not 0 <= value < 1:
            raise ValueError(f"each of {name} must be in [0, 1), got {value}")
    if "momentum" in group and not 0 <= group["momentum"] < 1:
        raise ValueError(f"beta1 must be in [0, 1), got {group['momentum']}")
    for name in ("beta3", "eps", "weight_decay"):
        if name in group and not 0 <= group[name] < math.inf:
            raise ValueError(f"{name} must be finite and >= 0, got {group[name]}")
    if not 0 < group["power"] < math.inf:
        raise ValueError(f"power must be finite and > 0, got {group['power']}")
    if not group["lr_cutoff"] >= 0:
        raise ValueError(f"lr_cutoff must be >= 0, got {group['lr_cutoff']}")
    if group["norm_scope"] not in SCOPES:
        raise ValueError(f"norm_scope must be one of {', '.join(SCOPES)}, got {group['norm_scope']!r}")
    if group["fused"] and group["foreach"]:
        raise RuntimeError("fused and foreach cannot both be True")
