"""A task with a loop of its own that takes milliseconds: a line through noise."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from vrcli.tasks.base import Metric, Preset, TaskConfig, assumed
from vrcli.tasks.loop import LoopRun, LoopTask
from vrcli.tasks.space import Real


class Config(TaskConfig):
    width: int = Field(4, ge=1, description="inputs")
    trouble: (
        Literal[
            "raise",
            "nan",
            "twice",
            "back",
            "silent",
            "deaf",
            "unsaved",
            "beyond",
            "exit",
            "val nan",
            "unrestored",
            "second",
            "half",
            "text",
            "unmeasured",
        ]
        | None
    ) = Field(None, description="what goes wrong")


class Looping(LoopTask[Config]):
    name = "looping"
    summary = "linear regression by a loop of its own"
    metrics = (Metric("loss", "min"), Metric("error", "min"))
    Config = Config
    presets = {
        "quick": Preset({"epochs": assumed(4, "enough")}, {"*": {"lr": assumed(0.02, "works")}}),
        "smoke": Preset({"epochs": assumed(2, "CI")}),
    }
    space = {"*": {"lr": Real(1e-4, 1.0, log=True, origin="here")}}
    diverged_above = 1e4

    def train(self, run: LoopRun) -> None:
        trouble = self.config.trouble
        data = torch.Generator().manual_seed(self.config.split_seed)
        x = torch.randn(64, self.config.width, generator=data)
        y = x @ torch.arange(1.0, 1.0 + self.config.width) + 0.1 * torch.randn(64, generator=data)
        model = nn.Linear(self.config.width, 1).to(run.device)
        optimizer = run.optimizer(model, steps_per_epoch=5)
        if trouble == "second":
            run.optimizer(nn.Linear(1, 1))
        order = run.generator("order")

        def loss_of(rows: torch.Tensor) -> torch.Tensor:
            return (model(x[rows]).squeeze(1) - y[rows]).square().mean()

        if trouble != "unrestored":
            run.restore(model=model, optimizer=optimizer)
        steps = range(1, 10**6) if trouble in ("deaf", "beyond") else run.steps()
        for step in steps:
            optimizer.zero_grad()
            loss = loss_of(torch.randint(32, (8,), generator=order)) + 0.01 * torch.rand(())
            loss.backward()
            optimizer.step()
            if trouble == "raise" and step == 3:
                raise ValueError("no luck")
            if trouble == "exit" and step == 3:
                raise SystemExit(3)
            factor = float("nan") if trouble == "nan" else 1.0
            run.log(step - 2 * (trouble == "back" and step == 4), train_loss=loss * factor)
            if trouble == "twice":
                run.log(step, train_loss=loss)
            if step % 5 == 0 and trouble not in ("silent", "unmeasured"):
                model.eval()
                with torch.no_grad():
                    value = loss_of(torch.arange(32, 48)) * (float("nan") if trouble == "val nan" else 1)
                    at: Any = {"half": step + 0.5, "text": "seven"}.get(trouble or "", step)
                    run.evaluate(at, val_loss=value, val_error=value.sqrt())
                model.train()
            if trouble != "unsaved":
                run.save(model=model, optimizer=optimizer)
        if trouble == "unmeasured":
            return
        run.best_weights()
        with torch.no_grad():
            run.test(loss=loss_of(torch.arange(48, 64)), error=loss_of(torch.arange(48, 64)).sqrt())


class Sparse(Looping):
    """Counts its steps by itself; of `gather` batches it makes one step of the optimizer, and it says little."""

    name = "sparse"
    gather = 1
    said_every = 1

    def train(self, run: LoopRun) -> None:
        model = nn.Linear(1, 1)
        optimizer = run.optimizer(model, steps_per_epoch=10)
        for step in range(1, 41):
            model(torch.ones(1, 1)).square().sum().backward()
            if step % self.gather == 0:
                optimizer.step()
                optimizer.zero_grad()
            if step % self.said_every == 0:
                run.log(step, train_loss=1.0)
        run.evaluate(40, val_loss=1.0)
        run.test(loss=1.0)


class Gathering(Sparse):
    name = "gathering"
    gather = 4


class Quiet(Sparse):
    name = "quiet"
    said_every = 10


class Stepping(Looping):
    """Gathers four batches for a step of the optimizer, and takes its steps from the run."""

    name = "stepping"

    def train(self, run: LoopRun) -> None:
        model = nn.Linear(1, 1)
        optimizer = run.optimizer(model, steps_per_epoch=10)
        for step in run.steps():
            model(torch.ones(1, 1)).square().sum().backward()
            if step % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
            run.log(step, train_loss=1.0)
        run.evaluate(40, val_loss=1.0)
        run.test(loss=1.0)


class Rewarded(Looping):
    """More of its objective is better; its loss is beside it, and no number in the end."""

    name = "rewarded"
    metrics = (Metric("reward", "max"), Metric("loss", "min"))

    def train(self, run: LoopRun) -> None:
        for step in run.steps():
            run.log(step, train_loss=1.0)
            run.evaluate(step, val_reward=step, val_loss={"nan": float("nan"), "beyond": 2e4}[str(self.config.trouble)])
        run.test(reward=1.0)


class Gaining(Looping):
    """More of its objective is better, and every loop ends."""

    name = "gaining"
    metrics = (Metric("gain", "max"),)

    def train(self, run: LoopRun) -> None:
        x = torch.randn(16, 2)
        model = nn.Linear(2, 1)
        optimizer = run.optimizer(model, steps_per_epoch=2)
        for step in run.steps():
            optimizer.zero_grad()
            loss = (model(x)[:, 0] - x.sum(1)).square().mean()
            loss.backward()
            optimizer.step()
            run.log(step, train_loss=loss)
            run.evaluate(step, val_gain=1 / (1 + loss.detach()))
        run.test(gain=1 / (1 + loss.detach()))
