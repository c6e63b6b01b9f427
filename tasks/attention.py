"""torch's Transformer with faster training steps on a processor: dropout from 16 random bits, attention without checks.

torch draws a whole random number per value for its dropout, and its attention with dropout checks every row for being
masked out entirely. Elsewhere, in evaluation and without dropout, torch's own code runs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def transformer(width: int, heads: int, layers: int, d_ff: int, dropout: float) -> nn.Transformer:
    """`nn.Transformer` with as many encoder as decoder layers, batch first, its parameters and initialisation."""
    sizes: dict[str, Any] = {"d_model": width, "nhead": heads, "dim_feedforward": d_ff, "dropout": dropout}
    encoder = nn.TransformerEncoder(EncoderLayer(**sizes), layers, nn.LayerNorm(width), enable_nested_tensor=False)
    decoder = nn.TransformerDecoder(DecoderLayer(**sizes), layers, nn.LayerNorm(width))
    return nn.Transformer(width, heads, custom_encoder=encoder, custom_decoder=decoder, batch_first=True)


class Dropout(nn.Dropout):
    """`nn.Dropout` whose probability is a multiple of 1/65536."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        return input * _noise(input.shape, self.p, input.dtype)


def _noise(shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
    """0 with probability `p`, rounded to 16 bits, and otherwise what makes the mean 1."""
    dropped = round(p * 2**16)
    count = math.prod(shape)
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)  # four values in each
    levels = bits.view(torch.int16)[:count].view(shape)  # uniform on -2^15 .. 2^15 - 1
    noise = torch.empty(shape, dtype=dtype)
    torch.ge(levels, dropped - 2**15, out=noise)
    return noise.mul_(2**16 / (2**16 - dropped)) if dropped < 2**16 else noise


class Attention(nn.MultiheadAttention):
    """`nn.MultiheadAttention`, batch first. Every query must be allowed to attend to something."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        own = self.training and self.dropout > 0 and query.device.type == "cpu" and key is value
        additive = attn_mask is None or attn_mask.is_floating_point()
        if not (own and additive) or need_weights or key_padding_mask is not None:
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        return self._attend(query, key, attn_mask), None

    def _attend(self, query: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D) for queries (B, T, D) over a memory (B, S, D); `mask` (T, S) is added to the scores."""
        width = self.embed_dim
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is memory:
            q, k, v = F.linear(query, weight, bias).chunk(3, 2)
        else:
            q = F.linear(query, weight[:width], bias[:width])
            k, v = F.linear(memory, weight[width:], bias[width:]).chunk(2, 2)
        q, k, v = (x.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, H, T, D / H)
        scores = (q / math.sqrt(self.head_dim)) @ k.transpose(2, 3)  # (B, H, T, S)
        if mask is not None:
            scores += mask
        weights = scores.softmax(3)
        attended = (weights * _noise(weights.shape, self.dropout, weights.dtype)) @ v  # (B, H, T, D / H)
        return F.linear(attended.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)


class EncoderLayer(nn.TransformerEncoderLayer):
    """`nn.TransformerEncoderLayer` of these parts, batch first."""

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int, dropout: float) -> None:
        super().__init__(d_model, nhead, dim_feedforward, dropout, batch_first=True)
        self.self_attn = Attention(d_model, nhead, dropout, batch_first=True)
        self.dropout, self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout), Dropout(dropout)


class DecoderLayer(nn.TransformerDecoderLayer):
    """`nn.TransformerDecoderLayer` of these parts, batch first."""

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int, dropout: float) -> None:
        super().__init__(d_model, nhead, dim_feedforward, dropout, batch_first=True)
        self.self_attn = Attention(d_model, nhead, dropout, batch_first=True)
        self.multihead_attn = Attention(d_model, nhead, dropout, batch_first=True)
        self.dropout, self.dropout1, self.dropout2, self.dropout3 = (Dropout(dropout) for _ in range(4))
