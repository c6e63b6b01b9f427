"""The contract of a task: what a plugin provides, and what the engine may rely on.

A task is one class in one file: data, model, loss, metrics, presets and search spaces. The engine owns the loop, the
seeding, the optimizer and the device; a task never sees them. Contract tests over every registered task hold it to
what is written here.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, Subset

from vrcli.tasks import streams
from vrcli.tasks.errors import TaskError as TaskError
from vrcli.tasks.own import OwnProgram
from vrcli.tasks.space import Space
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


@dataclass(frozen=True)
class Split:
    """Tensors that share their first dimension: one row per sample.

    Args:
        tensors: what `take` gathers into a batch, each (n, ...).
    """

    tensors: tuple[Tensor, ...]

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def to(self, device: torch.device, workers: int = 0) -> Split:
        return Split(tuple(t.to(device) for t in self.tensors))

    def take(self, index: Tensor) -> Batch:
        """The rows at `index`, an int64 tensor (B,) on the same device."""
        return tuple(t.index_select(0, index) for t in self.tensors)

    def chosen(self, index: Tensor) -> Split:
        """The split of the samples at `index`, an int64 tensor (k,)."""
        return Split(self.take(index))

    def chunks(self, size: int) -> Iterable[Batch]:
        """The whole split in order, as views of at most `size` rows each: for evaluation."""
        return [tuple(parts) for parts in zip(*(t.split(size) for t in self.tensors), strict=True)]


@dataclass(frozen=True)
class Stream(Split):
    """Samples that are read when they are needed, from what a task gave in place of tensors.

    Args:
        source: a map-style `torch.utils.data.Dataset`, or anything that can be iterated over again and again. A sample
            is a tensor, or a tuple of tensors and numbers. What it draws at random from the global generators (torch,
            numpy, Python) depends on the run's seed, the epoch and, in a data set, its index.
        workers: processes that read ahead.
    """

    tensors: tuple[Tensor, ...] = ()
    source: Any = None
    device: torch.device = torch.device("cpu")
    workers: int = 0

    @property
    def known(self) -> bool:
        """Whether its length is."""
        return hasattr(self.source, "__len__")

    @property
    def indexed(self) -> bool:
        """Whether any sample can be read at any time."""
        return self.known and hasattr(self.source, "__getitem__") and not isinstance(self.source, IterableDataset)

    def __len__(self) -> int:
        return len(self.source)

    def to(self, device: torch.device, workers: int = 0) -> Split:
        return replace(self, device=device, workers=workers)

    def take(self, index: Tensor) -> Batch:
        raise TypeError("this split is read in batches; it cannot be indexed")

    def chosen(self, index: Tensor) -> Split:
        return replace(self, source=Subset(self.source, index.tolist()))

    def chunks(self, size: int) -> Iterator[Batch]:
        """The whole split in order; what its samples draw is the same each time."""
        return self.batches(torch.arange(len(self)) if self.indexed else None, size, seed=0, first=0)

    def batches(self, order: Tensor | None, size: int, *, seed: int, first: int) -> Iterator[Batch]:
        """Batches on the device.

        Args:
            order: indices (n,) of a data set; None for an iterable.
            seed: of what the samples draw.
            first: how many batches to leave out.
        """
        pin = self.device.type == "cuda"
        if order is None:
            found = streams.in_turn(self.source, size, seed, first=first, workers=self.workers, pin=pin)
        else:
            parts = [part.tolist() for part in order.split(size)[first:]]
            found = streams.by_index(self.source, parts, seed, workers=self.workers, pin=pin)
        for batch in found:
            yield tuple(t.to(self.device, non_blocking=True) for t in batch)


@dataclass(frozen=True)
class Splits:
    """Training, validation and test data.

    Args:
        train: sampled by the engine in an order that depends on (seed, epoch) only.
        val: chooses weights and settings.
        test: measured once, with the weights of the best validation loss.
        dataset: short name for tables ("digits", "cifar10", a folder's name).
        about: one phrase for people ("embedded, 1,797 images 8x8").
        info: what the model must know of the data (`classes`, `vocabulary`, ...).
        identity: what tells the content from any other ("imagenet-64, 2012, shards 0-9"), where a split is given as a
            `Dataset` or an iterable, see `Stream`, and so is not read to be told.
    """

    train: Split
    val: Split
    test: Split
    dataset: str
    about: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    identity: str = ""

    def __post_init__(self) -> None:
        for name, given in self.named.items():
            if not isinstance(given, Split):
                object.__setattr__(self, name, _stream(name, given))
        if self.streamed and not self.identity:
            raise TaskError(f"Splits.identity is missing: say which data {self.streamed[0]} reads")

    @property
    def named(self) -> dict[str, Split]:
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def streamed(self) -> list[str]:
        """The splits that are read when they are needed."""
        return [name for name, split in self.named.items() if isinstance(split, Stream)]

    def to(self, device: torch.device, workers: int = 0) -> Splits:
        moved: dict[str, Any] = {name: split.to(device, workers) for name, split in self.named.items()}
        return replace(self, **moved)

    def subset(self, share: float, generator: torch.Generator) -> Splits:
        """A random share of the samples of each split, in their order.

        Raises:
            TaskError: a split has no sample left, or samples that cannot be chosen.
        """
        parts: dict[str, Any] = {}
        for name, split in self.named.items():
            whose = f"{name} samples of {self.dataset}"
            if isinstance(split, Stream) and not split.indexed:
                raise TaskError(f"--subset {share:g}: the {whose} are read in turn; none can be left out")
            count = round(share * len(split))
            if not count:
                raise TaskError(f"--subset {share:g} leaves none of the {len(split):,} {whose}")
            parts[name] = split.chosen(torch.randperm(len(split), generator=generator)[:count].sort().values)
        sizes = " + ".join(f"{len(split):,}" for split in parts.values())
        about = ", ".join(part for part in (self.about, f"a subset of {sizes}") if part)
        identity = self.identity and f"{self.identity}, {share!r} from {generator.initial_seed()}"
        return replace(self, **parts, about=about, identity=identity)

    def fingerprint(self) -> str:
        """Digest of every tensor's shape, type and bytes: 16 hexadecimal digits, equal for equal content.

        Of a split that is read in batches, the declared identity counts.
        """
        digest = hashlib.blake2b(digest_size=8)
        if self.streamed:
            digest.update(f"{self.streamed} {self.identity}".encode())
        for split in self.named.values():
            for tensor in split.tensors:
                tensor = tensor.detach().cpu().contiguous()
                digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
                digest.update(tensor.flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def _stream(name: str, source: Any) -> Stream:
    """What a task gave in place of tensors.

    Raises:
        TaskError: it cannot be read again and again, or there is nothing in it.
    """
    kind = type(source).__name__
    if isinstance(source, DataLoader):
        raise TaskError(f"the {name} data are a DataLoader; give its dataset, the run makes the batches")
    found = Stream(source=source)
    if not (found.indexed or isinstance(source, Iterable)):
        raise TaskError(f"the {name} data, a {kind}, must be a Split, a Dataset with a length, or an iterable")
    if isinstance(source, Iterator):
        raise TaskError(f"the {name} data, a {kind}, can be read once only; give a class with __iter__")
    if found.known and not len(found):
        raise TaskError(f"the {name} data are empty: their length is 0")
    return found


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
