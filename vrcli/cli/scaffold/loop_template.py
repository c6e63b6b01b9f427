"""spirals: two interleaved arms, trained by a loop of its own.

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

from vrcli.tasks.base import Metric, Preset, TaskConfig, assumed
from vrcli.tasks.loop import LoopRun, LoopTask
from vrcli.tasks.space import Real


class SpiralsConfig(TaskConfig):
    """Each field is an option of `vr run spirals`; its bounds are checked before anything is recorded."""

    points: int = Field(1000, ge=20, description="points of all splits together")
    hidden: int = Field(32, ge=1, description="units of the hidden layer")
    batch: int = Field(100, ge=1, description="points of each step")


class Spirals(LoopTask[SpiralsConfig]):
    name = "spirals"
    summary = "two interleaved arms, trained by a loop of its own"
    # The first metric is the objective: its validation value chooses weights and settings.
    metrics = (Metric("loss", "min", unit="nats"), Metric("accuracy", "max", percent=True))
    Config = SpiralsConfig
    diverged_above = 100.0  # nats; a run whose training loss is above it ends as diverged

    presets = {
        "quick": Preset(
            {"epochs": assumed(60, "enough for AdamW to separate the arms")},
            {"*": {"lr": assumed(0.01, "a common choice for a small network")}},
        ),
        "smoke": Preset({"epochs": assumed(2, "a check, not a result"), "points": assumed(200, "the same")}),
    }
    space = {"*": {"lr": Real(1e-4, 1e-1, log=True)}}

    def dataset(self) -> tuple[str, str]:
        # Name and identity. Nobody looks at your data: give another identity when they change.
        return "spirals", "version 1"

    def train(self, run: LoopRun) -> None:
        (x, y), val, test = self.points(run.device)
        h = self.config.hidden
        # The global generators are seeded by the run's seed already: these weights are the same for every optimizer.
        model = nn.Sequential(nn.Linear(2, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh(), nn.Linear(h, 2)).to(run.device)
        # The optimizer that --opt chose, with the settings it was given; its step follows --schedule.
        per_epoch = math.ceil(len(x) / self.config.batch)
        optimizer = run.optimizer(model, steps_per_epoch=per_epoch)
        # Random numbers of one purpose, which no optimizer changes: runs of one seed see the same batches.
        order = run.generator("order")
        # An interrupted run goes on where `save` wrote it down last.
        run.restore(model=model, optimizer=optimizer)

        # As many steps as the budget has (--epochs, --until), fewer where somebody asks the run to stop.
        for step in run.steps():
            index = torch.randint(len(x), (self.config.batch,), generator=order).to(run.device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[index]), y[index])
            loss.backward()
            optimizer.step()
            run.log(step, train_loss=loss)  # stays on its device until a block of values is read
            if step % per_epoch == 0:
                run.evaluate(step, **self.measured(model, *val))
            run.save(model=model, optimizer=optimizer)  # where it is time to, see --checkpoint-every

        run.best_weights()  # those of the best evaluation
        run.test(**self.measured(model, *test))

    def points(self, device: torch.device) -> list[tuple[Tensor, Tensor]]:
        """Training, validation and test points, which depend on the split's seed alone."""
        n = self.config.points
        generator = torch.Generator().manual_seed(self.config.split_seed)
        y = torch.arange(n) % 2
        radius = torch.rand(n, generator=generator).sqrt()
        angle = 2 * math.pi * radius + math.pi * y
        x = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
        x = x + 0.05 * torch.randn(n, 2, generator=generator)  # (n, 2)
        sizes = [n - 2 * (n // 5), n // 5, n // 5]
        return list(zip(x.to(device).split(sizes), y.to(device).split(sizes), strict=True))

    def measured(self, model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            logits = model(x)  # (n, 2)
            return {"loss": F.cross_entropy(logits, y), "accuracy": (logits.argmax(1) == y).float().mean()}
