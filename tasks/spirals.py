"""spirals: two interleaved spirals, binary classification by a narrow network.

Source:      arXiv:2604.06652, extreme two-spirals.
Deviations:  The source states neither the number of points, their radius nor noise: chosen here. Validation and test
             points lie elsewhere on the same arms.
Shapes:      a split has one row: x (1, n, 2), y (1, n); logits (n,)
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vrcli.tasks.base import Batch, Metric, Preset, Split, Splits, Task, TaskConfig, assumed, stated
from vrcli.tasks.completion import FULL_BATCH
from vrcli.tasks.space import Real

#: Pixels per side of the picture, and how far it reaches beyond the arms.
_PIXELS, _MARGIN = 320, 1.1
#: Blue and vermilion, which colour-blind people can tell apart, and their pale versions.
_COLOURS = ((0, 114, 178), (213, 94, 0))
#: Beside the lr that holds for every optimizer.
_MODE_B = {"flowadam": {"mode": assumed("b", "full batch")}}


class SpiralsConfig(TaskConfig):
    dataset: Literal["synthetic"] = Field("synthetic", description="generated points; there are no others")
    points: int = Field(200, ge=2, description="training points of each arm; as many validate, and as many test")
    degrees: float = Field(1200.0, gt=0, description="how far each arm turns")
    radius: float = Field(6.0, gt=0, description="of the arms' outer ends")
    noise: float = Field(0.0, ge=0, description="standard deviation added to both coordinates")
    hidden: int = Field(24, ge=1, description="units of each of the three hidden layers")
    picture: bool = Field(True, description="keep a picture of the decision boundary with the run")


class Spirals(Task[SpiralsConfig]):
    name = "spirals"
    summary = "two interleaved spirals, binary classification by a narrow network"
    metrics = (Metric("loss", "min", unit="nats"), Metric("accuracy", "max", percent=True))
    Config = SpiralsConfig
    # Nats; chance is ln 2.
    diverged_above = 1e4
    presets = {
        "smoke": Preset(
            {
                "points": assumed(20, "a check, not a result"),
                "degrees": assumed(180.0, "a check, not a result"),
                "epochs": assumed(20, "a check, not a result"),
                **FULL_BATCH,
            },
            {"*": {"lr": assumed(0.01, "a common choice for a small network")}, **_MODE_B},
            "half a turn, 20 steps",
        ),
        "quick": Preset(
            {
                "degrees": assumed(540.0, "separated within 1000 steps"),
                "epochs": assumed(1000, "a quarter of the paper's"),
                "eval_every": assumed(10, "100 points"),
                **FULL_BATCH,
            },
            {"*": {"lr": assumed(0.005, "as in the paper")}, **_MODE_B},
            "one and a half turns, 1000 steps",
        ),
        "paper": Preset(
            {
                "degrees": stated(1200.0, "extreme: 1200 degrees"),
                "hidden": stated(24, "MLP 2-24-24-24-1 tanh"),
                "epochs": stated(4000, "4000 full-batch steps"),
                "eval_every": assumed(20, "200 points"),
                **FULL_BATCH,
            },
            {"*": {"lr": stated(0.005, "lr 0.005")}, **_MODE_B},
            "1200 degrees, 4000 steps",
        ),
    }
    space = {"*": {"lr": Real(1e-4, 0.1, log=True, origin="a decade or more on both sides of the paper's 0.005")}}

    def files(self) -> list[Path]:
        return []

    def data(self, generator: torch.Generator) -> Splits:
        c = self.config
        n = 2 * c.points
        splits = []
        for _ in range(3):
            y = torch.arange(n) % 2
            share = torch.rand(n, generator=generator).sqrt()  # as many points on each length of arm
            angle = math.radians(c.degrees) * share + math.pi * y
            x = c.radius * share[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
            x = x + c.noise * torch.randn(n, 2, generator=generator)
            splits.append(Split((x.unsqueeze(0), y.float().unsqueeze(0))))
        about = f"generated, {n} points of two arms of {c.degrees:g} degrees"
        train, val, test = splits
        return Splits(train, val, test, "synthetic", about)

    def model(self, data: Splits) -> nn.Module:
        h = self.config.hidden
        hidden = [nn.Linear(2, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh()]
        network = nn.Sequential(*hidden, nn.Linear(h, 1))
        # not among the weights: what the picture shows beside them
        network.register_buffer("points", data.train.tensors[0][0], persistent=False)
        network.register_buffer("labels", data.train.tensors[1][0], persistent=False)
        return network

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return F.binary_cross_entropy_with_logits(model(x[0]).float().squeeze(1), y[0])

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        x, y = (t[0] for t in split.tensors)
        logits = model(x).float().squeeze(1)
        found = torch.stack([F.binary_cross_entropy_with_logits(logits, y), ((logits > 0) == (y > 0.5)).float().mean()])
        loss, accuracy = found.tolist()
        return {"loss": loss, "accuracy": accuracy}

    def artifacts(self, model: nn.Module, *, epoch: int, last: bool) -> dict[str, bytes]:
        return {"boundary.png": boundary(model, self.config.radius)} if last and self.config.picture else {}


def boundary(model: nn.Module, radius: float) -> bytes:
    """A PNG file of where the network decides for which arm, paler where it is less sure, with the training points.

    Args:
        model: with buffers `points` (n, 2) and `labels` (n,).
    """
    from io import BytesIO

    from PIL import Image, ImageDraw

    points, labels = model.get_buffer("points"), model.get_buffer("labels")
    reach = _MARGIN * radius
    side = torch.linspace(-reach, reach, _PIXELS, device=points.device)
    grid = torch.stack(torch.meshgrid(side, side.flip(0), indexing="xy"), -1).view(-1, 2)
    sure = torch.sigmoid(model(grid).float()).view(_PIXELS, _PIXELS, 1).cpu()
    blue, vermilion = (torch.tensor(colour).float() for colour in _COLOURS)
    colour = torch.where(sure < 0.5, blue, vermilion)
    strength = 0.15 + 0.85 * (2 * sure - 1).abs()
    pixels = 255 + 0.55 * strength * (colour - 255)
    picture = Image.fromarray(pixels.round().to(torch.uint8).numpy())
    pen = ImageDraw.Draw(picture)
    for (x, y), label in zip(points.tolist(), labels.tolist(), strict=True):
        column, row = ((x / reach + 1) * (_PIXELS - 1) / 2, (1 - y / reach) * (_PIXELS - 1) / 2)
        pen.ellipse((column - 2, row - 2, column + 2, row + 2), fill=_COLOURS[int(label)], outline=(255, 255, 255))
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
