"""The diffusion task as a plain PyTorch script does it: what `vr bench task diffusion` measures against."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from vrcli.tasks.base import Splits
from vrcli.tasks.diffusion import Diffusion
from vrcli.tasks.unet import HEADS, Conv3x3, ResidualBlock, SelfAttention, UNet


def plain(task: Diffusion, splits: Splits, batch_size: int, seed: int) -> Iterator[float]:
    """One training step per `next()`, without end: the task's own weights on the CPU, AdamW.

    The images come from a `DataLoader`, attention is written out with its whole matrix, tensors are in torch's
    default memory format, and the loss is read back in every step. Call `next` under `torch.autocast` for reduced
    precision.

    Yields:
        The training loss of the step.
    """
    torch.manual_seed(seed)
    model = task.model(splits).to(memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    beta = torch.linspace(task.config.beta_start, task.config.beta_end, task.config.timesteps)
    alpha_bar = torch.cumprod(1 - beta, dim=0)
    scaled = splits.train.tensors[0].float() / 127.5 - 1
    loader = DataLoader(TensorDataset(scaled), batch_size=batch_size, shuffle=True)
    while True:
        for (x,) in loader:
            t = torch.randint(0, task.config.timesteps, (len(x),))
            noise = torch.randn_like(x)
            kept = alpha_bar[t][:, None, None, None]
            predicted = predict(model, kept.sqrt() * x + (1 - kept).sqrt() * noise, t)
            loss = F.mse_loss(predicted, noise)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            yield loss.item()


def predict(model: UNet, x: Tensor, t: Tensor) -> Tensor:
    """What `model(x, t)` computes, as it is usually written."""
    time = model.time(t)
    h = _convolve(model.stem, x)
    skips = []
    for block in model.down:
        h = _residual(block, h, time)
        skips.append(h)
        h = F.max_pool2d(h, 2)
    h = _residual(model.middle1, h, time)
    h = _residual(model.middle2, _attend(model.middle_attention, h), time)
    for level, block in enumerate(model.up):
        skip = skips.pop()
        h = torch.cat((F.interpolate(h, size=skip.shape[-2:]), skip), dim=1)
        h = _residual(block, h, time)
        if level < len(model.up_attention):
            h = _attend(model.up_attention[level], h)
    return _convolve(model.head, F.silu(model.head_norm(h)))


def _convolve(conv: Conv3x3, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, padding=1)


def _residual(block: nn.Module, x: Tensor, time: Tensor) -> Tensor:
    assert isinstance(block, ResidualBlock)
    h = _convolve(block.conv1, F.silu(block.norm1(x)))
    h = h + F.silu(block.time(time))[:, :, None, None]
    h = block.dropout(_convolve(block.conv2, F.silu(block.norm2(h))))
    out: Tensor = h + block.shortcut(x)
    return out


def _attend(block: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(block, SelfAttention)
    batch, channels, height, width = x.shape
    q, k, v = (
        part.reshape(batch, HEADS, channels // HEADS, height * width).transpose(2, 3)  # (B, heads, N, C/heads)
        for part in block.qkv(block.norm(x)).chunk(3, dim=1)
    )
    weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]), dim=-1)  # (B, heads, N, N)
    mixed = (weights @ v).transpose(2, 3).reshape(batch, channels, height, width)
    out: Tensor = x + block.out(mixed)
    return out
