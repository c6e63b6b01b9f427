"""LAMB: AdamW whose step on each tensor is as long as the tensor's own norm times the learning rate.

Source:      You et al., arXiv 1904.00962, Algorithm 2, with phi the identity; where a norm is zero the ratio is 1, as
             in the authors' code, so that biases that start at zero move.
Deviations:  none known. Every tensor counts as a layer, biases and gains too.
Shapes:      any real parameters; state per parameter: `exp_avg` (m) and `exp_avg_sq` (v) like the parameter, `step` ().
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from vrcli.optim.base import MomentsOptimizer, Rows
from vrcli.optim.rows import OWN_RANGE, Row, lr_space

ROW = Row(
    "lamb",
    "vrcli.optim.lamb:Lamb",
    "Adam whose step on each tensor is as long as lr times the tensor's norm",
    "vr",
    lr_space(1e-4, 0.1, OWN_RANGE),
)


class Lamb(MomentsOptimizer):
    """Layer-wise adaptive moments. A step on a tensor of norm n has the length lr * n, whatever its gradient.

    Args:
        params: parameters or groups; every other argument may be set per group.
        lr: learning rate: the relative change of a tensor per step.
        betas: decay rates of the running averages of the gradient and of its square.
        eps: added to the denominator.
        weight_decay: added to the update before it is scaled to the tensor's norm.
        maximize: maximise the objective instead of minimising it.
        foreach: work on lists of tensors; None does so on devices other than the CPU.

    Raises:
        ValueError: a value out of its range, naming the argument.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
    ) -> None:
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and >= 0, got {value}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"each of betas must be in [0, 1), got {betas}")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": tuple(betas),
                "eps": eps,
                "weight_decay": weight_decay,
                "maximize": maximize,
                "foreach": foreach,
            },
        )

    def _update(self, rows: Rows, group: dict[str, Any], *, foreach: bool) -> None:
        (_multi_tensor_lamb if foreach else _single_tensor_lamb)(rows, group)


def _single_tensor_lamb(rows: Rows, group: dict[str, Any]) -> None:
    """Algorithm 2, line by line: the reference."""
    b1, b2 = group["betas"]
    for x, g, m, v, step in zip(*rows, strict=True):
        t = float(step)
        g = -g if group["maximize"] else g
        m.lerp_(g, 1 - b1)  # m <- b1 m + (1 - b1) g
        v.mul_(b2).addcmul_(g, g, value=1 - b2)  # v <- b2 v + (1 - b2) g*g
        root = v.sqrt().div_(math.sqrt(1 - b2**t)).add_(group["eps"])
        r = (m / (1 - b1**t)).div_(root)  # r <- mh / (sqrt(vh) + eps)
        r.add_(x, alpha=group["weight_decay"])  # r + lambda x
        norm, length = (torch.linalg.vector_norm(tensor, dtype=_wider(x)) for tensor in (x, r))
        x.sub_(r * (group["lr"] * _trust_ratio(norm, length)))  # x <- x - lr ||x|| / ||r + lambda x|| (r + lambda x)


def _multi_tensor_lamb(rows: Rows, group: dict[str, Any]) -> None:
    """The reference with each line over lists of tensors."""
    params, grads, firsts, seconds, steps = rows
    b1, b2 = group["betas"]
    counts = [float(step) for step in steps]
    grads = list(torch._foreach_neg(grads)) if group["maximize"] else grads
    torch._foreach_lerp_(firsts, grads, 1 - b1)
    torch._foreach_mul_(seconds, b2)
    torch._foreach_addcmul_(seconds, grads, grads, value=1 - b2)
    roots = list(torch._foreach_sqrt(seconds))
    torch._foreach_div_(roots, [math.sqrt(1 - b2**t) for t in counts])
    torch._foreach_add_(roots, group["eps"])
    updates = list(torch._foreach_div(firsts, [1 - b1**t for t in counts]))
    torch._foreach_div_(updates, roots)
    torch._foreach_add_(updates, params, alpha=group["weight_decay"])
    norms, lengths = (
        torch.stack(list(torch._foreach_norm(tensors, 2, dtype=_wider(params[0])))) for tensors in (params, updates)
    )
    torch._foreach_mul_(updates, list((group["lr"] * _trust_ratio(norms, lengths)).unbind()))
    torch._foreach_sub_(params, updates)


def _wider(x: Tensor) -> torch.dtype:
    """Norms of half-precision tensors are summed in float32."""
    return torch.promote_types(x.dtype, torch.float32)


def _trust_ratio(norm: Tensor, length: Tensor) -> Tensor:
    """||x|| / ||update||, and 1 where either is zero."""
    return torch.where((norm == 0) | (length == 0), torch.ones_like(norm), norm / length)
