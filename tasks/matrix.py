"""matrix: low-rank matrix completion.

Source:      arXiv:2604.06652, matrix completion, and its released scripts.
Deviations:  The released scripts give Adam half the L2 that they give FlowAdam; here all have the same objective, and
             the preset released has Adam's. The mean, not the sum, of squared errors is minimised; held-out entries
             carry noise as the seen ones do: the source says neither. A tenth of the entries that are not seen choose
             the step whose weights are tested; the source tests the last step's.
Shapes:      a split has one row: target and mask (1, m, n); factors (m, k), (n, k)
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


class MatrixConfig(TaskConfig):
    dataset: Literal["synthetic"] = Field("synthetic", description="a planted matrix; there is no other")
    rows: int = Field(200, ge=2, description="m")
    columns: int = Field(300, ge=2, description="n")
    rank: int = Field(10, ge=1, description="rank of the planted matrix")
    extra_rank: int = Field(5, ge=0, description="how far the model's rank exceeds the planted one")
    density: float = Field(0.3, gt=0, lt=1, description="share of the entries that are seen")
    noise: float = Field(0.1, ge=0, description="standard deviation of the noise on every entry")
    val_fraction: float = Field(0.1, gt=0, lt=1, description="share of the entries not seen that validate")
    init_scale: float = Field(0.1, gt=0, description="standard deviation of the factors at the start")
    l2: float = Field(1e-5, ge=0, description="weight of the sum of the squared factors in the objective")


def _size(rows: int, columns: int, rank: int, density: float, noise: float) -> dict[str, Sourced]:
    place = f"{rows}x{columns}"
    return {
        "rows": stated(rows, place),
        "columns": stated(columns, place),
        "rank": stated(rank, place),
        "density": stated(density, place),
        "noise": stated(noise, place),
        **ANY_SIZE,
    }


_SMALL = _size(200, 300, 10, 0.30, 0.1)


class Matrix(Task[MatrixConfig]):
    name = "matrix"
    summary = "low-rank matrix completion from noisy entries"
    metrics = METRICS
    Config = MatrixConfig
    # Entries are of size 1, so a mean square this large only grows.
    diverged_above = 1e6
    presets = {
        "smoke": Preset(
            {
                "rows": assumed(20, "a check, not a result"),
                "columns": assumed(30, "a check, not a result"),
                "rank": assumed(2, "a check, not a result"),
                **preset({"epochs": assumed(30, "enough for ten steps of Adam and a flow")}),
            },
            QUICK,
            "20x30, 30 steps",
        ),
        "quick": Preset(
            {
                "rows": assumed(60, "a third of the paper's"),
                "columns": assumed(80, "a third of the paper's"),
                "rank": assumed(4, "a third of the paper's"),
                "density": assumed(0.4, "about the paper's entries for each parameter"),
                **preset(
                    {
                        "epochs": assumed(600, "AdamW's validation error is past its least"),
                        "eval_every": assumed(10, "60 points"),
                    }
                ),
            },
            QUICK,
            "60x80 of rank 4",
        ),
        "paper": Preset(preset(_SMALL), PAPER, "200x300 of rank 10, 30% seen"),
        "paper-medium": Preset(preset(_size(300, 400, 15, 0.20, 0.1)), PAPER, "300x400 of rank 15, 20% seen"),
        "paper-large": Preset(preset(_size(400, 500, 20, 0.15, 0.15)), PAPER, "400x500 of rank 20, 15% seen"),
        "released": Preset(
            preset(
                _SMALL, l2=stated(5e-6, "released scripts: Adam's decay 1e-5 in the gradient is half of FlowAdam's")
            ),
            PAPER,
            "200x300 with the L2 that the released scripts give Adam",
        ),
    }
    space = {"*": {"lr": Real(1e-3, 0.3, log=True, origin="a decade or more on both sides of the paper's 0.01")}}

    def files(self) -> list[Path]:
        return []

    def data(self, generator: torch.Generator) -> Splits:
        c = self.config
        shape = (c.rows, c.columns)
        check_rank("rank", c.rank, shape)
        target = planted(shape, c.rank, generator)
        target += c.noise * torch.randn(shape, generator=generator)
        about = f"{c.rows}x{c.columns} of rank {c.rank}"
        return seen_and_held_out(target, c.density, c.val_fraction, generator, dataset="synthetic", about=about)

    def model(self, data: Splits) -> nn.Module:
        c = self.config
        return Factors((c.rows, c.columns), c.rank + c.extra_rank, c.init_scale)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return squared_error(model(), batch) + self.config.l2 * cast(Factors, model).squared()

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        return {"rmse": rmse(model(), split)}
