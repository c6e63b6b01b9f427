"""A model's weights as a file that other programs read without running any code of it."""

from __future__ import annotations

from typing import Literal

from safetensors.torch import load, save
from torch import Tensor, nn

Kept = Literal["best", "last", "both"]


def name_of(which: str) -> str:
    """Of the file among a run's artifacts."""
    return f"weights.{which}.safetensors"


def encoded(model: nn.Module) -> bytes:
    """Every entry of the model's `state_dict`; what two entries share is written twice."""
    return save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()})


def decoded(data: bytes) -> dict[str, Tensor]:
    """The entries of `encoded`, by name."""
    return load(data)
