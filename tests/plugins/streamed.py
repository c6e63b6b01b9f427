"""A task whose data are read when they are needed; `dataset` chooses how they are given."""

from __future__ import annotations

import random

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from vrcli.tasks.base import Metric, Preset, Splits, Task, TaskConfig, assumed, mean_over
from vrcli.tasks.space import Real


class Noisy(Dataset):
    """Samples that augment themselves, from all three generators."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int):
        x = torch.linspace(-1, 1, 4) * (index % 7 - 3) / 3
        noise = 0.05 * (torch.randn(4) + np.random.randn() + random.gauss(0, 1))
        return x + noise, float(index % 7 - 3)


class Flow(IterableDataset):
    """The same as a stream of unknown length."""

    def __init__(self, size: int | None) -> None:
        self.size = size

    def __iter__(self):
        samples, index = Noisy(0), 0
        while self.size is None or index < self.size:
            yield samples[int(torch.randint(1000, ()))]
            index += 1


class Told(Flow):
    """One that says its length."""

    def __len__(self) -> int:
        return self.size


class Short(Told):
    """One that says more than it has."""

    def __len__(self) -> int:
        return self.size + 8


class Broken(Noisy):
    def __getitem__(self, index: int):
        if index == 5:
            raise OSError("shard 5 cannot be read")
        return super().__getitem__(index)


class Config(TaskConfig):
    steps_per_epoch: int | None = Field(None, ge=1, description="steps in an epoch of a stream")
    declared: str = Field("noisy, version 1", description="identity of the data")


GIVEN = {
    "noisy": lambda: Noisy(20),
    "flow": lambda: Flow(None),
    "told": lambda: Told(20),
    "short": lambda: Short(20),
    "broken": lambda: Broken(20),
    "empty": lambda: Noisy(0),
    "loader": lambda: DataLoader(Noisy(20)),
    "once": lambda: iter([(torch.zeros(4), 0.0)]),
    "number": lambda: 3,
    "tensors": lambda: TensorDataset(torch.zeros(20, 4), torch.zeros(20)),
    "words": lambda: [{"x": 1.0}] * 8,
}


class Streamed(Task[Config]):
    name = "streamed"
    summary = "a line through samples that are read"
    metrics = (Metric("loss", "min"),)
    Config = Config
    presets = {"quick": Preset({
        "dataset": assumed("noisy", "map style"), "epochs": assumed(2, "CI"), "batch_size": assumed(6, "an odd end"),
    })}  # fmt: skip
    space = {"*": {"lr": Real(1e-3, 1.0, log=True)}}

    def data(self, generator):
        train = GIVEN[self.config.dataset]()
        return Splits(train, Noisy(7), Flow(9), dataset=self.config.dataset, identity=self.config.declared)

    def model(self, data):
        return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))

    def loss(self, model, batch):
        x, y = batch
        return (model(x).squeeze(1) - y.float()).square().mean()

    def evaluate(self, model, split):
        (loss,) = mean_over(split, 4, lambda batch: (self.loss(model, batch),))
        return {"loss": loss}
