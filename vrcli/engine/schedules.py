"""Learning-rate schedules as pure functions of the step and of the share of the budget used."""

from __future__ import annotations

import math
from typing import Protocol

from vrcli.spec import Rates, Training


class Schedule(Protocol):
    def __call__(self, lr: float, step: int, total: float = ...) -> float:
        """The rate at a step.

        Args:
            step: counted from 0.
            total: steps of the whole run, as far as they are known: the step divided by the share of the budget used.
        """


def make(training: Training, steps_per_epoch: int, total_steps: float = math.inf) -> Schedule | None:
    """The learning rate at a step for a given maximal rate; None where it is constant.

    `warmup-cosine`: linear from `warmup_factor` to 1 over `warmup_epochs`, then a half cosine to `eta_min` at the last
    step. A warm-up longer than the run is cut to its length.
    """
    if training.schedule == "constant":
        return None
    whole_warmup = round(training.warmup_epochs * steps_per_epoch)
    start, floor = training.warmup_factor, training.eta_min

    def warmup_cosine(lr: float, step: int, total: float = total_steps) -> float:
        warmup = min(whole_warmup, total)
        if step < warmup:
            return lr * (start + (1 - start) * step / warmup)
        progress = (step - warmup) / max(1, total - 1 - warmup)
        return floor + (lr - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return warmup_cosine


def replay(rates: Rates, base: float) -> Schedule:
    """The rates of another run at the same steps.

    Args:
        base: the optimizer's `lr`; a group of parameters with another one keeps its ratio to it.
    """

    def replayed(lr: float, step: int, total: float = math.inf) -> float:
        rate = rates.values[step]
        return rate if lr == base else rate * (lr / base)

    return replayed
