"""What a probe is, and what it sees of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vrcli.engine.prepare import Prepared
from vrcli.engine.seeding import GlobalNoise, derive, generator
from vrcli.tasks.base import Batch, Stream

#: A number is a point of a curve, an array a file of the run.
Values = Mapping[str, "float | np.ndarray[Any, Any]"]


class ProbeOptions(BaseModel):
    """Options of a probe. Subclasses add fields with bounds and a description; both become command-line options."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BatchOptions(ProbeOptions):
    """Options of a probe that evaluates the loss: on which samples, and what batch norm does."""

    batch: int = Field(1000, ge=1, description="training samples that it measures on, the same at every step")
    batch_norm: Literal["train", "eval"] = Field(
        "train", description="statistics of the samples measured on (train), or the running ones (eval)"
    )


@dataclass
class View:
    """A run between two steps, as a probe sees it. Whatever a probe does to it, it is put back afterwards.

    Args:
        step: the last one, counted from 1.
        weights_before: the parameters before the last step, before the step before that, and so on: as many as the
            probe asks for and the run has. (steps, parameters)
        gradients: with which the last step was taken, None for a parameter without.
        notes: what the run's user should read, a line each.
        gradient_evaluations: what the measurement cost; a product of the Hessian with a vector counts as two.
    """

    prepared: Prepared
    step: int = 0
    weights_before: Sequence[Sequence[Tensor]] = ()
    gradients: Sequence[Tensor | None] = ()
    notes: list[str] = field(default_factory=list)
    gradient_evaluations: int = 0

    @property
    def model(self) -> nn.Module:
        return self.prepared.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.prepared.optimizer

    @property
    def named_parameters(self) -> dict[str, Tensor]:
        """Those that are trained."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @property
    def parameters(self) -> list[Tensor]:
        """Those that are trained."""
        return list(self.named_parameters.values())

    def generator(self, *purpose: str) -> torch.Generator:
        """A fresh one on the CPU, the same at every step of the run."""
        return generator(self.prepared.spec.seed, "probe", *purpose)

    def batch(self, size: int) -> Batch:
        """The first training samples in an order that depends on the run's seed alone; never more than there are."""
        data, task = self.prepared.data.train, self.prepared.task
        if isinstance(data, Stream):
            order = torch.randperm(len(data), generator=self.generator("samples")) if data.indexed else None
            seed = derive(self.prepared.spec.seed, "probe", "augment")
            return next(iter(data.batches(None if order is None else order[:size], size, seed=seed, first=0)))
        order = torch.randperm(len(data), generator=self.generator("samples"))[:size]
        augment = generator(self.prepared.spec.seed, "probe", "augment", device=self.prepared.device)
        return task.train_batch(data, order.to(self.prepared.device), augment)

    def loss(self, batch: Batch, part: int = 0) -> Tensor:
        """The training loss of a batch, in full precision.

        Args:
            part: of the samples, where they are evaluated in several: what each draws at random is its own, and the
                same whenever it is evaluated.
        """
        GlobalNoise(self.prepared.device).seed(derive(self.prepared.spec.seed, "probe", "noise", part))
        # Only this form of attention can be differentiated twice.
        with sdpa_kernel(SDPBackend.MATH):
            return self.prepared.task.loss(self.model, batch)

    def differentiable(self, options: BatchOptions) -> None:
        """Put the model into the mode that a probe measures in: without dropout, batch norm as asked for."""
        self.model.eval()
        for module in batch_norms(self.model):
            module.train(options.batch_norm == "train")


def batch_norms(model: nn.Module) -> Iterator[nn.Module]:
    """The modules whose output for one sample depends on the others in training."""
    return (one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm))


class Probe(ABC):
    """Measures something of a run every so many steps. It keeps nothing from one measurement to the next.

    Args:
        options: an instance of the class's `Options`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Options: ClassVar[type[ProbeOptions]] = ProbeOptions
    #: How many earlier weights it looks at.
    weights_before: ClassVar[int] = 0

    def __init__(self, options: Any) -> None:
        self.options = options

    def curves(self) -> Sequence[str]:
        """The names of the numbers that `measure` can return, "*" standing for anything: a study asks for these."""
        return ("*",)

    @abstractmethod
    def measure(self, view: View) -> Values:
        """Values by name; the curve of a number is called `PROBE_NAME`. NaN stands for what cannot be measured."""
