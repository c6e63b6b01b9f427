"""updates: how far a step moves the weights, and in which direction.

Source:      standard telemetry; a ratio of update to weights near 1e-3 is a common rule of thumb.
Cost:        no gradient; a copy of the weights before the step, and of those before the step before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from vrcli.engine.probes.base import Probe, ProbeOptions, Values, View


class Options(ProbeOptions):
    """Options of the probe."""

    layers: bool = Field(True, description="also the norms of every layer")


class Updates(Probe):
    """Curves: `norm` (of the last step's update), `weight_norm`, `gradient_norm`, `ratio` (update to weights),
    `cosine_gradient` (with the negative gradient), `cosine_previous` (with the update before); the three norms of a
    layer after a slash, `norm/NAME`.
    """

    name = "updates"
    summary = "norms of update, weights and gradients by layer; the update's angle to the gradient and to the last one"
    Options = Options
    weights_before = 2

    def curves(self) -> Sequence[str]:
        norms = ("norm", "weight_norm", "gradient_norm")
        layers = [f"{norm}/*" for norm in norms] if self.options.layers else []
        return [*norms, "ratio", "cosine_gradient", "cosine_previous", *layers]

    def measure(self, view: View) -> Values:
        names = list(view.named_parameters)
        now = [p.detach() for p in view.parameters]
        gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(now, view.gradients, strict=True)]
        updates = _difference(now, view.weights_before[0])
        kinds = {"norm": updates, "weight_norm": now, "gradient_norm": gradients}
        squares = {kind: _dots(tensors, tensors) for kind, tensors in kinds.items()}
        norms = {kind: math.sqrt(math.fsum(own)) for kind, own in squares.items()}
        found = {
            **norms,
            "ratio": norms["norm"] / norms["weight_norm"] if norms["weight_norm"] else math.nan,
            "cosine_gradient": -_cosine(updates, gradients, norms["norm"] * norms["gradient_norm"]),
        }
        if len(view.weights_before) > 1:
            previous = _difference(*view.weights_before)
            length = norms["norm"] * math.sqrt(math.fsum(_dots(previous, previous)))
            found["cosine_previous"] = _cosine(updates, previous, length)
        if self.options.layers:
            layers: dict[str, list[int]] = {}
            for place, name in enumerate(names):
                layers.setdefault(name.rpartition(".")[0] or name, []).append(place)
            for layer, places in layers.items():
                for kind, own in squares.items():
                    found[f"{kind}/{layer}"] = math.sqrt(math.fsum(own[at] for at in places))
        return found


def _difference(after: Sequence[Tensor], before: Sequence[Tensor]) -> list[Tensor]:
    return [a - b for a, b in zip(after, before, strict=True)]


def _dots(one: Sequence[Tensor], other: Sequence[Tensor]) -> list[float]:
    """The product of each tensor with its partner; the host waits once for all of them."""
    products = [torch.linalg.vecdot(a.flatten(), b.flatten()).double() for a, b in zip(one, other, strict=True)]
    values: list[float] = torch.stack(products).tolist()
    return values


def _cosine(one: Sequence[Tensor], other: Sequence[Tensor], length: float) -> float:
    """NaN where one of them is zero.

    Args:
        length: the product of their norms.
    """
    return math.fsum(_dots(one, other)) / length if length else math.nan


PROBE = Updates
