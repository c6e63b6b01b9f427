"""RAD: Adam as the motion of a relativistic particle, whose epsilon, inside the root, grows over the run.

Source:      arXiv 2412.02291 and the authors' code: the update, and the annealed symplectic factor zeta.
Deviations:  none known.
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
from vrcli.tasks.space import Real

ROW = Row(
    "rad",
    "vrcli.optim.rad:RAD",
    "Adam as a relativistic particle: an epsilon inside the root that grows over the run",
    "vr",
    {**lr_space(1e-4, 0.1, OWN_RANGE), "delta": Real(0.1, 10.0, log=True, origin=OWN_RANGE)},
    steps_setting="total_steps",
    curves=("zeta",),
)

#: Exponent of the annealed factor: it passes 1e-16, where it starts to count, after 8% of the run.
ANNEALING = 40.0


class RAD(MomentsOptimizer):
    """Relativistic adaptive gradient descent. With delta = 1 and total_steps = 0 it is Adam with epsilon in the root.

    Args:
        params: parameters or groups; every other argument may be set per group.
        lr: learning rate.
        betas: decay rates of the running averages of the gradient and of its square.
        delta: speed coefficient: the update of a large gradient has the size lr / delta.
        zeta: smallest symplectic factor, added to the squared denominator.
        order: order of the symplectic integrator, 1 or 2.
        weight_decay: decoupled, multiplied with the learning rate.
        total_steps: T of the annealed factor zeta_t = min(1, max(zeta, exp(40 (t / T - 1)))); 0 keeps zeta.
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
        delta: float = 1.0,
        zeta: float = 1e-16,
        order: int = 1,
        weight_decay: float = 0.0,
        total_steps: int = 0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
    ) -> None:
        for name, value in (("lr", lr), ("weight_decay", weight_decay), ("total_steps", total_steps)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and >= 0, got {value}")
        for name, value in (("delta", delta), ("zeta", zeta)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be finite and > 0, got {value}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"each of betas must be in [0, 1), got {betas}")
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {order}")
        if order == 2 and betas[0] == 0:
            raise ValueError("order 2 divides by the first of betas, which must be > 0, got 0")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": tuple(betas),
                "delta": delta,
                "zeta": zeta,
                "order": order,
                "weight_decay": weight_decay,
                "total_steps": total_steps,
                "maximize": maximize,
                "foreach": foreach,
            },
        )

    def _update(self, rows: Rows, group: dict[str, Any], *, foreach: bool) -> None:
        (_multi_tensor_rad if foreach else _single_tensor_rad)(rows, group)

    def telemetry(self) -> dict[str, Tensor]:
        """`zeta` of the last step: of the first parameter that has taken one, 0-dim; empty before."""
        group = self.param_groups[0]
        step = next((self.state[p]["step"] for p in group["params"] if p in self.state), None)
        return {} if step is None else {"zeta": torch.tensor(annealed(group, float(step)))}


def annealed(group: dict[str, Any], t: float) -> float:
    """zeta_t of the t-th step: min(1, max(zeta, exp(40 (t/T - 1)))), or zeta where no T is given."""
    zeta, total = float(group["zeta"]), group["total_steps"]
    return max(zeta, math.exp(ANNEALING * min(0.0, t / total - 1))) if total else zeta


def _single_tensor_rad(rows: Rows, group: dict[str, Any]) -> None:
    """The algorithm line by line: the reference."""
    b1, b2 = group["betas"]
    for x, g, m, v, step in zip(*rows, strict=True):
        t = float(step)
        g = -g if group["maximize"] else g
        x.mul_(1 - group["lr"] * group["weight_decay"])  # x <- x (1 - lr lambda)
        m.lerp_(g, 1 - b1)  # m <- b1 m + (1 - b1) g
        v.mul_(b2).addcmul_(g, g, value=1 - b2)  # v <- b2 v + (1 - b2) g*g
        zeta, squared = annealed(group, t), v * group["delta"] ** 2
        slowness = (squared + zeta).rsqrt()  # 1 / sqrt(delta^2 v + zeta)
        if group["order"] == 2:  # the mean of it and 1 / sqrt(delta^2 v + zeta / b1^2)
            slowness = (slowness + (squared + zeta / b1**2).rsqrt()) / 2
        # x <- x - lr sqrt(1 - b2^t) / (1 - b1^t) m / sqrt(delta^2 v + zeta)
        x.sub_(m * slowness * (group["lr"] * math.sqrt(1 - b2**t) / (1 - b1**t)))


def _multi_tensor_rad(rows: Rows, group: dict[str, Any]) -> None:
    """The reference with each line over lists of tensors."""
    params, grads, firsts, seconds, steps = rows
    b1, b2 = group["betas"]
    counts = [float(step) for step in steps]
    grads = list(torch._foreach_neg(grads)) if group["maximize"] else grads
    torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
    torch._foreach_lerp_(firsts, grads, 1 - b1)
    torch._foreach_mul_(seconds, b2)
    torch._foreach_addcmul_(seconds, grads, grads, value=1 - b2)
    zetas = [annealed(group, t) for t in counts]
    squared = list(torch._foreach_mul(seconds, group["delta"] ** 2))
    slowness = list(torch._foreach_add(squared, zetas))
    torch._foreach_rsqrt_(slowness)
    if group["order"] == 2:
        torch._foreach_add_(squared, [zeta / b1**2 for zeta in zetas])
        torch._foreach_rsqrt_(squared)
        torch._foreach_add_(slowness, squared)
        torch._foreach_mul_(slowness, 0.5)
    torch._foreach_mul_(slowness, firsts)
    torch._foreach_mul_(slowness, [group["lr"] * math.sqrt(1 - b2**t) / (1 - b1**t) for t in counts])
    torch._foreach_sub_(params, slowness)
