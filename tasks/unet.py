"""A U-Net with self-attention that predicts the noise in an image.

Source:      arXiv 2505.13196, diffusion benchmark (attention at the bottleneck and in the upper layers, time embedding
             from sinusoids through an MLP). Layers and widths are those of the authors' released code: base 96 gives
             its 75,313,249 parameters.
Deviations:  none known. Where the image is small, fewer levels than the four of the released code (`depth`).
Shapes:      x (B, C, H, W) float, t (B,) int64, result as x. L levels with H/2^L >= 1.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Channels of the stem and of the four down blocks, as multiples of the base.
MULTIPLIERS = (1, 2, 4, 8, 8)
GROUPS = 8
HEADS = 4


class TimeEmbedding(nn.Module):
    """Sinusoids of the timestep, a quarter as many as the embedding has entries, through an MLP."""

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 8
        # the frequencies of the transformer's positions: 1 .. 1/10000, geometric
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half) / max(half - 1, 1))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * half, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        angles = t.unsqueeze(1) * self.frequencies  # (B, dim/8)
        embedding: Tensor = self.mlp(torch.cat((angles.sin(), angles.cos()), dim=1))
        return embedding  # (B, dim)


class Conv3x3(nn.Conv2d):
    """A padded 3x3 convolution. On a single pixel only its centre sees the image, and only the centre is computed."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] == (1, 1):
            return F.conv2d(x, self.weight[:, :, 1:2, 1:2], self.bias)
        return super().forward(x)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with the time embedding added between them, around a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, time_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels_in)
        self.conv1 = Conv3x3(channels_in, channels_out)
        self.time = nn.Linear(time_dim, channels_out)
        self.norm2 = nn.GroupNorm(GROUPS, channels_out)
        self.conv2 = Conv3x3(channels_out, channels_out)
        self.dropout = nn.Dropout(dropout)
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + F.silu(self.time(time))[:, :, None, None]
        h = self.dropout(self.conv2(F.silu(self.norm2(h))))
        out: Tensor = h + self.shortcut(x)
        return out


class SelfAttention(nn.Module):
    """Attention of every position to every other, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(1, (HEADS, -1)).flatten(3).transpose(2, 3)  # (B, heads, HW, C/heads)
            for part in self.qkv(self.norm(x)).chunk(3, dim=1)
        )
        mixed = _attention(q, k, v).transpose(2, 3).reshape(x.shape)  # (B, C, H, W)
        out: Tensor = x + self.out(mixed)
        return out


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    # In bfloat16 the CPU's backward pass of this function takes ten times as long as in float32.
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float())


class UNet(nn.Module):
    """The noise predictor.

    Args:
        image_shape: (C, H, W).
        base: channels of the first level, a multiple of 8.
        depth: how often the image is halved, at most 4.
        time_dim: entries of the time embedding, a multiple of 8.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], *, base: int, depth: int, time_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        widths = [base * multiplier for multiplier in MULTIPLIERS[: depth + 1]]
        deepest = widths[-1]
        self.time = TimeEmbedding(time_dim)
        self.stem = Conv3x3(image_shape[0], base)
        self.down = nn.ModuleList(ResidualBlock(narrow, wide, time_dim, dropout) for narrow, wide in pairwise(widths))
        self.middle1 = ResidualBlock(deepest, deepest, time_dim, dropout)
        self.middle_attention = SelfAttention(deepest)
        self.middle2 = ResidualBlock(deepest, deepest, time_dim, dropout)
        upward = list(pairwise(widths[::-1]))  # (of the skip and from below, of the result)
        self.up = nn.ModuleList(ResidualBlock(2 * wide, narrow, time_dim, dropout) for wide, narrow in upward)
        self.up_attention = nn.ModuleList(SelfAttention(narrow) for _, narrow in upward[:2])
        self.head_norm = nn.GroupNorm(GROUPS, base)
        self.head = Conv3x3(base, image_shape[0])

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = self.time(t)
        h = self.stem(x)
        skips = []
        for block in self.down:
            h = block(h, time)
            skips.append(h)
            h = F.max_pool2d(h, 2)
        h = self.middle2(self.middle_attention(self.middle1(h, time)), time)
        for level, block in enumerate(self.up):
            skip = skips.pop()
            h = F.interpolate(h, size=skip.shape[-2:], mode="nearest")
            h = block(torch.cat((h, skip), dim=1), time)
            if level < len(self.up_attention):
                h = self.up_attention[level](h)
        predicted: Tensor = self.head(F.silu(self.head_norm(h)))
        return predicted
