"""Values by metric and step that wait to be written: tensors stay on their device until all are read at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vrcli.errors import UsageError
from vrcli.visible import has_controls, visible

#: Steps by metric, and the values at them.
Columns: TypeAlias = dict[str, tuple[list[int], list[float]]]
#: As many values wait at most, and as long.
MOST, LONGEST_S = 4096, 2.0
#: Columns of a database hold steps and names up to these.
_LAST_STEP, _LONGEST_NAME = 2**63 - 1, 255


class Points:
    """Collects points without waiting for the device.

    Args:
        last: the last step of each metric that is written already.
        longest_s: how long a value waits at most.
    """

    def __init__(self, last: Mapping[str, int] | None = None, longest_s: float = LONGEST_S) -> None:
        self._longest_s = longest_s
        self._steps: dict[str, list[int]] = {}
        self._values: dict[str, list[Any]] = {}
        self._last = dict(last or {})
        self._count = 0
        self._opened = time.monotonic()

    def put(self, step: int, values: Mapping[str, Tensor | float]) -> None:
        """Values at one step.

        Raises:
            UsageError: a metric has that step already or is beyond it, or a value is not a number.
        """
        check_step(step)
        read = {name: self._checked(name, step, value) for name, value in values.items()}
        for name, value in read.items():
            self._steps.setdefault(name, []).append(step)
            self._values.setdefault(name, []).append(value)
            self._last[name] = step
        self._count += len(read)

    def _checked(self, name: str, step: int, value: Any) -> Tensor | float:
        last = self._last.get(name)
        if last is None:
            check_name(name)
        elif step <= last:
            raise UsageError(f"{name} was recorded at step {last} already; steps must increase, got {step}")
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise UsageError(f"{name} must be one number, got a tensor of shape {tuple(value.shape)}")
            # A copy: a loop may write to its own. On the CPU reading it waits for nothing.
            return value.item() if value.device.type == "cpu" else value.detach().clone().reshape(())
        return number(name, value)

    @property
    def last(self) -> dict[str, int]:
        """The last step of each metric."""
        return dict(self._last)

    @property
    def due(self) -> bool:
        """Whether so much waits, or for so long, that it should be written."""
        return self._count >= MOST or (self._count > 0 and time.monotonic() - self._opened >= self._longest_s)

    def take(self) -> Columns:
        """All that waits; the only place that waits for the device."""
        found = {name: (self._steps[name], _read(values)) for name, values in self._values.items()}
        self._steps, self._values, self._count = {}, {}, 0
        self._opened = time.monotonic()
        return found


def check_step(step: Any) -> None:
    """Refuse what is not a step.

    Raises:
        UsageError: it is not a whole number from 0 on that a database holds.
    """
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= _LAST_STEP:
        raise UsageError(f"a step must be a whole number from 0 on, got {_short(step)}")


def check_name(name: str) -> None:
    """Refuse what no metric can be called.

    Raises:
        UsageError: it is empty, too long, or holds what cannot be printed or stored.
    """
    if not 0 < len(name) <= _LONGEST_NAME or has_controls(name):
        raise UsageError(f"a metric's name must have 1 to {_LONGEST_NAME} printable letters, got {_short(name)}")


def named(split: str, values: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Values of a split as numbers, by names that say the split: of "val" those of "loss" and "val_loss" are one.

    Raises:
        UsageError: a value is not a number.
    """
    own = (f"{split}_", "train_")
    for name in values:
        check_name(name)
    return {n if n.startswith(own) else f"{split}_{n}": number(n, value) for n, value in values.items()}


def measured_once(before: Mapping[str, float], values: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Values of the test split, as `named` has them.

    Args:
        before: what was measured of it already.

    Raises:
        UsageError: the same was measured before: whoever measures it twice chooses by it.
    """
    read = named("test", values)
    if twice := sorted(before.keys() & read.keys()):
        raise UsageError(f"{twice[0]} is recorded already; the test is measured once")
    return read


def number(name: str, value: Any) -> float:
    """A value as a number; a tensor is waited for.

    Raises:
        UsageError: it is none.
    """
    try:
        return float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise UsageError(f"{name} must be a number, got {_short(value)}") from None


def _short(value: Any) -> str:
    """A value as a message may quote it."""
    text = visible(repr(value))
    return text if len(text) <= 80 else f"{text[:80]}..."


def _read(values: list[Any]) -> list[float]:
    places = [i for i, value in enumerate(values) if isinstance(value, Tensor)]
    if places:
        for i, value in zip(places, torch.stack([values[i].float() for i in places]).tolist(), strict=True):
            values[i] = value
    return values
