"""The contract of a task: what a plugin provides, and what the engine may rely on.

A task is one class in one file: data, model, loss, metrics, presets and search spaces. The engine owns the loop, the
seeding, the optimizer and the device; a task never sees them. Contract tests over every registered task hold it to
what is written here.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from vrcli.tasks.errors import TaskError as TaskError
from vrcli.tasks.own import OwnProgram
from vrcli.tasks.space import Space
from vrcli.tasks.splits import Split as Split
from vrcli.tasks.splits import Splits as Splits
from vrcli.tasks.splits import Stream as Stream
from vrcli.tasks.streams import Batch as Batch


@dataclass(frozen=True)
class Metric:
    """One number that `Task.evaluate` returns.

    Args:
        name: quantity without its split ("loss", "accuracy"); curves are called `val_loss`, `test_accuracy`.
        direction: whether smaller or larger is better.
        unit: unit of the value ("nats", "%"); empty for a pure number.
        percent: shown times 100 with a % sign.
        shown: stands beside the objective wherever results are shown, see `headline`.
    """

    name: str
    direction: Literal["min", "max"]
    unit: str = ""
    percent: bool = False
    shown: bool = False


def headline(metrics: Sequence[Metric]) -> list[Metric]:
    """What tables and progress show of a task's metrics: the objective and those marked `shown`, or else the second."""
    return [metrics[0], *([m for m in metrics[1:] if m.shown] or metrics[1:2])]


@dataclass(frozen=True)
class Sourced:
    """A preset's value with its provenance."""

    value: Any
    kind: Literal["stated", "assumed"]
    why: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.why}"


def stated(value: Any, where: str) -> Sourced:
    """A value that the source states, and where ("Table 5")."""
    return Sourced(value, "stated", where)


def assumed(value: Any, why: str) -> Sourced:
    """A value chosen here because the source is silent, and why."""
    return Sourced(value, "assumed", why)


@dataclass(frozen=True)
class Preset:
    """A named configuration of a task.

    Args:
        settings: values by name, of the task's `Config` and of the training settings (`epochs`, `batch_size`,
            `schedule`, ...) alike: the names are disjoint. What is not named keeps its default.
        optimizers: settings by optimizer name; "*" holds for every optimizer that has a setting of that name.
        summary: one line for listings.
    """

    settings: Mapping[str, Sourced]
    optimizers: Mapping[str, Mapping[str, Sourced]] = field(default_factory=dict)
    summary: str = ""


class TaskConfig(BaseModel):
    """Settings of a task. Subclasses add fields with bounds and a description; both become command-line options."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset: str = Field("", description="data set: a name the task knows, or a local folder")
    split_seed: int = Field(0, ge=0, description="seed of the train/validation split (the same for every run seed)")


C = TypeVar("C", bound=TaskConfig)


class Task(OwnProgram, ABC, Generic[C]):
    """One thing to train, built from a validated config.

    The engine calls, in this order: `data` once; `model` once, after seeding the global random generator; then per
    step `train_batch` and `loss`, per epoch `evaluate` on the validation split, and once on the test split. Data and
    model are moved to the device by the engine. Everything random in `loss` (dropout, noise) uses the global
    generator, which the engine seeds from (seed, step) before every evaluation of the loss; `train_batch` uses only
    the generator it is given. So data order, augmentation and noise are the same for every optimizer.

    Args:
        config: an instance of the class's `Config`.
        data_dir: where downloads are kept and looked for; `None` for the user's cache folder.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    #: The first metric is the objective: its validation value selects weights and guides sweeps.
    metrics: ClassVar[tuple[Metric, ...]]
    Config: ClassVar[type[TaskConfig]] = TaskConfig
    #: "smoke", "quick" (the default), "paper", "released" and any others.
    presets: ClassVar[Mapping[str, Preset]]
    #: Search spaces by optimizer name. One that is named has exactly its entry. Any other has its own space and "*",
    #: which replaces general ranges (of lr, for AdamW), but none that was chosen for that optimizer (those of VRAdam).
    space: ClassVar[Mapping[str, Space]] = {}
    #: A training or validation loss above this counts as diverged.
    diverged_above: ClassVar[float] = float("inf")
    #: Why the loss of one batch cannot be evaluated twice (optimizers that need a closure are then refused), or empty.
    no_closure: ClassVar[str] = ""
    #: Of vr's own tasks: raised by hand when the same settings give other numbers than before.
    revision: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "ceiling" in vars(cls):  # passed over, it would leave diverged runs in every mean
            raise TypeError(f"{cls.__name__} sets ceiling; a task's bound is called diverged_above")

    def __init__(self, config: C, *, data_dir: Path | None = None) -> None:
        self.config = config
        self.data_dir = data_dir

    @abstractmethod
    def data(self, generator: torch.Generator) -> Splits:
        """Load the data on the CPU. `generator` is seeded from `split_seed` alone.

        Raises:
            TaskError: the data set is not there, or not what the task needs.
        """

    @classmethod
    def shares_steps(cls, config: C, batch_size: int) -> bool:
        """Whether a step is long enough for several CPU threads to share it; where not, runs take one unless told.

        Threads wait for each other many times in a step. Where the work between is short they gain nothing, and lose
        much as soon as another process is busy. The number of threads is part of what decides a curve: it may depend
        on the settings, never on the machine's load.
        """
        return True

    def files(self) -> Sequence[Path] | None:
        """Every file that `data` reads, by which unchanged data are known without loading them.

        Returns:
            None where that cannot be said; the data are then loaded each time. No file where all is computed.
        """
        return None

    @abstractmethod
    def model(self, data: Splits) -> nn.Module:
        """A freshly initialised model, from the global random generator."""

    def train_batch(self, split: Split, index: Tensor, generator: torch.Generator) -> Batch:
        """Gather, and where the task wants it augment, the training samples at `index` (B,), on the device.

        Called for tensors only: samples of a `Stream` augment themselves.

        Args:
            generator: on the data's device, seeded from (seed, epoch).
        """
        return split.take(index)

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The scalar to minimise for one batch, differentiable. No host synchronisation."""

    @abstractmethod
    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Exactly the declared metrics over a whole split.

        Called under `no_grad` with the model in eval mode and the global generator seeded with a constant; weighted
        exactly by samples (or tokens), with a single host synchronisation at the end.
        """

    def artifacts(self, model: nn.Module, *, epoch: int, last: bool) -> dict[str, bytes]:
        """Files to keep with the run after an epoch ("samples.png"), by name. Same conditions as `evaluate`."""
        return {}


def generator_of(weights: Tensor) -> torch.Generator:
    """A generator on the weights' device, seeded by them: for evaluations that draw anew at every call.

    It draws something else whenever the weights have changed, and still the same in the same run.
    """
    digest = hashlib.blake2b(weights.detach().float().cpu().numpy().tobytes(), digest_size=6).digest()
    return torch.Generator(weights.device).manual_seed(int.from_bytes(digest, "little"))


def mean_over(
    split: Split,
    size: int,
    measure: Callable[[Batch], tuple[Tensor, ...]],
    weight: Callable[[Batch], int] = lambda b: len(b[0]),
) -> list[float]:
    """Weighted means of per-batch means over a whole split, with one host synchronisation.

    Args:
        size: samples per batch.
        measure: scalars of one batch, each a mean over that batch.
        weight: what one batch's means count for: samples by default.

    Returns:
        One mean per scalar that `measure` returns, accumulated in float64.
    """
    weights, found = [], []
    for batch in split.chunks(size):
        weights.append(weight(batch))
        found.append(torch.stack([value.double() for value in measure(batch)]))
    if not found:
        raise TaskError("a split that is evaluated gave no samples")
    rows = torch.stack(found)
    column = torch.tensor(weights, dtype=torch.float64, device=rows.device).unsqueeze(1)
    means: Sequence[float] = ((rows * column).sum(0) / column.sum()).tolist()
    return list(means)
