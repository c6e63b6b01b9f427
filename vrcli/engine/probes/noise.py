"""noise: how much the gradient varies from sample to sample.

Source:      McCandlish et al., arXiv 1812.06162, section 2.2: B_simple = tr(Sigma) / |G|^2, with the unbiased estimates
             of appendix A.1 from gradients of small batches and of all of them together.
Deviations:  none known. The samples are those of the probe's batch, without dropout.
Cost:        one gradient of the batch, and the memory of the gradients of `chunk` samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from vrcli.engine.probes.base import BatchOptions, Probe, Values, View, batch_norms
from vrcli.tasks.base import Batch

_CURVES = ("trace", "gradient", "scale", "small")


class Options(BatchOptions):
    """Options of the probe."""

    batch: int = Field(256, ge=2, description="training samples that it measures on, the same at every step")
    chunk: int = Field(32, ge=1, description="samples whose gradients are in memory at once")
    shard: int = Field(16, ge=1, description="samples of a small batch, where single samples cannot be had")


class Noise(Probe):
    """Curves: `trace` (of the covariance of a sample's gradient), `gradient` (squared norm of the mean gradient,
    without bias), `scale` (trace over that: the batch size at which noise and signal are equal), `small` (samples of a
    small batch).
    """

    name = "noise"
    summary = "trace of the gradient's covariance over the samples, and the gradient noise scale"
    Options = Options

    def curves(self) -> Sequence[str]:
        return _CURVES

    def measure(self, view: View) -> Values:
        options: Options = self.options
        view.differentiable(options)
        batch = view.batch(options.batch)
        if len(batch[0]) < 2:
            view.notes.append("probe noise: the training data are one sample, whose gradient cannot vary")
            return dict.fromkeys(_CURVES, math.nan)
        small, squares, mean, count = 1, 0.0, torch.empty(0), 0
        together = options.batch_norm == "train" and any(True for _ in batch_norms(view.model))
        why = "batch norm takes the samples together" if together else ""
        if not why:
            try:
                squares, mean, count = _by_sample(view, batch, options.chunk)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, ValueError, TypeError, IndexError):  # whatever a model does that vmap cannot
                why = "torch.func cannot take this model's samples one by one"
        if why:
            small = min(options.shard, len(batch[0]) // 2)
            view.notes.append(f"probe noise: {why}; shards of {small} are measured")
            squares, mean, count = _by_shard(view, batch, small)
        view.gradient_evaluations += 1
        # E|G_small|^2 = |G|^2 + tr(Sigma)/small, and the same of all samples together: equations A.1 and A.2.
        big = small * count
        of_small, of_big = squares / count, float(mean.square().sum())
        trace = (of_small - of_big) / (1 / small - 1 / big)
        gradient = (big * of_big - small * of_small) / (big - small)
        scale = trace / gradient if gradient > 0 else math.nan
        return dict(zip(_CURVES, (trace, gradient, scale, float(small)), strict=True))


class _Loss(nn.Module):
    """The loss of a batch as the output of a module, whose parameters torch.func can put in."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.model, self.view = view.model, view

    def forward(self, part: int, *batch: Tensor) -> Tensor:
        return self.view.loss(batch, part)


def _by_sample(view: View, batch: Batch, chunk: int) -> tuple[float, Tensor, int]:
    """Sum of the squared norms of the samples' gradients, their mean (n,) in float64, how many they are."""
    module = _Loss(view)
    named = {f"model.{name}": p.detach() for name, p in view.named_parameters.items()}

    def loss(parameters: dict[str, Tensor], part: int, sample: Batch) -> Tensor:
        value: Tensor = functional_call(module, parameters, (part, *(t.unsqueeze(0) for t in sample)))
        return value

    each = vmap(grad(loss), in_dims=(None, None, 0), randomness="different")
    squares: Tensor | float = 0.0
    total = torch.zeros(0)
    for part, samples in enumerate(zip(*(t.split(chunk) for t in batch), strict=True)):
        found = each(named, part, samples)
        flat = torch.cat([g.flatten(1).double() for g in found.values()], 1)  # (chunk, n)
        squares += flat.square().sum()
        total = flat.sum(0) + (total if len(total) else 0)
    return float(squares), total / len(batch[0]), len(batch[0])


def _by_shard(view: View, batch: Batch, size: int) -> tuple[float, Tensor, int]:
    """The same of shards of `size` samples; those left over are not looked at."""
    squares: Tensor | float = 0.0
    total, count = torch.zeros(0), len(batch[0]) // size
    parameters = view.parameters
    for part, samples in enumerate(list(zip(*(t.split(size) for t in batch), strict=True))[:count]):
        found = torch.autograd.grad(view.loss(samples, part), parameters, allow_unused=True)
        flat = torch.cat([g.flatten() for g in found if g is not None]).double()
        squares += flat.square().sum()
        total = flat + (total if len(total) else 0)
    return float(squares), total / count, count


PROBE = Noise
