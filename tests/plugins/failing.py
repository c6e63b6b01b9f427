"""Optimizers that raise at their first step."""

from __future__ import annotations

import torch


class Failing(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError("no step today")


class Other(Failing):
    pass
