"""When a run has diverged: one rule, whoever's loop it is."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vrcli.tasks.base import Metric


def of_training(step: int, loss: float, bound: float) -> str:
    """Why a training loss ends its run; empty where it does not."""
    if not math.isfinite(loss):
        return f"loss not finite at step {step}"
    return f"loss {loss:g} above {bound:g} at step {step}" if loss > bound else ""


def of_evaluation(step: int, measured: Mapping[str, float], objective: Metric, bound: float) -> str:
    """Why an evaluation ends its run; empty where it does not.

    Args:
        measured: by the metrics' names, "loss".
        bound: of the loss: the objective where less of it is better, else the metric of that name.
    """
    names = [objective.name] if objective.direction == "min" else [objective.name, "loss"]
    for name in (name for name in names if name in measured):
        too_large = name == names[-1] and measured[name] > bound
        if too_large or not math.isfinite(measured[name]):
            return f"validation {name} {measured[name]:g} after step {step}"
    return ""
