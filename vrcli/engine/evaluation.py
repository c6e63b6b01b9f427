"""What weights are worth: the task's metrics on a split, as a function of the weights alone."""

from __future__ import annotations

import torch

from vrcli.engine.prepare import Prepared
from vrcli.engine.seeding import GlobalNoise
from vrcli.tasks.base import Split

#: Seed of the global generator during every evaluation.
SEED = 20250519


def autocast(prepared: Prepared) -> torch.autocast:
    """In what precision a run computes."""
    dtype = prepared.autocast
    return torch.autocast(prepared.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def evaluate(prepared: Prepared, split: Split) -> dict[str, float]:
    """The metrics of a model that is in evaluation mode."""
    with torch.no_grad(), autocast(prepared):
        GlobalNoise(prepared.device).seed(SEED)
        return prepared.task.evaluate(prepared.model, split)
