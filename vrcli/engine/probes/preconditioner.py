"""How an optimizer scales its steps, read from its state, and the curvature at which its steps become unstable.

Source:      Cohen et al., arXiv 2103.00065 (gradient descent, momentum) and 2207.14484 (adaptive methods): a step of
             P^-1 times the gradient is unstable along eigenvectors of P^-1/2 H P^-1/2 above a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vrcli.optim.velocity_optimizer import VelocityOptimizer
from vrcli.optim.vradam import VRAdam
from vrcli.optim.vrmomentum import VRMomentum


@dataclass(frozen=True)
class Preconditioner:
    """Of an optimizer after its last step.

    Args:
        diagonal: P by parameter, each like its parameter; None where P is 1.
        threshold: the eigenvalue of the preconditioned Hessian above which steps are unstable; NaN where the groups of
            the optimizer, or its tensors, have several.
    """

    diagonal: Mapping[Tensor, Tensor] | None
    threshold: float


def preconditioner(optimizer: torch.optim.Optimizer) -> Preconditioner | None:
    """That of an optimizer of a known kind, or of one that has a method of this name; None of others.

    A class of a third party gives it by a method `preconditioner()` that returns a `Preconditioner`.
    """
    if callable(own := getattr(optimizer, "preconditioner", None)):
        found: Preconditioner = own()
        return found
    known = _KINDS.get(type(optimizer))
    if known is None:
        return None
    diagonal_of, factor_of = known
    thresholds = {  # a schedule may end at a rate of zero, which has none
        factor_of(group) / rate if rate else math.nan
        for group, rate in zip(optimizer.param_groups, _rates(optimizer), strict=True)
    }
    threshold = thresholds.pop() if len(thresholds) == 1 else math.nan
    if diagonal_of is None:
        return Preconditioner(None, threshold)
    diagonal = {
        p: diagonal_of(optimizer.state[p], group)
        for group in optimizer.param_groups for p in group["params"] if optimizer.state.get(p)
    }  # fmt: skip
    return Preconditioner(diagonal, threshold)


def _rates(optimizer: torch.optim.Optimizer) -> list[float]:
    """The learning rate of each group's last step: of methods that change it within the step, the one in effect.

    NaN where tensors or groups have effective rates of their own.
    """
    if isinstance(optimizer, VelocityOptimizer):
        effective = {float(rate) for one in optimizer.last_step for rate in one.lr.reshape(-1)}
        return [effective.pop() if len(effective) == 1 else math.nan] * len(optimizer.param_groups)
    return [float(group["lr"]) for group in optimizer.param_groups]


# -- P ----------------------------------------------------------------------------------------------------------------


def _adam(state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    """diag(sqrt(m_hat) + eps); with amsgrad m is the largest so far."""
    m = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    m_hat = m / (1 - group["betas"][1] ** float(state["step"]))
    root: Tensor = m_hat.sqrt() + group["eps"]
    return root


def _rmsprop(state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    m = state["square_avg"]
    if group["centered"]:
        m = (m - state["grad_avg"].square()).clamp(min=0)
    root: Tensor = m.sqrt() + group["eps"]
    return root


def _adagrad(state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor:
    """The decay of its learning rate is one of P, which grows."""
    decay = 1 + (float(state["step"]) - 1) * group["lr_decay"]
    found: Tensor = (state["sum"].sqrt() + group["eps"]) * decay
    return found


# -- thresholds, times the learning rate ------------------------------------------------------------------------------


def _ema(group: Mapping[str, Any]) -> float:
    """Of an average of gradients in the gradient's place: (2 + 2 b1) / (1 - b1), 38 at b1 = 0.9."""
    b1 = group["betas"][0] if "betas" in group else group["momentum"]
    return float((2 + 2 * b1) / (1 - b1))


def _unknown(group: Mapping[str, Any]) -> float:
    """NAdam's momentum grows during training; no threshold is known for that."""
    return math.nan


def _sgd(group: Mapping[str, Any]) -> float:
    """2 without momentum, 2 + 2 mu with it, (2 + 2 mu) / (1 + 2 mu) with Nesterov's."""
    mu = group["momentum"]
    nesterov = 1 + 2 * mu if group.get("nesterov") else 1.0
    return float((2 + 2 * mu) / (nesterov * (1 - group.get("dampening", 0.0))))


def _plain(group: Mapping[str, Any]) -> float:
    return 2.0


_Diagonal = Callable[[Mapping[str, Any], Mapping[str, Any]], Tensor]
_KINDS: Mapping[type, tuple[_Diagonal | None, Callable[[Mapping[str, Any]], float]]] = {
    torch.optim.SGD: (None, _sgd),
    VRMomentum: (None, _ema),
    torch.optim.Adam: (_adam, _ema),
    torch.optim.AdamW: (_adam, _ema),
    VRAdam: (_adam, _ema),
    torch.optim.NAdam: (_adam, _unknown),
    torch.optim.RMSprop: (_rmsprop, _sgd),
    torch.optim.Adagrad: (_adagrad, _plain),
}
