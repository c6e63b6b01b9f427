"""A task that takes milliseconds: a linear model on a small fixed problem."""

from __future__ import annotations

import os
import signal
import time
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from vrcli.tasks.base import Metric, Preset, Split, Splits, Task, TaskConfig, TaskError, assumed
from vrcli.tasks.space import Categorical, Real


class Config(TaskConfig):
    width: int = Field(4, ge=1, description="inputs")
    sleep_s: float = Field(0.0, ge=0, description="seconds of sleep per step")
    trouble: Literal["raise", "die", "missing"] | None = Field(None, description="what goes wrong")


class Valley(Task[Config]):
    name = "valley"
    summary = "linear regression"
    metrics = (Metric("loss", "min"),)
    Config = Config
    presets = {
        "quick": Preset(
            {"epochs": assumed(3, "enough"), "batch_size": assumed(16, "small")},
            {"vradam": {"lr": assumed(0.02, "works")}},
        ),
        "smoke": Preset({"epochs": assumed(1, "CI"), "batch_size": assumed(32, "small")}),
    }
    space = {
        "vradam": {
            "lr": Real(1e-4, 1.0, log=True, origin="here"),
            "normgrad": Categorical((True, False), origin="here"),
        },
        "*": {"lr": Real(1e-5, 10.0, log=True, origin="for all")},
    }
    diverged_above = 1e4

    def data(self, generator: torch.Generator) -> Splits:
        if self.config.trouble == "missing":
            raise TaskError("dataset 'valley' is not there")
        x = torch.randn(96, self.config.width, generator=generator)
        y = x @ torch.arange(1.0, 1.0 + self.config.width) + 0.1 * torch.randn(96, generator=generator)
        parts = [Split((x[i : i + 32], y[i : i + 32])) for i in (0, 32, 64)]
        return Splits(*parts, dataset="valley")

    def model(self, data: Splits) -> nn.Module:
        return nn.Linear(self.config.width, 1)

    def loss(self, model, batch):
        time.sleep(self.config.sleep_s)
        if self.config.trouble == "raise" and "VALLEY_MENDED" not in os.environ:
            raise RuntimeError("no gradient today")
        if self.config.trouble == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        x, y = batch
        return (model(x).squeeze(1) - y).square().mean()

    def evaluate(self, model, split):
        x, y = split.tensors
        return {"loss": float((model(x).squeeze(1) - y).square().mean())}
