"""A model's weights as a file that other programs read without running any code of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from safetensors.torch import load, save
from torch import Tensor

from vrcli.engine.prepare import Prepared, planned_steps
from vrcli.errors import UsageError
from vrcli.tasks.loop import LoopTask

Kept = Literal["best", "last", "both", "update"]
#: Which files are kept where they are asked for; those before the last step, only of a run that takes all of its steps.
BEFORE = "before-last"
FILES: Mapping[Kept | None, tuple[str, ...]] = {
    None: (), "best": ("best",), "last": ("last",), "both": ("best", "last"), "update": (BEFORE, "last"),
}  # fmt: skip


def check_kept(keep: Kept | None, prepared: Prepared) -> None:
    """Refuse to keep weights of which nobody knows when they are there.

    Raises:
        UsageError: those before the last step are asked for, and which step is the last is known after it.
    """
    spec = prepared.spec
    if BEFORE not in FILES[keep]:
        return
    if isinstance(prepared.task, LoopTask):
        why = f"{spec.task} trains in a loop of its own"
    elif planned_steps(spec.training, prepared.samples, prepared.capabilities)[1] is None:
        why = f"which step is the last of --until {spec.training.until} is known after it"
    elif "train_eval" in prepared.capabilities:
        why = f"{spec.optimizer} evaluates other weights than it trains"
    else:
        return
    raise UsageError(f"--keep-weights {keep} cannot be had here: {why}")


def name_of(which: str) -> str:
    """Of the file among a run's artifacts."""
    return f"weights.{which}.safetensors"


def encoded(entries: Mapping[str, Tensor]) -> bytes:
    """Every entry of a model's `state_dict`; what two entries share is written twice."""
    return save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in entries.items()})


def decoded(data: bytes) -> dict[str, Tensor]:
    """The entries of `encoded`, by name."""
    return load(data)
