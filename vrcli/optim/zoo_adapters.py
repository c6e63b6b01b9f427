"""Sharpness-aware optimizers of the zoo with the closure protocol of torch.optim, SAM and its kin around AdamW.

Source:      pytorch-optimizer's SAM (Foret et al., arXiv 2010.01412), FriendlySAM (arXiv 2403.12350) and
             LookSAM (arXiv 2203.02714).
Deviations:  the zoo's `step(closure)` takes the gradients at the current point as already computed and calls the
             closure at the perturbed point only. Here the closure is called at both, as `torch.optim.LBFGS` would, so
             that no caller can run the method on stale or missing gradients by mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_optimizer
import torch
from torch.optim.optimizer import ParamsT


class _ClosureFirst:
    """Evaluates the closure at the current point before the zoo's step evaluates it at the perturbed one."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns the loss at the current point, before the perturbation."""
        if closure is None:
            raise RuntimeError(f"{type(self).__name__} needs a closure that evaluates the loss and its gradients")
        with torch.enable_grad():
            loss = closure()
        super().step(closure)  # type: ignore[misc]  # the zoo's class comes next in the hierarchy
        return loss


def _adamw(lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> dict[str, Any]:
    return {
        "base_optimizer": torch.optim.AdamW,
        "lr": lr,
        "betas": tuple(betas),
        "eps": eps,
        "weight_decay": weight_decay,
    }


class SAM(_ClosureFirst, pytorch_optimizer.SAM):
    """Sharpness-aware minimisation with AdamW.

    Args:
        params: parameters or groups.
        lr: learning rate.
        betas: decay rates of the running averages of the gradient and of its square.
        eps: added to the denominator for numerical stability.
        weight_decay: decoupled weight decay.
        rho: radius of the neighbourhood.
        adaptive: scale the neighbourhood with the weights (ASAM).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        rho: float = 0.05,
        adaptive: bool = False,
    ) -> None:
        super().__init__(params, rho=rho, adaptive=adaptive, **_adamw(lr, betas, eps, weight_decay))


class FriendlySAM(_ClosureFirst, pytorch_optimizer.FriendlySAM):
    """SAM that perturbs along the batch's noise, not along the full gradient, with AdamW.

    Args:
        params: parameters or groups.
        lr: learning rate.
        betas: decay rates of the running averages of the gradient and of its square.
        eps: added to the denominator for numerical stability.
        weight_decay: decoupled weight decay.
        rho: radius of the neighbourhood.
        sigma: share of the full gradient that is taken out of the perturbation.
        lmbda: decay rate of the running estimate of the full gradient.
        adaptive: scale the neighbourhood with the weights.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        rho: float = 0.05,
        sigma: float = 1.0,
        lmbda: float = 0.9,
        adaptive: bool = False,
    ) -> None:
        base = _adamw(lr, betas, eps, weight_decay)
        super().__init__(params, rho=rho, sigma=sigma, lmbda=lmbda, adaptive=adaptive, **base)


class LookSAM(_ClosureFirst, pytorch_optimizer.LookSAM):
    """SAM that computes its perturbation every k steps and reuses it in between, with AdamW.

    Args:
        params: parameters or groups.
        lr: learning rate.
        betas: decay rates of the running averages of the gradient and of its square.
        eps: added to the denominator for numerical stability.
        weight_decay: decoupled weight decay.
        rho: radius of the neighbourhood.
        k: steps between two perturbations.
        alpha: share of the reused direction.
        adaptive: scale the neighbourhood with the weights.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        rho: float = 0.1,
        k: int = 10,
        alpha: float = 0.7,
        adaptive: bool = False,
    ) -> None:
        base = _adamw(lr, betas, eps, weight_decay)
        super().__init__(params, rho=rho, k=k, alpha=alpha, adaptive=adaptive, **base)
