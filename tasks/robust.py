"""robust: a low-rank matrix under sparse outliers.

Source:      arXiv:2604.06652, robust factorisation.
Deviations:  The source names neither the loss nor noise beside the outliers: Huber's loss is minimised here, and there
             is none. A tenth of the entries is held out, outliers included, and chooses by the mean absolute error,
             which outliers hardly move. The test is of all entries of the matrix before it was corrupted.
Shapes:      a split has one row: target and mask (1, m, n); factors (m, k), (n, k)
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vrcli.tasks.base import Batch, Metric, Preset, Sourced, Split, Splits, Task, TaskConfig, TaskError, assumed, stated
from vrcli.tasks.completion import (
    PAPER,
    QUICK,
    SPACE,
    Factors,
    check_rank,
    masks,
    one_row,
    planted,
    preset,
    rmse,
    squared_error,
)


class RobustConfig(TaskConfig):
    dataset: Literal["synthetic"] = Field("synthetic", description="a planted matrix; there is no other")
    rows: int = Field(60, ge=2, description="m")
    columns: int = Field(80, ge=2, description="n")
    rank: int = Field(5, ge=1, description="rank of the planted matrix")
    extra_rank: int = Field(3, ge=0, description="how far the model's rank exceeds the planted one")
    outliers: float = Field(0.18, ge=0, lt=1, description="share of the entries that are corrupted")
    magnitude: float = Field(4.0, gt=0, description="what is added to or taken from a corrupted entry")
    criterion: Literal["huber", "l1", "mse"] = Field("huber", description="loss of an entry")
    val_fraction: float = Field(0.1, gt=0, lt=1, description="share of the entries that validate")
    init_scale: float = Field(0.1, gt=0, description="standard deviation of the factors at the start")
    l2: float = Field(1e-5, ge=0, description="weight of the sum of the squared factors in the objective")


def _size(rows: int, columns: int, rank: int, outliers: float, magnitude: float) -> dict[str, Sourced]:
    place = f"{rows}x{columns}"
    return {
        "rows": stated(rows, place),
        "columns": stated(columns, place),
        "rank": stated(rank, place),
        "outliers": assumed(outliers, "the source says 18 to 20% over its sizes"),
        "magnitude": assumed(magnitude, "the source says 4 to 5 over its sizes"),
        "extra_rank": stated(3, "model rank = true rank + 3"),
        "criterion": assumed("huber", "the source names no loss"),
        "init_scale": stated(0.1, "init scale 0.1"),
        "l2": stated(1e-5, "light L2 1e-5"),
        "epochs": stated(500, "500 steps, one an epoch"),
        "eval_every": assumed(5, "a hundredth of the run"),
    }


class Robust(Task[RobustConfig]):
    name = "robust"
    summary = "low-rank matrix factorisation under sparse outliers"
    metrics = (Metric("mae", "min"), Metric("rmse", "min"))
    Config = RobustConfig
    # Entries are of size 1 and outliers of size 5, so a mean loss this large only grows.
    diverged_above = 1e6
    presets = {
        "smoke": Preset(
            {
                "rows": assumed(15, "a check, not a result"),
                "columns": assumed(20, "a check, not a result"),
                "rank": assumed(2, "a check, not a result"),
                **preset({"epochs": assumed(30, "enough for ten steps of Adam and a flow")}),
            },
            QUICK,
            "15x20, 30 steps",
        ),
        "quick": Preset(
            preset(
                {
                    "rows": assumed(40, "two thirds of the paper's"),
                    "columns": assumed(50, "two thirds of the paper's"),
                    "rank": assumed(3, "two thirds of the paper's"),
                    "epochs": assumed(500, "as in the paper"),
                    "eval_every": assumed(5, "100 points"),
                }
            ),
            QUICK,
            "40x50 of rank 3",
        ),
        "paper": Preset(preset(_size(60, 80, 5, 0.18, 4.0)), PAPER, "60x80 of rank 5"),
        "paper-medium": Preset(preset(_size(80, 100, 8, 0.19, 4.5)), PAPER, "80x100 of rank 8"),
        "paper-large": Preset(preset(_size(100, 120, 10, 0.20, 5.0)), PAPER, "100x120 of rank 10"),
    }
    space = SPACE

    def files(self) -> list[Path]:
        return []

    def data(self, generator: torch.Generator) -> Splits:
        c = self.config
        shape, entries = (c.rows, c.columns), c.rows * c.columns
        check_rank("rank", c.rank, shape)
        clean = planted(shape, c.rank, generator)
        (hit,) = masks(shape, [round(c.outliers * entries)], generator)
        signs = torch.randint(2, shape, generator=generator) * 2 - 1
        corrupted = clean + c.magnitude * signs * hit
        held = round(c.val_fraction * entries)
        if not 0 < held < entries:
            raise TaskError(
                f"--val-fraction {c.val_fraction:g} leaves none of {entries:,} entries to fit or to validate"
            )
        train, val = masks(shape, [entries - held, held], generator)
        seen, held_out, whole = one_row(corrupted, train), one_row(corrupted, val), one_row(clean, torch.ones_like(val))
        about = f"{c.rows}x{c.columns} of rank {c.rank}, {100 * c.outliers:g}% outliers"
        return Splits(seen, held_out, whole, "synthetic", about)

    def model(self, data: Splits) -> nn.Module:
        c = self.config
        return Factors((c.rows, c.columns), c.rank + c.extra_rank, c.init_scale)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return self._misfit(model(), batch) + self.config.l2 * cast(Factors, model).squared()

    def _misfit(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Mean over the entries of the batch."""
        if self.config.criterion == "mse":
            return squared_error(prediction, batch)
        target, mask = batch
        each = F.huber_loss if self.config.criterion == "huber" else F.l1_loss
        return each(prediction * mask[0], target[0], reduction="sum") / mask[0].sum()

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        prediction = model().double()
        target, mask = split.tensors
        mae = ((prediction - target[0]).abs() * mask[0]).sum() / mask[0].sum()
        return {"mae": float(mae), "rmse": rmse(prediction, split)}
