"""What tasks of low rank share: factors, planted targets, and which entries are seen.

Shapes:      a target of any number of modes, (n_1, ..., n_d); its factors (n_i, rank); a split has one row, so that a
             step takes all of it: target and mask (1, n_1, ..., n_d), zero and false where the split has no entry.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from vrcli.tasks.base import Batch, Metric, Preset, Sourced, Split, Splits, Task, TaskConfig, TaskError, assumed, stated
from vrcli.tasks.space import Real

#: Of a task whose whole training set is one row.
FULL_BATCH = {"batch_size": assumed(1, "one row holds all entries: full batch, as in the source")}
#: The published scripts' learning rate and starting point.
LR = {"lr": stated(0.01, "Benchmarks")}
#: What a preset of a published size, and what a small one, gives the optimizers.
PAPER = {"*": LR, "flowadam": {**LR, "mode": stated("b", "full batch, factorisation")}}
QUICK = {
    "*": {"lr": assumed(0.01, "as in the paper")},
    "flowadam": {"lr": assumed(0.01, "as in the paper"), "mode": assumed("b", "as in the paper")},
}
#: What every published size has.
ANY_SIZE = {
    "extra_rank": stated(5, "model rank = true rank + 5"),
    "init_scale": stated(0.1, "init scale 0.1"),
    "l2": stated(1e-5, "light L2 1e-5"),
    "epochs": stated(1000, "1000 steps, one an epoch"),
    "eval_every": assumed(10, "a hundredth of the run"),
}
#: Where the learning rate is searched.
SPACE = {"*": {"lr": Real(1e-3, 0.3, log=True, origin="a decade or more on both sides of the paper's 0.01")}}


class Factors(nn.Module):
    """A sum of `rank` outer products; calling it gives the whole target.

    Args:
        scale: standard deviation of the entries of the factors at the start.
    """

    def __init__(self, shape: Sequence[int], rank: int, scale: float) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.factors = nn.ParameterList(scale * torch.randn(n, rank) for n in shape)

    def forward(self) -> Tensor:
        return outer(list(self.factors)).view(self.shape)

    def squared(self) -> Tensor:
        """Sum of the squares of all factors, ()."""
        return torch.stack([factor.square().sum() for factor in self.factors]).sum()


def outer(factors: Sequence[Tensor]) -> Tensor:
    """The sum of outer products, as a matrix whose rows are all modes but the last."""
    rows = factors[0]
    for factor in factors[1:-1]:
        rows = (rows[:, None, :] * factor).flatten(0, 1)  # (n_1 ... n_i, rank)
    return rows @ factors[-1].T


def planted(shape: Sequence[int], rank: int, generator: torch.Generator) -> Tensor:
    """A target of that rank from factors N(0, 1) / sqrt(rank)."""
    factors = [torch.randn(n, rank, generator=generator) / rank**0.5 for n in shape]
    return outer(factors).view(tuple(shape))


def check_rank(name: str, rank: int, shape: Sequence[int]) -> None:
    """Refuse a planted rank that is none.

    Raises:
        TaskError: it reaches the smallest side, where every matrix has it.
    """
    if rank >= min(shape):
        raise TaskError(f"--{name} must be below the smallest side, {min(shape)}, got {rank}")


def masks(shape: Sequence[int], counts: Sequence[int], generator: torch.Generator) -> list[Tensor]:
    """Disjoint random sets of that many entries each, as masks."""
    order = torch.randperm(torch.Size(shape).numel(), generator=generator)
    found = []
    for index in order[: sum(counts)].split(list(counts)):
        mask = torch.zeros(len(order), dtype=torch.bool)
        mask[index] = True
        found.append(mask.view(tuple(shape)))
    return found


def seen_and_held_out(
    target: Tensor, density: float, val_fraction: float, generator: torch.Generator, *, dataset: str, about: str
) -> Splits:
    """A share of the entries to train on; of the others, some for validation and the rest for the test.

    Raises:
        TaskError: a split would be empty.
    """
    entries = target.numel()
    seen = round(density * entries)
    val = round(val_fraction * (entries - seen))
    test = entries - seen - val
    if seen < 1:
        raise TaskError(f"--density {density:g} leaves none of {entries:,} entries to fit; take more")
    if val < 1 or test < 1:
        raise TaskError(
            f"--density {density:g} leaves {entries - seen:,} of {entries:,} entries to validate and test; take less"
        )
    train, validate, last = (one_row(target, mask) for mask in masks(target.shape, [seen, val, test], generator))
    return Splits(train, validate, last, dataset, f"{about}, {seen:,} of {entries:,} entries seen")


def one_row(target: Tensor, mask: Tensor) -> Split:
    """A split of one row."""
    return Split(((target * mask).unsqueeze(0), mask.unsqueeze(0)))


def squared_error(prediction: Tensor, batch: Batch) -> Tensor:
    """Mean squared error over the entries of the batch."""
    target, mask = batch[:2]
    return ((prediction - target[0]) * mask[0]).square().sum() / mask[0].sum()


def rmse(prediction: Tensor, split: Split) -> float:
    """Root mean squared error over the entries of a split."""
    return squared_error(prediction.double(), split.tensors).sqrt().item()


def preset(settings: dict[str, Any], **more: Sourced) -> dict[str, Sourced]:
    """Settings of a preset, and those of a full batch."""
    return {**settings, **more, **FULL_BATCH}


class CompletionConfig(TaskConfig):
    dataset: Literal["synthetic"] = Field("synthetic", description="a planted target; there is no other")
    rank: int = Field(10, ge=1, description="rank of the planted target")
    extra_rank: int = Field(5, ge=0, description="how far the model's rank exceeds the planted one")
    density: float = Field(0.3, gt=0, lt=1, description="share of the entries that are seen")
    noise: float = Field(0.1, ge=0, description="standard deviation of the noise on every entry")
    val_fraction: float = Field(0.1, gt=0, lt=1, description="share of the entries not seen that validate")
    init_scale: float = Field(0.1, gt=0, description="standard deviation of the factors at the start")
    l2: float = Field(1e-5, ge=0, description="weight of the sum of the squared factors in the objective")


C = TypeVar("C", bound=CompletionConfig)


class Completion(Task[C]):
    """A planted target of low rank, of which some noisy entries are seen."""

    # What it comes to on entries that no optimizer sees.
    metrics = (Metric("rmse", "min"),)
    # Entries are of size 1, so a mean square this large only grows.
    diverged_above = 1e6
    space = SPACE

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of the target."""

    def files(self) -> list[Path]:
        return []

    def data(self, generator: torch.Generator) -> Splits:
        c = self.config
        check_rank("rank", c.rank, self.shape)
        target = planted(self.shape, c.rank, generator)
        target += c.noise * torch.randn(self.shape, generator=generator)
        about = f"{'x'.join(map(str, self.shape))} of rank {c.rank}"
        return seen_and_held_out(target, c.density, c.val_fraction, generator, dataset="synthetic", about=about)

    def model(self, data: Splits) -> nn.Module:
        return Factors(self.shape, self.config.rank + self.config.extra_rank, self.config.init_scale)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return squared_error(model(), batch) + self.config.l2 * cast(Factors, model).squared()

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        return {"rmse": rmse(model(), split)}


def released(settings: dict[str, Any], size: str) -> Preset:
    """The L2 that the released scripts give Adam."""
    half = stated(5e-6, "released scripts: Adam's decay 1e-5 in the gradient is half of FlowAdam's")
    return Preset(preset(settings, l2=half), PAPER, f"{size} with the L2 that the released scripts give Adam")
