"""VRMomentum: momentum whose learning rate falls with the squared norm of the velocity.

Source:      arXiv 2505.13196: Algorithm 1 without the second moment and the bias corrections, theta <- theta - eta v.
Deviations:  weight decay, which the paper leaves open here, is decoupled and uses the dynamic eta, as in Algorithm 1.
Shapes:      any real parameters; state per parameter: `velocity` like the parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from vrcli.optim.fused import fused_sgd
from vrcli.optim.rows import OWN_RANGE, VELOCITY_SPACE, Row
from vrcli.optim.velocity import (
    Batch,
    Regularised,
    advance_and_sum,
    multi_tensor_power_sums,
    regularise,
    single_tensor_power_sums,
)
from vrcli.optim.velocity_optimizer import Path, VelocityOptimizer
from vrcli.tasks.space import Real

ROW = Row(
    "vrmomentum",
    "vrcli.optim.vrmomentum:VRMomentum",
    "momentum whose learning rate falls with the squared norm of the velocity",
    "vr",
    {"lr": Real(1e-4, 1.0, log=True, origin=OWN_RANGE), **VELOCITY_SPACE},
    curves=("velocity_norm", "gate"),
)


class VRMomentum(VelocityOptimizer):
    """Velocity-regularised momentum.

    While the cutoff is inactive, the step lr_effective * ||v|| is at most lr / (2 sqrt(beta3)).

    Args:
        params: parameters or groups; every other argument may be set per group.
        lr: maximal learning rate, reached at zero velocity; a number or a tensor with one element.
        beta1: decay rate of the velocity, v <- beta1 v + (1 - beta1) g. A group holds it as `momentum`, the name that
            torch's schedulers cycle.
        beta3: velocity penalty.
        weight_decay: decoupled, multiplied with the effective learning rate.
        power: exponent of the norm, the sum of |v_i|^power.
        normgrad: penalise the norm of the gradient instead of that of the velocity.
        lr_cutoff: bounds the penalty: the learning rate never falls below lr / (1 + lr_cutoff).
        norm_scope: what the norm runs over: "global" everything, "group" a parameter group, "tensor" each tensor alone.
        maximize: maximise the objective instead of minimising it.
        foreach: work on lists of tensors; None chooses the fastest implementation.
        fused: update with torch's fused SGD kernel; None chooses the fastest implementation.
        capturable: accepted for torch's convention; every quantity of a step stays on the device in any case.

    Raises:
        ValueError: a value out of its range, naming the argument.
        TypeError: a parameter is complex or an integer.
    """

    state_names = ("velocity",)
    counts_steps = False
    kernel = fused_sgd

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        beta1: float = 0.9,
        beta3: float = 1.0,
        weight_decay: float = 1e-5,
        power: float = 2.0,
        normgrad: bool = False,
        lr_cutoff: float = 19.0,
        norm_scope: Literal["global", "group", "tensor"] = "global",
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": beta1,
            "beta3": beta3,
            "weight_decay": weight_decay,
            "power": power,
            "normgrad": normgrad,
            "lr_cutoff": lr_cutoff,
            "norm_scope": norm_scope,
            "maximize": maximize,
            "foreach": foreach,
            "fused": fused,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As the base class; states that call the decay rate beta1 are understood."""
        for settings in (state.get("defaults", {}), *state["param_groups"]):
            _rename(settings)
        super().__setstate__(state)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, whose decay rate may be called beta1 or momentum."""
        _rename(param_group)
        super().add_param_group(param_group)

    def _update(self, batches: Sequence[Batch], path: Path) -> list[Regularised]:
        if path == "fused":
            return _fused_vrmomentum(batches)
        if path == "foreach":
            return _multi_tensor_vrmomentum(batches)
        return _single_tensor_vrmomentum(batches)


def _rename(settings: dict[str, Any]) -> None:
    if "beta1" in settings:
        settings["momentum"] = settings.pop("beta1")


def _single_tensor_vrmomentum(batches: Sequence[Batch]) -> list[Regularised]:
    """The algorithm line by line: the reference."""
    for batch in batches:
        for g, v in zip(batch.grads, batch.velocities, strict=True):
            g = -g if batch.group["maximize"] else g
            v.lerp_(g, 1 - batch.group["momentum"])  # v <- b1 v + (1 - b1) g

    # eta <- lr / (1 + min(beta3 ||v||^2, lr_cutoff))
    regularised = regularise(
        batches,
        lambda batch, power, normgrad: single_tensor_power_sums(batch.grads if normgrad else batch.velocities, power),
    )

    for batch, line6 in zip(batches, regularised, strict=True):
        decay = batch.group["weight_decay"]
        for p, v, eta in zip(batch.params, batch.velocities, line6.lr.expand(len(batch.params)), strict=True):
            p.mul_(1 - eta * decay).sub_(v * eta)  # theta <- theta (1 - eta lambda) - eta v
    return regularised


def _multi_tensor_vrmomentum(batches: Sequence[Batch]) -> list[Regularised]:
    """The reference with each line over lists of tensors."""
    for batch in batches:
        grads = list(torch._foreach_neg(batch.grads)) if batch.group["maximize"] else batch.grads
        torch._foreach_lerp_(batch.velocities, grads, 1 - batch.group["momentum"])

    regularised = regularise(
        batches,
        lambda batch, power, normgrad: multi_tensor_power_sums(batch.grads if normgrad else batch.velocities, power),
    )

    for batch, line6 in zip(batches, regularised, strict=True):
        eta = line6.lr
        decay = 1 - eta * batch.group["weight_decay"]
        if eta.ndim:  # one learning rate per tensor
            updates = torch._foreach_mul(batch.velocities, list(eta.unbind()))
            torch._foreach_mul_(batch.params, list(decay.unbind()))
        else:
            updates = torch._foreach_mul(batch.velocities, eta)
            torch._foreach_mul_(batch.params, decay)
        torch._foreach_sub_(batch.params, list(updates))
    return regularised


def _fused_vrmomentum(batches: Sequence[Batch]) -> list[Regularised]:
    """The velocity advances and is measured piece by piece; the kernel then takes it for the gradient of plain SGD."""
    sums = {id(batch): advance_and_sum(batch) for batch in batches}

    def power_sums(batch: Batch, power: float, normgrad: bool) -> Tensor:
        if (power, normgrad) == (batch.group["power"], batch.group["normgrad"]):
            return sums[id(batch)]
        return multi_tensor_power_sums(batch.grads if normgrad else batch.velocities, power)

    regularised = regularise(batches, power_sums)
    for batch, line6 in zip(batches, regularised, strict=True):
        decay = batch.group["weight_decay"]
        for i in batch.unaligned:
            eta = line6.lr[i] if line6.lr.ndim else line6.lr
            batch.params[i].mul_(1 - eta * decay).sub_(batch.velocities[i] * eta)
        walked = [i for i in range(len(batch.params)) if i not in batch.unaligned]
        if line6.lr.ndim:  # one learning rate per tensor
            for i in walked:
                fused_sgd([batch.params[i]], [batch.velocities[i]], lr=line6.lr[i], weight_decay=decay)
        elif walked:
            params, velocities = [batch.params[i] for i in walked], [batch.velocities[i] for i in walked]
            fused_sgd(params, velocities, lr=line6.lr, weight_decay=decay)
    return regularised
