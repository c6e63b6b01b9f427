"""The loss where no run has been: on the straight line between two sets of weights, and on a plane through one.

Source:      Frankle et al., arXiv 1912.05671 (linear mode connectivity): two networks are connected where the loss
             along the line does not rise above the line between the losses of its ends. Li et al., arXiv 1712.09913,
             section 4 (filter normalisation): so that the size of the weights does not decide how sharp a plane looks.
Deviations:  the running statistics of batch norm lie on the line, too, and are those of the middle on all of a plane;
             they are not measured again at each point, so that a rise may be theirs. Units are not permuted to match.
             A filter is what stands at one place of a parameter's first dimension, in transposed convolutions, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from vrcli.engine.evaluation import evaluate
from vrcli.engine.prepare import Prepared
from vrcli.engine.seeding import generator
from vrcli.tasks.base import Split, Stream

#: Every entry of a model's `state_dict`.
Weights = Mapping[str, Tensor]


def measured(prepared: Prepared, places: Iterable[Weights]) -> dict[str, list[float]]:
    """The task's metrics at each of these weights, by name: those of training without augmentation, validation and
    test. Of training there are none where it is a stream, or its samples are no evaluation's (noise yet to be drawn).
    """
    splits = {name: getattr(prepared.data, name) for name in ("train", "val", "test")}
    kinds = {name: _kind(split) for name, split in splits.items() if not isinstance(split, Stream)}
    splits = {name: splits[name] for name in kinds if name != "train" or kinds[name] in (kinds["val"], kinds["test"])}
    found: dict[str, list[float]] = {
        f"{split}_{metric.name}": [] for split in splits for metric in prepared.task.metrics
    }
    prepared.model.eval()
    for weights in places:
        prepared.model.load_state_dict(weights)
        for split, data in splits.items():
            for name, value in evaluate(prepared, data).items():
                found[f"{split}_{name}"].append(value)
    return found


def _kind(split: Split) -> list[tuple[torch.dtype, torch.Size]]:
    """What a sample is made of."""
    return [(tensor.dtype, tensor.shape[1:]) for tensor in split.tensors]


def line(first: Weights, second: Weights, at: Sequence[float]) -> Iterator[Weights]:
    """(1 - t) first + t second at each t. What is no floating-point number is taken from the first."""
    for t in at:
        yield {name: _between(one, second[name], t) for name, one in first.items()}


def _between(one: Tensor, other: Tensor, t: float) -> Tensor:
    """Exactly an end where t is 0 or 1."""
    if not one.is_floating_point() or t == 0:
        return one
    return other if t == 1 else torch.lerp(one, other, t)


def plane(middle: Weights, x: Weights, y: Weights, at: Sequence[float]) -> Iterator[Weights]:
    """middle + a x + b y for each b, and within it for each a.

    Args:
        x: a direction; an entry that it lacks does not move.
        y: another, with the same entries.
    """
    for b in at:
        for a in at:
            yield {**middle, **{name: middle[name] + a * x[name] + b * y[name] for name in x}}


def directions(model: nn.Module, weights: Weights, seed: int) -> tuple[Weights, Weights]:
    """Two random directions, filter-normalised: each filter is as long as the same one of the weights.

    Biases, parameters of normalisation (all of at most one dimension) and what is not trained have no entry. Parameters
    that are one under several names have one direction.
    """
    noise = generator(seed, "plane")
    moved = [
        (name, p) for name, p in model.named_parameters(remove_duplicate=False)
        if p.ndim > 1 and p.requires_grad and p.is_floating_point()
    ]  # fmt: skip
    first = {id(p): name for name, p in reversed(moved)}

    def direction() -> Weights:
        own = {name: _normalised(weights[name], noise) for name in (name for name, p in moved if first[id(p)] == name)}
        return {name: own[first[id(p)]] for name, p in moved}

    return direction(), direction()


def _normalised(weights: Tensor, noise: torch.Generator) -> Tensor:
    """A Gaussian direction d with d_i ||w_i|| / ||d_i|| in the place of each of its filters (arXiv 1712.09913)."""
    drawn = torch.randn(weights.shape, generator=noise).to(weights.dtype)
    lengths = drawn.flatten(1).norm(dim=1).clamp(min=torch.finfo(weights.dtype).tiny)
    share = weights.flatten(1).norm(dim=1) / lengths  # (filters,)
    scaled: Tensor = drawn * share.view(-1, *[1] * (drawn.ndim - 1))
    return scaled
