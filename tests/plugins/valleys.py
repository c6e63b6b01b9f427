"""Several tasks that take milliseconds: valleys of different widths, one without a ratio, one that fails."""

from __future__ import annotations

import torch
from pydantic import Field
from valley import Config, Valley

from vrcli.tasks.base import Metric


class Wide(Config):
    width: int = Field(6, ge=1, description="inputs")
    depth: int = Field(1, ge=1, description="what no other valley has")


class One(Valley):
    name = "one"


class Two(Valley):
    name = "two"
    Config = Wide


class Three(Valley):
    name = "three"


class Four(Valley):
    name = "four"


class Five(Valley):
    name = "five"


class Six(Valley):
    name = "six"


class Below(Valley):
    """Its losses are negative."""

    name = "below"

    def evaluate(self, model, split):
        return {"loss": super().evaluate(model, split)["loss"] - 1000.0}


class Failing(Valley):
    name = "failing"

    def loss(self, model, batch):
        raise RuntimeError("no gradient today")


class Rising(Valley):
    """More is better."""

    name = "rising"
    metrics = (Metric("gain", "max"),)

    def evaluate(self, model, split):
        with torch.no_grad():
            return {"gain": 1.0}
