"""A least-squares task small enough to check by hand, for the engine's tests."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from vrcli.tasks.base import Batch, Metric, Preset, Split, Splits, Task, TaskConfig, assumed, mean_over


class Toy(Task["Toy.Config"]):
    name = "toy"
    summary = "linear regression"
    metrics = (Metric("loss", "min"), Metric("accuracy", "max", percent=True))

    class Config(TaskConfig):
        rows: int = Field(24, ge=4)
        noise: float = Field(0.0, ge=0, description="noise added to the inputs by the loss")
        augment: float = Field(0.0, ge=0, description="noise added by train_batch")

    presets = {"quick": Preset({"epochs": assumed(3, "short"), "batch_size": assumed(8, "three steps an epoch")})}

    def data(self, generator: torch.Generator) -> Splits:
        n = self.config.rows
        x = torch.randn(n + 16, 3, generator=generator)
        y = x @ torch.tensor([1.0, -2.0, 0.5])
        splits = (slice(0, n), slice(n, n + 8), slice(n + 8, n + 16))
        return Splits(*(Split((x[s], y[s])) for s in splits), dataset="toy")

    def model(self, data: Splits) -> nn.Module:
        return nn.Linear(3, 1)

    def train_batch(self, split: Split, index: Tensor, generator: torch.Generator) -> Batch:
        x, y = split.take(index)
        return x + self.config.augment * torch.randn(x.shape, generator=generator), y

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        x = x + self.config.noise * torch.randn_like(x)
        return (model(x).squeeze(1) - y).square().mean()

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        def measure(batch: Batch) -> tuple[Tensor, ...]:
            error = (model(batch[0]).squeeze(1) - batch[1]).abs()
            return error.square().mean(), (error < 0.1).float().mean()

        loss, accuracy = mean_over(split, 4, measure)
        return {"loss": loss, "accuracy": accuracy}

    def artifacts(self, model: nn.Module, *, epoch: int, last: bool) -> dict[str, bytes]:
        return {"note.txt": b"done"} if last else {}
