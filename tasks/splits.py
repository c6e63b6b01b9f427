"""Data as the engine reads them: tensors with a row per sample, or samples that are read when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from vrcli.tasks import streams
from vrcli.tasks.errors import TaskError
from vrcli.tasks.streams import Batch
from vrcli.variants import subset_name


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
        sampled: the samples stand for what the task samples itself, so that none can be left out.
    """

    train: Split
    val: Split
    test: Split
    dataset: str
    about: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    identity: str = ""
    sampled: bool = False

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
        """A random share of the samples of each split, in their order. Its name says so wherever results are shown.

        Raises:
            TaskError: a split has no sample left, or samples that cannot be chosen.
        """
        if self.sampled:
            raise TaskError(f"--subset {share}: {self.dataset} has no samples that could be left out")
        parts: dict[str, Any] = {}
        for name, split in self.named.items():
            whose = f"{name} samples of {self.dataset}"
            if isinstance(split, Stream) and not split.indexed:
                raise TaskError(f"--subset {share}: the {whose} are read in turn; none can be left out")
            count = round(share * len(split))
            if split is self.train and count == len(split):
                raise TaskError(f"--subset {share} leaves out none of the {len(split):,} {whose}")
            if not count:
                raise TaskError(f"--subset {share} leaves none of the {len(split):,} {whose}")
            parts[name] = split.chosen(torch.randperm(len(split), generator=generator)[:count].sort().values)
        sizes = " + ".join(f"{len(split):,}" for split in parts.values())
        about = ", ".join(part for part in (self.about, f"a subset of {sizes}") if part)
        identity = self.identity and f"{self.identity}, {share!r} from {generator.initial_seed()}"
        return replace(self, **parts, dataset=subset_name(self.dataset, share), about=about, identity=identity)

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
