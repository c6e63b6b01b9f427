"""Learning-rate schedules as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable

from vrcli.spec import Training

Schedule = Callable[[float, int], float]


def make(training: Training, steps_per_epoch: int, total_steps: int) -> Schedule | None:
    """The learning rate at a step (counted from 0) for a given maximal rate; None where it is constant.

    `warmup-cosine`: linear from `warmup_factor` to 1 over `warmup_epochs`, then a half cosine to `eta_min` at the last
    step. A warm-up longer than the run is cut to its length.
    """
    if training.schedule == "constant":
        return None
    warmup = min(round(training.warmup_epochs * steps_per_epoch), total_steps)
    start, floor = training.warmup_factor, training.eta_min

    def warmup_cosine(lr: float, step: int) -> float:
        if step < warmup:
            return lr * (start + (1 - start) * step / warmup)
        progress = (step - warmup) / max(1, total_steps - 1 - warmup)
        return floor + (lr - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return warmup_cosine
