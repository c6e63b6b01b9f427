"""tensor: completion of a tensor of three modes by a sum of outer products (CP).

Source:      arXiv:2604.06652, CP tensor completion, and its released scripts.
Deviations:  As for `vrcli.tasks.matrix`.
Shapes:      a split has one row: target and mask (1, a, b, c); factors (a, k), (b, k), (c, k)
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from vrcli.tasks.base import Batch, Preset, Sourced, Split, Splits, Task, TaskConfig, assumed, stated
from vrcli.tasks.completion import (
    ANY_SIZE,
    METRICS,
    PAPER,
    QUICK,
    Factors,
    check_rank,
    planted,
    preset,
    rmse,
    seen_and_held_out,
    squared_error,
)
from vrcli.tasks.space import Real


class TensorConfig(TaskConfig):
    dataset: Literal["synthetic"] = Field("synthetic", description="a planted tensor; there is no other")
    first: int = Field(30, ge=2, description="size of the first mode")
    second: int = Field(40, ge=2, description="size of the second mode")
    third: int = Field(50, ge=2, description="size of the third mode")
    rank: int = Field(5, ge=1, description="outer products in the planted tensor")
    extra_rank: int = Field(5, ge=0, description="how far the model's rank exceeds the planted one")
    density: float = Field(0.1, gt=0, lt=1, description="share of the entries that are seen")
    noise: float = Field(0.1, ge=0, description="standard deviation of the noise on every entry")
    val_fraction: float = Field(0.1, gt=0, lt=1, description="share of the entries not seen that validate")
    init_scale: float = Field(0.1, gt=0, description="standard deviation of the factors at the start")
    l2: float = Field(1e-5, ge=0, description="weight of the sum of the squared factors in the objective")


def _size(first: int, second: int, third: int, rank: int, density: float) -> dict[str, Sourced]:
    place = f"{first}x{second}x{third}"
    return {
        "first": stated(first, place),
        "second": stated(second, place),
        "third": stated(third, place),
        "rank": stated(rank, place),
        "density": stated(density, place),
        "noise": stated(0.1, "noise .1"),
        **ANY_SIZE,
    }


_SMALL = _size(30, 40, 50, 5, 0.10)


class Tensor3(Task[TensorConfig]):
    name = "tensor"
    summary = "completion of a low-rank tensor of three modes from noisy entries"
    metrics = METRICS
    Config = TensorConfig
    # Entries are of size 1, so a mean square this large only grows.
    diverged_above = 1e6
    presets = {
        "smoke": Preset(
            {
                "first": assumed(6, "a check, not a result"),
                "second": assumed(7, "a check, not a result"),
                "third": assumed(8, "a check, not a result"),
                "rank": assumed(2, "a check, not a result"),
                "density": assumed(0.4, "entries for each parameter"),
                "init_scale": assumed(0.5, "products of three small factors hardly move in 30 steps"),
                **preset({"epochs": assumed(30, "enough for ten steps of Adam and a flow")}),
            },
            QUICK,
            "6x7x8, 30 steps",
        ),
        "quick": Preset(
            {
                "first": assumed(15, "half of the paper's"),
                "second": assumed(20, "half of the paper's"),
                "third": assumed(25, "half of the paper's"),
                "rank": assumed(3, "about half of the paper's"),
                "density": assumed(0.2, "about the paper's entries for each parameter"),
                **preset({"epochs": assumed(1000, "as in the paper"), "eval_every": assumed(10, "100 points")}),
            },
            QUICK,
            "15x20x25 of rank 3",
        ),
        "paper": Preset(preset(_SMALL), PAPER, "30x40x50 of rank 5, 10% seen"),
        "paper-medium": Preset(preset(_size(40, 50, 60, 8, 0.08)), PAPER, "40x50x60 of rank 8, 8% seen"),
        "paper-large": Preset(preset(_size(50, 60, 70, 10, 0.08)), PAPER, "50x60x70 of rank 10, 8% seen"),
        "released": Preset(
            preset(
                _SMALL, l2=stated(5e-6, "released scripts: Adam's decay 1e-5 in the gradient is half of FlowAdam's")
            ),
            PAPER,
            "30x40x50 with the L2 that the released scripts give Adam",
        ),
    }
    space = {"*": {"lr": Real(1e-3, 0.3, log=True, origin="a decade or more on both sides of the paper's 0.01")}}

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.config.first, self.config.second, self.config.third

    def files(self) -> list[Path]:
        return []

    def data(self, generator: torch.Generator) -> Splits:
        c = self.config
        check_rank("rank", c.rank, self.shape)
        target = planted(self.shape, c.rank, generator)
        target += c.noise * torch.randn(self.shape, generator=generator)
        about = f"{'x'.join(map(str, self.shape))} of rank {c.rank}"
        return seen_and_held_out(target, c.density, c.val_fraction, generator, dataset="synthetic", about=about)

    def model(self, data: Splits) -> nn.Module:
        return Factors(self.shape, self.config.rank + self.config.extra_rank, self.config.init_scale)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return squared_error(model(), batch) + self.config.l2 * cast(Factors, model).squared()

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        return {"rmse": rmse(model(), split)}
