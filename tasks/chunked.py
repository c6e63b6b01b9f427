"""Output layer and cross-entropy over a large vocabulary, a few hundred positions at a time.

The logits of a batch, (positions, vocabulary), are by far the largest tensor of a language model. Here they exist only
for `chunk` positions at once, small enough to stay in the processor's cache, and their gradient is turned into the
gradients of the layer's inputs while it is there. Newer versions of torch have `F.linear_cross_entropy` with
`batch_chunk_size`, as fast in float32; but under autocast its products stay in float32, and its gradient cannot
be differentiated again, as optimizers that need Hessian-vector products do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

#: Positions whose logits exist at a time. On a processor: small enough for its cache, large enough for its matrix
#: products. An accelerator wants fewer, larger kernels.
_CHUNK = {"cpu": 256}
_CHUNK_ELSEWHERE = 4096


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor, chunk: int = 0) -> Tensor:
    """Mean cross-entropy of a linear layer's logits, equal to that of `F.linear` and `F.cross_entropy` to rounding.

    Under autocast the three matrix products run in autocast's type, everything else in float32.

    Args:
        hidden: (N, D), what the layer reads.
        weight: (V, D).
        bias: (V,).
        target: (N,) int64, the right classes.
        chunk: positions at a time; 0 for what suits the device.
    """
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (hidden, weight, bias))
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, target, _chunk_size(hidden, chunk), wanted)
    return loss


@torch.no_grad()
def linear_scores(
    hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor, chunk: int = 0
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy, and the share of positions whose largest logit is the target's, without keeping logits.

    Arguments as for `linear_cross_entropy`.
    """
    nats = hidden.new_zeros((), dtype=torch.float64)
    right = hidden.new_zeros((), dtype=torch.float64)
    for rows, scores in _log_probabilities(hidden, weight, bias, _chunk_size(hidden, chunk)):
        nats -= scores.gather(1, target[rows].unsqueeze(1)).double().sum()
        right += (scores.argmax(1) == target[rows]).sum()
    return nats / len(target), right / len(target)


def _chunk_size(hidden: Tensor, chunk: int) -> int:
    return chunk or _CHUNK.get(hidden.device.type, _CHUNK_ELSEWHERE)


def _product_type(hidden: Tensor) -> torch.dtype:
    """The type of the matrix products: autocast's where it is on."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def _log_probabilities(hidden: Tensor, weight: Tensor, bias: Tensor, chunk: int) -> Iterator[tuple[slice, Tensor]]:
    """Rows, and their log-probabilities (rows, V) in at least float32. The tensor may be overwritten by the caller."""
    low = _product_type(hidden)
    wide = torch.promote_types(low, torch.float32)
    with torch.autocast(hidden.device.type, enabled=False):
        hidden, weight, bias = hidden.to(low), weight.to(low), bias.to(low)
        buffer = wide_buffer = hidden.new_empty(min(chunk, len(hidden)), len(weight))
        if wide is not low:
            wide_buffer = torch.empty_like(buffer, dtype=wide)
        for start in range(0, len(hidden), chunk):
            rows = slice(start, min(start + chunk, len(hidden)))
            logits = torch.addmm(bias, hidden[rows], weight.t(), out=buffer[: rows.stop - rows.start])  # (rows, V)
            scores = wide_buffer[: len(logits)]
            if wide is not low:
                scores.copy_(logits)
            yield rows, torch.log_softmax(scores, 1, out=scores)


class _LinearCrossEntropy(torch.autograd.Function):
    """The gradients are computed with the loss, as long as the chunk's logits are there, and scaled in `backward`."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor, chunk: int, wanted: bool
    ) -> Tensor:
        low = ctx.low = _product_type(hidden)
        wide = torch.promote_types(low, torch.float32)
        total = hidden.new_zeros((), dtype=wide)
        hidden_low, weight_low = hidden.to(low), weight.to(low)
        grads = [torch.empty_like(hidden), torch.zeros_like(weight, dtype=wide), torch.zeros_like(bias, dtype=wide)]
        d_hidden, d_weight, d_bias = grads
        for rows, scores in _log_probabilities(hidden, weight, bias, chunk):
            right = target[rows].unsqueeze(1)  # (rows, 1)
            total -= scores.gather(1, right).sum()
            if not wanted:
                continue
            # d(sum of losses)/d(logits) = softmax - one-hot
            d_logits = scores.exp_()
            d_logits.scatter_add_(1, right, d_logits.new_full((), -1.0).expand_as(right))
            d_logits = d_logits.to(low)  # (rows, V)
            with torch.autocast(hidden.device.type, enabled=False):
                d_hidden[rows] = d_logits @ weight_low
                if low is wide:
                    d_weight.addmm_(d_logits.t(), hidden_low[rows])
                else:
                    d_weight.add_(d_logits.t() @ hidden_low[rows])
                d_bias.add_(d_logits.sum(0))
        ctx.save_for_backward(hidden, weight, bias, target, *(grads if wanted else ()))
        return total / len(target)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, target, *grads = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated: build it from torch's operations
            wide = torch.promote_types(ctx.low, torch.float32)
            logits = F.linear(hidden.to(ctx.low), weight.to(ctx.low), bias.to(ctx.low)).to(wide)  # (N, V)
            inputs = [t for t, wanted in zip((hidden, weight, bias), ctx.needs_input_grad, strict=False) if wanted]
            found = iter(torch.autograd.grad(F.cross_entropy(logits, target), inputs, grad, create_graph=True))
            return (*(next(found) if wanted else None for wanted in ctx.needs_input_grad[:3]), None, None, None)
        scale = grad / len(target)
        return (
            *((g * scale).to(t.dtype) for g, t in zip(grads, (hidden, weight, bias), strict=True)),
            None,
            None,
            None,
        )
