"""regression: least squares with an ill-conditioned design.

Source:      arXiv:2604.06652, ill-conditioned regression.
Deviations:  The source states no size: points, features, condition number and noise are chosen here.
Shapes:      a split has one row: x (1, n, d), y (1, n), the training set's least squares solution (1, d)
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from vrcli.tasks.base import Batch, Metric, Preset, Split, Splits, Task, TaskConfig, TaskError, assumed
from vrcli.tasks.completion import FULL_BATCH
from vrcli.tasks.space import Real


class RegressionConfig(TaskConfig):
    dataset: Literal["synthetic"] = Field("synthetic", description="a planted linear model; there is no other")
    points: int = Field(200, ge=1, description="training points; as many validate, and as many test")
    features: int = Field(20, ge=1, description="d")
    condition: float = Field(
        1e4, ge=1, description="of the features' covariance: its largest eigenvalue, 1, over its smallest"
    )
    noise: float = Field(0.1, ge=0, description="standard deviation of the noise on y")


_OPTIMIZERS = {
    "*": {"lr": assumed(0.01, "as in the paper's other tasks")},
    "flowadam": {"lr": assumed(0.01, "as in the paper's other tasks"), "mode": assumed("b", "full batch")},
}


class Regression(Task[RegressionConfig]):
    name = "regression"
    summary = "least squares with an ill-conditioned design"
    metrics = (Metric("loss", "min"), Metric("gap", "min"))
    Config = RegressionConfig
    # The targets are of size 1 to 5, so a mean square this large only grows.
    diverged_above = 1e6
    presets = {
        "smoke": Preset(
            {
                "epochs": assumed(30, "a check, not a result"),
                "features": assumed(5, "a check, not a result"),
                **FULL_BATCH,
            },
            _OPTIMIZERS,
            "5 features, 30 steps",
        ),
        "quick": Preset(
            {"epochs": assumed(500, "as the paper's quadratic"), "eval_every": assumed(5, "100 points"), **FULL_BATCH},
            _OPTIMIZERS,
            "20 features, condition number 10,000",
        ),
        "paper": Preset(
            {
                "points": assumed(500, "the source states no size"),
                "features": assumed(50, "the source states no size"),
                "condition": assumed(1e4, "the source says only: ill-conditioned"),
                "noise": assumed(0.1, "as the paper's matrices"),
                "epochs": assumed(1000, "as the paper's matrices"),
                "eval_every": assumed(10, "a hundredth of the run"),
                **FULL_BATCH,
            },
            _OPTIMIZERS,
            "50 features, condition number 10,000, 1000 steps",
        ),
    }
    space = {"*": {"lr": Real(1e-4, 1.0, log=True, origin="two decades on both sides of 0.01")}}

    def files(self) -> list[Path]:
        return []

    def data(self, generator: torch.Generator) -> Splits:
        c = self.config
        if c.points < c.features:
            raise TaskError(f"--points must be at least --features, {c.features}, for one solution, got {c.points}")
        turned, _ = torch.linalg.qr(torch.randn(c.features, c.features, generator=generator, dtype=torch.float64))
        spread = torch.logspace(0, -0.5, c.features, c.condition, dtype=torch.float64)  # roots of the eigenvalues
        weights = torch.randn(c.features, generator=generator, dtype=torch.float64)
        rows = []
        for _ in range(3):
            x = torch.randn(c.points, c.features, generator=generator, dtype=torch.float64) * spread @ turned.T
            rows.append((x, x @ weights + c.noise * torch.randn(c.points, generator=generator, dtype=torch.float64)))
        best = torch.linalg.lstsq(*(t if t.ndim > 1 else t[:, None] for t in rows[0])).solution[:, 0]
        train, val, test = (Split(tuple(t.float().unsqueeze(0) for t in (x, y, best))) for x, y in rows)
        return Splits(
            train, val, test, "synthetic", f"{c.points} points, {c.features} features, condition {c.condition:g}"
        )

    def model(self, data: Splits) -> nn.Module:
        linear = nn.Linear(self.config.features, 1, bias=False)
        nn.init.normal_(linear.weight)
        return linear

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y, _ = batch
        found: Tensor = (model(x[0]).squeeze(1) - y[0]).square().mean()
        return found

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Loss, and how far the predictions are from those of the training set's solution, in mean square.

        On the training set this gap is the loss minus its minimum.
        """
        x, y, best = (t[0].double() for t in split.tensors)
        weights = cast(Tensor, model.weight)[0].double()
        loss, gap = (x @ weights - y).square().mean(), (x @ (weights - best)).square().mean()
        values = torch.stack([loss, gap]).tolist()
        return {"loss": values[0], "gap": values[1]}
