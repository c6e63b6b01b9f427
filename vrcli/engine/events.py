"""What the engine tells its listener while it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

#: How the training of a run ends.
Status: TypeAlias = Literal["completed", "diverged", "interrupted"]


@dataclass(frozen=True)
class Started:
    """The first event.

    Args:
        parameters: number of trainable scalars.
        total_steps: of a run that nothing ends early; None where its budget does not say.
        step: how many steps are behind it already.
    """

    parameters: int
    steps_per_epoch: int
    total_steps: int | None
    step: int = 0


@dataclass(frozen=True)
class Steps:
    """A block of per-step values, flushed from the device together.

    Args:
        steps: step numbers, counted from 1.
        values: by metric, one per step: `train_loss`, `lr_effective`, `grad_norm`, the optimizer's telemetry.
        epoch: the epoch that the block's last step belongs to, counted from 1.
        train_s: seconds of training so far, evaluation not counted.
        samples: training samples seen so far.
        share: of the budget used so far; above 1 where the last step took more than was left.
    """

    steps: Sequence[int]
    values: Mapping[str, Sequence[float]]
    epoch: int
    train_s: float
    samples: int
    share: float = 0.0


@dataclass(frozen=True)
class Eval:
    """An evaluation, after an epoch or between: one value per metric (`epoch_train_loss`, `val_loss`, ..., `wall_s`).

    Args:
        epoch: passes over the data so far; whole where every epoch is evaluated.
        number: of the evaluation, counted from 1.
        share: of the budget used so far.
    """

    epoch: float
    step: int
    values: Mapping[str, float]
    best: bool
    number: int = 0
    share: float = 0.0


@dataclass(frozen=True)
class Probed:
    """What a probe measured after a step: one value per curve, NaN where that could not be measured.

    Args:
        probe: its name.
        seconds: that it took, which are no training time.
        gradient_evaluations: that it took, which are none of the budget's.
        notes: what the run's user should read, a line each.
    """

    step: int
    values: Mapping[str, float]
    probe: str
    seconds: float
    gradient_evaluations: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Artifact:
    """A file to keep with the run."""

    name: str
    data: bytes
    step: int


@dataclass(frozen=True)
class Every:
    """How often a run is written down; an orderly stop always is.

    Args:
        seconds: so long after the last time.
        steps: so many steps after the last time; comes before seconds.
    """

    seconds: float = 60.0
    steps: int | None = None

    def due(self, seconds: float, steps: int) -> bool:
        """Whether it is time, so long and so many steps after the last time."""
        return seconds >= self.seconds if self.steps is None else steps >= self.steps


@dataclass(frozen=True)
class Checkpoint:
    """The state between two steps, to be written down before the next event is asked for: training goes on in it.

    Args:
        state: plain values and tensors; `vrcli.engine.loop.train` takes it back as `resume_from`.
    """

    step: int
    state: dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """The last event.

    Args:
        results: flat figures of the run; what was never measured is absent.
        reason: why it ended where that is not the end of its budget ("loss not finite at step 118, lr 0.08").
    """

    status: Status
    results: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


Event: TypeAlias = Started | Steps | Eval | Probed | Artifact | Checkpoint | Ended
