"""The fused kernels of torch, which are private: each behind one function here, and behind a test of what it does."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor


def fused_adamw(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    *,
    lr: Tensor,
    betas: tuple[float, float],
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> None:
    """One AdamW step in place, both moments included. The five tensors of a row must have the same strides.

    Args:
        steps: counts that already include this step, on the parameters' device.
        lr: 0-dim, on the parameters' device; never read by the host.
    """
    torch._fused_adamw_(
        params,
        grads,
        exp_avgs,
        exp_avg_sqs,
        [],
        steps,
        lr=_kernel_lr(lr),
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=weight_decay,
        eps=eps,
        amsgrad=False,
        maximize=maximize,
    )


def fused_sgd(params: list[Tensor], grads: list[Tensor], *, lr: Tensor, weight_decay: float) -> None:
    """theta <- theta - lr (g + weight_decay theta) in place. Both tensors of a row must have the same strides."""
    torch._fused_sgd_(
        params,
        grads,
        [],
        weight_decay=weight_decay,
        momentum=0.0,
        lr=_kernel_lr(lr),
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,
    )


def _kernel_lr(lr: Tensor) -> Tensor:
    return lr if lr.device.type == "cpu" else lr.float()  # the CUDA kernels read a float32 from memory


@cache
def works(kernel: Callable[..., None], device_type: str, dtype: torch.dtype) -> bool:
    """Whether the kernel takes such parameters with a tensor learning rate and, on CPU, computes the expected step."""
    device = torch.device(device_type)
    one = torch.ones((), device=device)
    tensors = [torch.full((3,), value, device=device, dtype=dtype) for value in (1.0, 0.5, 0.0, 0.0)]
    lr = torch.full((), 0.25, device=device)
    try:
        if kernel is fused_adamw:
            p, g, v, m = ([tensor] for tensor in tensors)
            # theta 1, g 0.5: 1 - 0.25 (0.5 * 1 + 0.5 / sqrt(0.25)) = 0.625
            fused_adamw(p, g, v, m, [one], lr=lr, betas=(0.5, 0.5), weight_decay=0.5, eps=0.0, maximize=False)
        else:
            fused_sgd(tensors[:1], tensors[1:2], lr=lr, weight_decay=0.5)  # 1 - 0.25 (0.5 + 0.5 * 1) = 0.75
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    if device_type != "cpu":  # comparing numbers there would wait for the device
        return True
    expected = 0.625 if kernel is fused_adamw else 0.75
    return bool((tensors[0].float() - expected).abs().max() < 1e-2)
