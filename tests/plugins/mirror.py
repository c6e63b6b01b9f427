"""The same task three times: its objective to be minimised, its negative to be maximised, and an accuracy."""

from __future__ import annotations

import torch
from torch import nn

from vrcli.tasks.base import Metric, Preset, Split, Splits, Task, TaskConfig, assumed
from vrcli.tasks.space import Real


class _Line(Task[TaskConfig]):
    """A noisy line; its revision, and so its code, is the same in all three."""

    summary = "linear regression"
    presets = {"quick": Preset({"epochs": assumed(4, "enough"), "batch_size": assumed(8, "small")})}
    space = {"*": {"lr": Real(1e-3, 10.0, log=True, origin="here")}}
    diverged_above = 1e4

    def data(self, generator: torch.Generator) -> Splits:
        x = torch.randn(96, 4, generator=generator)
        y = x @ torch.arange(1.0, 5.0) + 0.5 * torch.randn(96, generator=generator)
        return Splits(*(Split((x[i : i + 32], y[i : i + 32])) for i in (0, 32, 64)), dataset="line")

    def model(self, data: Splits) -> nn.Module:
        return nn.Linear(4, 1)

    def loss(self, model, batch):
        x, y = batch
        noise = torch.randn(len(y))  # so that epochs have a best that is not the last
        return (model(x).squeeze(1) - y + noise).square().mean()

    def error(self, model, split):
        x, y = split.tensors
        return float((model(x).squeeze(1) - y).square().mean())


class Down(_Line):
    name = "down"
    metrics = (Metric("q", "min"),)

    def evaluate(self, model, split):
        return {"q": self.error(model, split)}


class Up(_Line):
    name = "up"
    metrics = (Metric("q", "max"),)

    def evaluate(self, model, split):
        return {"q": -self.error(model, split)}


class Signs(_Line):
    """Whether a value is positive: the objective is an accuracy, the loss stands beside it."""

    name = "signs"
    metrics = (Metric("accuracy", "max", percent=True), Metric("loss", "min"))

    def loss(self, model, batch):
        x, y = batch
        return nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(1), (y > 0).float())

    def evaluate(self, model, split):
        x, y = split.tensors
        return {
            "accuracy": float(((model(x).squeeze(1) > 0) == (y > 0)).float().mean()),
            "loss": float(self.loss(model, split.tensors)),
        }
