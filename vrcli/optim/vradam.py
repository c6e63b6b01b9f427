"""VRAdam: AdamW whose learning rate falls with the squared norm of the velocity.

Source:      arXiv 2505.13196, Algorithm 1.
Deviations:  none known. `norm_scope="group"` is what the authors' code does, `"tensor"` an ablation.
Shapes:      any real parameters; state per parameter: `exp_avg` (v) and `exp_avg_sq` (m) like the parameter, `step` ().
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from vrcli.optim.fused import fused_adamw
from vrcli.optim.rows import VELOCITY_SPACE, Row
from vrcli.optim.velocity import (
    Batch,
    Regularised,
    coming_power_sums,
    multi_tensor_power_sums,
    regularise,
    single_tensor_power_sums,
    wide,
)
from vrcli.optim.velocity_optimizer import Path, VelocityOptimizer
from vrcli.tasks.space import Real

ROW = Row(
    "vradam",
    "vrcli.optim.vradam:VRAdam",
    "AdamW whose learning rate falls with the squared norm of the velocity",
    "vr",
    {"lr": Real(1e-4, 0.1, log=True, origin="Table 6 of the paper"), **VELOCITY_SPACE},
    curves=("velocity_norm", "gate"),
)


class VRAdam(VelocityOptimizer):
    """Velocity-regularised Adam.

    With beta3 = 0 it is AdamW. While the cutoff is inactive, lr_effective * ||v|| <= lr / (2 sqrt(beta3)).

    Args:
        params: parameters or groups; every other argument may be set per group.
        lr: maximal learning rate, reached at zero velocity; a number or a tensor with one element.
        betas: decay rates of the velocity and of the second moment.
        beta3: velocity penalty.
        eps: added to the denominator.
        weight_decay: decoupled, multiplied with the effective learning rate.
        power: exponent of the norm, the sum of |v_i|^power.
        normgrad: penalise the norm of the gradient instead of that of the velocity.
        lr_cutoff: bounds the penalty: the learning rate never falls below lr / (1 + lr_cutoff).
        norm_scope: what the norm runs over: "global" everything, "group" a parameter group, "tensor" each tensor alone.
        maximize: maximise the objective instead of minimising it.
        foreach: work on lists of tensors; None chooses the fastest implementation.
        fused: update with torch's fused AdamW kernel; None chooses the fastest implementation.
        capturable: accepted for torch's convention; every quantity of a step stays on the device in any case.

    Raises:
        ValueError: a value out of its range, naming the argument.
        TypeError: a parameter is complex or an integer.
    """

    state_names = ("exp_avg", "exp_avg_sq")
    counts_steps = True
    kernel = fused_adamw

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float = 1.0,
        eps: float = 1e-8,
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
            "betas": tuple(betas),
            "beta3": beta3,
            "eps": eps,
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

    def _update(self, batches: Sequence[Batch], path: Path) -> list[Regularised]:
        if path == "fused":
            return _fused_vradam(batches, [self._scratch_for(batch) for batch in batches])
        if path == "foreach":
            return _multi_tensor_vradam(batches)
        return _single_tensor_vradam(batches)


def _single_tensor_vradam(batches: Sequence[Batch]) -> list[Regularised]:
    """Algorithm 1, line by line: the reference."""
    for batch in batches:
        b1, b2 = batch.group["betas"]
        for g, v, m in zip(batch.grads, batch.velocities, batch.squares, strict=True):
            g = -g if batch.group["maximize"] else g
            v.lerp_(g, 1 - b1)  # v <- b1 v + (1 - b1) g
            m.mul_(b2).addcmul_(g, g, value=1 - b2)  # m <- b2 m + (1 - b2) g*g

    # eta <- lr / (1 + min(beta3 ||v||^2, lr_cutoff))
    regularised = regularise(
        batches,
        lambda batch, power, normgrad: single_tensor_power_sums(batch.grads if normgrad else batch.velocities, power),
    )

    for batch, line6 in zip(batches, regularised, strict=True):
        for i, eta in enumerate(line6.lr.expand(len(batch.params))):
            _single_tensor_update(batch, i, eta)
    return regularised


def _single_tensor_update(batch: Batch, i: int, eta: Tensor) -> None:
    """The last lines of Algorithm 1 for one tensor."""
    p, v, m = batch.params[i], batch.velocities[i], batch.squares[i]
    b1, b2 = batch.group["betas"]
    t = batch.steps[i].to(wide(p.device))
    vh_scale = 1 / (1 - b1**t)  # vh <- v / (1 - b1^t)
    mh_root = m.sqrt() / (1 - b2**t).sqrt()  # mh <- m / (1 - b2^t)
    p.mul_(1 - eta * batch.group["weight_decay"])  # theta <- theta (1 - eta lambda) - eta vh / (sqrt(mh) + eps)
    p.sub_(v / mh_root.add_(batch.group["eps"]) * (eta * vh_scale))


def _multi_tensor_vradam(batches: Sequence[Batch]) -> list[Regularised]:
    """The reference with each line over lists of tensors."""
    for batch in batches:
        b1, b2 = batch.group["betas"]
        grads = list(torch._foreach_neg(batch.grads)) if batch.group["maximize"] else batch.grads
        torch._foreach_lerp_(batch.velocities, grads, 1 - b1)
        torch._foreach_mul_(batch.squares, b2)
        torch._foreach_addcmul_(batch.squares, grads, grads, value=1 - b2)

    regularised = regularise(
        batches,
        lambda batch, power, normgrad: multi_tensor_power_sums(batch.grads if normgrad else batch.velocities, power),
    )

    for batch, line6 in zip(batches, regularised, strict=True):
        for indices, step in _by_step(batch):
            _multi_tensor_update(batch, indices, step, line6.lr)
    return regularised


def _multi_tensor_update(batch: Batch, indices: Sequence[int], step: Tensor, eta: Tensor) -> None:
    """The last lines of Algorithm 1 for tensors with the same step count."""
    params = [batch.params[i] for i in indices]
    velocities = [batch.velocities[i] for i in indices]
    b1, b2 = batch.group["betas"]
    t = step.to(wide(batch.device))
    roots = list(torch._foreach_sqrt([batch.squares[i] for i in indices]))
    torch._foreach_div_(roots, (1 - b2**t).sqrt())
    torch._foreach_add_(roots, batch.group["eps"])
    updates = list(torch._foreach_div(velocities, roots))
    decay = 1 - eta * batch.group["weight_decay"]
    rate = eta / (1 - b1**t)
    if eta.ndim:  # one learning rate per tensor
        torch._foreach_mul_(params, list(decay[indices].unbind()))
        torch._foreach_mul_(updates, list(rate[indices].unbind()))
    else:
        torch._foreach_mul_(params, decay)
        torch._foreach_mul_(updates, rate)
    torch._foreach_sub_(params, updates)


def _by_step(batch: Batch) -> list[tuple[list[int], Tensor]]:
    """Indices of the tensors that share a step count, with it."""
    shared: dict[int, tuple[list[int], Tensor]] = {}
    for i, step in enumerate(batch.steps):
        shared.setdefault(id(step), ([], step))[0].append(i)
    return list(shared.values())


def _fused_vradam(batches: Sequence[Batch], scratch: Sequence[Tensor | None]) -> list[Regularised]:
    """One pass for the norm of the velocity to come, and one by the fused kernel for everything else."""
    buffers = {id(batch): buffer for batch, buffer in zip(batches, scratch, strict=True)}
    regularised = regularise(
        batches,
        lambda batch, power, normgrad: coming_power_sums(batch, power, normgrad, buffers[id(batch)]),
    )
    for batch, line6 in zip(batches, regularised, strict=True):
        if line6.lr.ndim:  # one learning rate per tensor
            for i, eta in enumerate(line6.lr.unbind()):
                _fused_update(batch.take([i]), eta)
        else:
            _fused_update(batch, line6.lr)
    return regularised


def _fused_update(batch: Batch, eta: Tensor) -> None:
    """The kernel walks plain memory, so tensors whose gradient has other strides take the reference's way."""
    group = batch.group
    walked = batch.take([i for i in range(len(batch.params)) if i not in batch.unaligned]) if batch.unaligned else batch
    if walked.params:
        fused_adamw(
            walked.params,
            walked.grads,
            walked.velocities,
            walked.squares,
            walked.steps,
            lr=eta,
            betas=group["betas"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=group["maximize"],
        )
    b1, b2 = group["betas"]
    for i in batch.unaligned:
        g = -batch.grads[i] if group["maximize"] else batch.grads[i]
        batch.velocities[i].lerp_(g, 1 - b1)
        batch.squares[i].mul_(b2).addcmul_(g, g, value=1 - b2)
        _single_tensor_update(batch, i, eta)
