"""momentum: how long the momentum is: the running mean of the gradients, or SGD's sum, as the optimizer keeps it.

Source:      arXiv 2505.13196: while the cutoff is inactive, lr_effective * ||v|| = lr ||v|| / (1 + beta3 ||v||^2) is at
             most lr / (2 sqrt(beta3)). Line 6 of Algorithm 1 measures a norm of its own, of the gradient where
             `normgrad` holds; here it is read from the state, so that the bound can be found broken.
Cost:        no gradient; one pass over the state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from vrcli.engine.probes.base import Probe, Values, View
from vrcli.optim.velocity_optimizer import VelocityOptimizer

#: What optimizers call the momentum.
NAMES = ("exp_avg", "velocity", "momentum_buffer", "momentum")


class Momentum(Probe):
    """Curves: `norm` (Euclidean, of all entries of the momentum after the step, without bias correction);
    of vradam and vrmomentum also `reach` (the norm times the effective learning rate; of several rates their mean) and
    `bound` (lr / (2 sqrt(beta3)), missing at steps at which the cutoff is active, and where the power is not 2).
    """

    name = "momentum"
    summary = "norm of the momentum; of vradam and vrmomentum also the bound of their step"

    def curves(self) -> Sequence[str]:
        return ("norm", "reach", "bound")

    def measure(self, view: View) -> Values:
        optimizer = view.optimizer
        states = [own for own in optimizer.state.values() if isinstance(own, dict)]  # some keep numbers beside them
        means = [own[name] for own in states for name in NAMES if torch.is_tensor(own.get(name))]
        if not means:
            view.notes.append(f"probe momentum: {type(optimizer).__name__} keeps no momentum")
            return {}
        # The host waits once for all tensors.
        norm = float(torch.stack([torch.linalg.vector_norm(mean, dtype=torch.float64) for mean in means]).norm())
        if not isinstance(optimizer, VelocityOptimizer):
            return {"norm": norm}
        reach = norm * float(optimizer.telemetry()["lr_effective"])
        return {"norm": norm, "reach": reach, "bound": _bound(optimizer, optimizer.param_groups[0])}


def _bound(optimizer: VelocityOptimizer, group: dict[str, Any]) -> float:
    penalty = float((group["beta3"] * optimizer.last_step[0].power_sum).max())
    if group["beta3"] == 0 or group["power"] != 2 or not penalty < group["lr_cutoff"]:
        return math.nan
    return float(group["lr"]) / (2 * math.sqrt(group["beta3"]))


PROBE = Momentum
