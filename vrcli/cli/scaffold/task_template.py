"""spirals: two interleaved arms, binary classification.

Source:      say where the task comes from, or that it is your own.
Deviations:  none known.
Shapes:      x (B, 2) float32, y (B,) int64, logits (B, 2)
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vrcli.tasks.base import Batch, Metric, Preset, Split, Splits, Task, TaskConfig, assumed, mean_over
from vrcli.tasks.space import Real

OWN_RANGE = "a wide range of our own"


class SpiralsConfig(TaskConfig):
    """Each field is an option of `vr run spirals`; its bounds are checked before anything is recorded."""

    points: int = Field(2000, ge=20, description="points of all splits together")
    turns: float = Field(1.0, gt=0, description="rotations of each arm")
    noise: float = Field(0.05, ge=0, description="standard deviation added to both coordinates")
    hidden: int = Field(32, ge=1, description="units of each hidden layer")


class Spirals(Task[SpiralsConfig]):
    name = "spirals"
    summary = "two interleaved arms, binary classification"
    metrics = (Metric("loss", "min", unit="nats"), Metric("accuracy", "max", percent=True))
    Config = SpiralsConfig
    diverged_above = 100.0  # nats; chance is ln 2, and weights this far out do not come back

    presets = {
        "quick": Preset(
            {
                "epochs": assumed(60, "enough for AdamW to separate the arms"),
                "batch_size": assumed(100, "twelve steps an epoch"),
            },
            {"*": {"lr": assumed(0.01, "a common choice for a small network")}},
            summary="seconds on a CPU",
        ),
        "smoke": Preset(
            {
                "epochs": assumed(2, "a check, not a result"),
                "points": assumed(200, "the same"),
                "batch_size": assumed(40, "three steps an epoch"),
            },
            summary="a check that all of it runs",
        ),
    }
    space = {
        "*": {"lr": Real(1e-4, 1e-1, log=True, origin=OWN_RANGE)},
        "vradam": {
            "lr": Real(1e-4, 1e-1, log=True, origin=OWN_RANGE),
            "beta3": Real(0.1, 5.0, origin=OWN_RANGE),
        },
    }

    # -- data ---------------------------------------------------------------------------------------------------------

    def data(self, generator: torch.Generator) -> Splits:
        n, c = self.config.points, self.config
        y = torch.arange(n) % 2
        radius = torch.rand(n, generator=generator).sqrt()
        angle = 2 * math.pi * c.turns * radius + math.pi * y
        x = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
        x = x + c.noise * torch.randn(n, 2, generator=generator)  # (n, 2)
        sizes = [n - 2 * (n // 5), n // 5, n // 5]
        train, val, test = (Split(part) for part in zip(x.split(sizes), y.split(sizes), strict=True))
        return Splits(train, val, test, dataset="spirals", about=f"generated, {n:,} points")

    # -- model and loss -----------------------------------------------------------------------------------------------

    def model(self, data: Splits) -> nn.Module:
        h = self.config.hidden
        return nn.Sequential(nn.Linear(2, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh(), nn.Linear(h, 2))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return F.cross_entropy(model(x), y)

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        def measure(batch: Batch) -> tuple[Tensor, ...]:
            logits = model(batch[0])  # (B, 2)
            return F.cross_entropy(logits, batch[1]), (logits.argmax(1) == batch[1]).float().mean()

        loss, accuracy = mean_over(split, 1000, measure)
        return {"loss": loss, "accuracy": accuracy}
