"""What a run has measured: per-step values, kept on the device and read in blocks, and its best evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Value = Tensor | float

BLOCK_STEPS = 256
BLOCK_SECONDS = 0.5


@dataclass
class Best:
    """The best evaluation so far, and its weights on the device."""

    loss: float = math.nan  # the objective's value, whichever way it is better
    evaluation: int = 0
    epoch: float = 0
    step: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)


class Recorder:
    """Collects one row of scalars per step without waiting for the device, and reads them together.

    Args:
        step: the last one behind it.
        losses: what `losses` was then.
    """

    def __init__(self, step: int = 0, losses: tuple[float, int] = (0.0, 0)) -> None:
        self._rows: dict[str, list[Value]] = {}
        self._weights: list[int] = []
        self._first_step = step + 1
        self._opened = time.perf_counter()
        self._loss_sum, self._loss_weight = losses

    def put(self, values: Mapping[str, Value], samples: int) -> None:
        """One step's scalars; tensors must not be written to afterwards."""
        for name, value in values.items():
            self._rows.setdefault(name, []).append(value)
        self._weights.append(samples)

    @property
    def due(self) -> bool:
        """Whether the block is full or old enough to be shown."""
        return len(self._weights) >= BLOCK_STEPS or time.perf_counter() - self._opened >= BLOCK_SECONDS

    def flush(self) -> tuple[list[int], dict[str, list[float]]]:
        """(step numbers, values by metric) since the last flush: the only wait for the device."""
        steps = list(range(self._first_step, self._first_step + len(self._weights)))
        values = {name: _read(row) for name, row in self._rows.items()}
        for loss, weight in zip(values.get("train_loss", ()), self._weights, strict=False):
            self._loss_sum += loss * weight
            self._loss_weight += weight
        self._first_step += len(steps)
        self._rows, self._weights = {}, []
        self._opened = time.perf_counter()
        return steps, values

    @property
    def losses(self) -> tuple[float, int]:
        """Weighted sum of the flushed losses since the last `epoch_loss`, and their weight."""
        return self._loss_sum, self._loss_weight

    def epoch_loss(self) -> float:
        """Mean training loss, weighted by samples, of the flushed steps since the last call."""
        mean = self._loss_sum / self._loss_weight if self._loss_weight else float("nan")
        self._loss_sum, self._loss_weight = 0.0, 0
        return mean


def _read(row: list[Value]) -> list[float]:
    tensors = [value for value in row if isinstance(value, Tensor)]
    if len(tensors) < len(row):
        return [float(value) for value in row]
    read: list[float] = torch.stack([t.detach().float() for t in tensors]).tolist()
    return read
