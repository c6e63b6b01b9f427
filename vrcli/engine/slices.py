"""The loss where no run has been: along the straight line between the weights of two runs.

Source:      Frankle et al., arXiv 1912.05671 (linear mode connectivity): two networks are connected where the loss
             along the line does not rise above the line between the losses of its ends.
Deviations:  the running statistics of batch norm lie on the line, too; they are not measured again at each point, so
             that a rise may be theirs. Units are not permuted to match.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vrcli.engine.evaluation import evaluate
from vrcli.engine.prepare import Prepared
from vrcli.tasks.base import Stream

Weights = Mapping[str, Tensor]


def path(prepared: Prepared, first: Weights, second: Weights, at: Sequence[float]) -> dict[str, list[float]]:
    """The task's metrics at (1 - t) first + t second, by name: those of training without augmentation, validation and
    test. Of a training stream there are none.

    Args:
        first: every entry of the model's `state_dict`; what is no floating-point number is taken from here.
        second: the same entries.
        at: each t.
    """
    splits = {name: getattr(prepared.data, name) for name in ("train", "val", "test")}
    splits = {name: split for name, split in splits.items() if not isinstance(split, Stream)}
    found: dict[str, list[float]] = {
        f"{split}_{metric.name}": [] for split in splits for metric in prepared.task.metrics
    }
    prepared.model.eval()
    for t in at:
        prepared.model.load_state_dict({name: _between(one, second[name], t) for name, one in first.items()})
        for split, data in splits.items():
            for name, value in evaluate(prepared, data).items():
                found[f"{split}_{name}"].append(value)
    return found


def _between(one: Tensor, other: Tensor, t: float) -> Tensor:
    """Exactly an end where t is 0 or 1."""
    if not one.is_floating_point() or t == 0:
        return one
    return other if t == 1 else torch.lerp(one, other, t)
