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

#: Bytes of logits that exist at a time. On a processor: 256 positions of 30,000 words in float32, enough for efficient
#: matrix products. An accelerator wants fewer, larger kernels.
_CHUNK_BYTES = {"cpu": 30 * 2**20}
_CHUNK_BYTES_ELSEWHERE = 512 * 2**20

#: Values that one processor core takes through softmax at a time: 1 MB in float32, so that they stay in its cache.
_TILE_VALUES = 2**18


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
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, target, chunk, wanted)
    return loss


@torch.no_grad()
def linear_scores(
    hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor, chunk: int = 0
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy, and the share of positions whose largest logit is the target's, without keeping logits.

    Where k logits are equally large, which half precision makes common, each counts as the largest for 1/k.
    Arguments as for `linear_cross_entropy`.
    """
    low = _product_type(hidden)
    nats = torch.empty_like(target, dtype=torch.promote_types(low, torch.float32))  # (N,)
    right = torch.empty_like(nats)  # (N,)
    for rows, products in _products(hidden.to(low), weight.to(low), chunk):
        for tile, scores in _log_probabilities(products, bias, rows.start):
            found = scores.gather(1, target[tile].unsqueeze(1))  # (rows, 1)
            nats[tile] = found.squeeze(1).neg()
            # Counting the largest in place takes a quarter of the time of `argmax`.
            best = scores.amax(1, keepdim=True)
            count = torch.ge(scores, best, out=scores).sum(1)
            right[tile] = (found == best).squeeze(1) / count
    return nats.double().mean(), right.double().mean()


def _product_type(hidden: Tensor) -> torch.dtype:
    """The type of the matrix products: autocast's where it is on."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def _products(hidden: Tensor, weight: Tensor, chunk: int) -> Iterator[tuple[slice, Tensor]]:
    """Rows, and their logits without the bias, (rows, V), in a buffer that the next ones reuse."""
    limit = _CHUNK_BYTES.get(hidden.device.type, _CHUNK_BYTES_ELSEWHERE)
    chunk = min(len(hidden), chunk or max(1, limit // (len(weight) * hidden.element_size())))
    buffer = hidden.new_empty(chunk, len(weight))
    with torch.autocast(hidden.device.type, enabled=False):
        for start in range(0, len(hidden), chunk):
            rows = slice(start, min(start + chunk, len(hidden)))
            yield rows, torch.mm(hidden[rows], weight.t(), out=buffer[: rows.stop - start])


def _log_probabilities(products: Tensor, bias: Tensor, first: int) -> Iterator[tuple[slice, Tensor]]:
    """Rows, counted from `first`, and their log-probabilities (rows, V) in at least float32.

    The caller may overwrite them: what is left there replaces the products.
    """
    count, words = products.shape
    rows = count
    if products.device.type == "cpu":
        rows = min(count, max(1, _TILE_VALUES * torch.get_num_threads() // words))
    wide = torch.promote_types(products.dtype, torch.float32)
    own = wide is not products.dtype
    buffer = products.new_empty(rows if own else 0, words, dtype=wide)
    for start in range(0, count, rows):
        stop = min(start + rows, count)
        scores = buffer[: stop - start].copy_(products[start:stop]) if own else products[start:stop]
        scores.add_(bias)
        yield slice(first + start, first + stop), torch.log_softmax(scores, 1, out=scores)
        if own:
            products[start:stop] = scores


class _LinearCrossEntropy(torch.autograd.Function):
    """The gradients are computed with the loss, as long as the chunk's logits are there, and scaled in `backward`."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor, chunk: int, wanted: bool
    ) -> Tensor:
        low = ctx.low = _product_type(hidden)
        wide = torch.promote_types(low, torch.float32)
        x, w = hidden.to(low), weight.to(low)
        nats = torch.empty_like(target, dtype=wide)  # (N,)
        d_hidden, d_bias = torch.empty_like(x), torch.zeros_like(bias, dtype=wide)
        # The product that fills it is faster in this order for float32, in the other one for bfloat16.
        d_weight = w.new_zeros(w.shape[::-1]).t() if low is wide else torch.zeros_like(w, dtype=wide)  # (V, D)
        for rows, products in _products(x, w, chunk):
            for tile, scores in _log_probabilities(products, bias, rows.start):
                right = target[tile].unsqueeze(1)  # (rows, 1)
                nats[tile] = scores.gather(1, right).squeeze(1).neg()
                if wanted:
                    # d(sum of losses)/d(logits) = softmax - one-hot
                    scores.exp_().scatter_add_(1, right, scores.new_full((), -1.0).expand_as(right))
            if wanted:
                d_logits = products  # (rows, V), as overwritten above
                torch.mm(d_logits, w, out=d_hidden[rows])
                if low is wide:
                    d_weight.t().addmm_(x[rows].t(), d_logits)
                else:
                    d_weight.add_(d_logits.t() @ x[rows])
                d_bias.add_(d_logits.t().mv(d_logits.new_ones(len(d_logits))))
        ctx.save_for_backward(hidden, weight, bias, target, *((d_hidden, d_weight, d_bias) if wanted else ()))
        return nats.mean()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, target, *grads = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated: build it from torch's operations
            wide = torch.promote_types(ctx.low, torch.float32)
            logits = F.linear(hidden.to(ctx.low), weight.to(ctx.low), bias.to(ctx.low)).to(wide)  # (N, V)
            inputs = [t for t, wanted in zip((hidden, weight, bias), ctx.needs_input_grad, strict=False) if wanted]
            found = iter(torch.autograd.grad(F.cross_entropy(logits, target), inputs, grad, create_graph=True))
            return (*(next(found) if wanted else None for wanted in ctx.needs_input_grad[:3]), None, None, None)
        d_hidden, d_weight, d_bias = grads
        scale = grad / len(target)
        return (
            (d_hidden * scale).to(hidden.dtype),
            torch.mul(d_weight, scale, out=torch.empty_like(weight)),
            (d_bias * scale).to(bias.dtype),
            None,
            None,
            None,
        )
