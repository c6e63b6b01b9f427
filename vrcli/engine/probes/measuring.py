"""The probes of one run: built once, asked between two steps, with everything put back afterwards."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vrcli.engine.events import Artifact, Probed
from vrcli.engine.prepare import Prepared
from vrcli.engine.probes import registry
from vrcli.engine.probes.asked import Probing
from vrcli.engine.probes.base import BatchOptions, Probe, View
from vrcli.engine.probes.untouched import untouched
from vrcli.errors import UsageError, first_line
from vrcli.tasks.base import Stream
from vrcli.tasks.loop import LoopTask


def built(probing: Probing, prepared: Prepared) -> list[Probe]:
    """The probes of a run that is about to begin.

    Raises:
        UsageError: the task's loop is its own, or a probe asks for more samples than there are.
    """
    if probing and isinstance(prepared.task, LoopTask):
        why = f"{prepared.spec.task} trains in a loop of its own, which probes do not see"
        raise UsageError(f"{next(iter(probing.given))} cannot measure here: {why}", "--probe")
    found = []
    for name, given in probing.given.items():
        kind = registry.load(name)
        probe = kind(kind.Options(**given))
        data = prepared.data.train
        if isinstance(probe.options, BatchOptions) and "batch" in given and not isinstance(data, Stream):
            _check_batch(probe, len(data), prepared.spec.task)
        found.append(probe)
    return found


def _check_batch(probe: Probe, samples: int, task: str) -> None:
    if probe.options.batch > samples:
        flag = f"--probe-{probe.name}-batch".replace("_", "-")
        raise UsageError(f"must be <= {samples}, the training samples of {task}, got {probe.options.batch}", flag)


class Measuring:
    """Asks a run's probes every so many steps.

    Args:
        every: steps from one measurement to the next.
    """

    def __init__(self, probes: Sequence[Probe], every: int) -> None:
        self.probes, self.every = probes, every
        self.depth = max((probe.weights_before for probe in probes), default=0)
        self.weights: dict[int, list[Tensor]] = {}
        self.seconds, self.gradient_evaluations = 0.0, 0
        self._said: set[str] = set()

    @property
    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        weights = {step: list(own) for step, own in self.weights.items()}
        return {"weights": weights, "spent": [self.seconds, self.gradient_evaluations]} if self.probes else {}

    @state.setter
    def state(self, kept: Mapping[str, Any]) -> None:
        if kept and self.probes:
            self.weights = {step: list(own) for step, own in kept["weights"].items()}
            self.seconds, self.gradient_evaluations = kept["spent"]

    def due(self, step: int) -> bool:
        """Whether the probes measure after this step."""
        return bool(self.probes) and step % self.every == 0

    def look(self, step: int, parameters: Sequence[Tensor]) -> None:
        """Before every step: keep the weights that the next measurement compares with, where it is near.

        Args:
            step: the last one.
        """
        if (step // self.every + 1) * self.every - step <= self.depth:
            self.weights[step] = [p.detach().clone() for p in parameters]
        self.weights = {at: own for at, own in self.weights.items() if at >= step - self.depth}

    def measure(
        self, prepared: Prepared, step: int, parameters: Sequence[Tensor], generators: Sequence[Any] = ()
    ) -> Iterator[Probed | Artifact]:
        """What every probe says after a step."""
        gradients = [None if p.grad is None else p.grad.detach() for p in parameters]
        kept = [self.weights[at] for at in range(step - 1, step - 1 - self.depth, -1) if at in self.weights]
        before = [[tensor.to(prepared.device) for tensor in own] for own in kept]
        for probe in self.probes:
            began = time.perf_counter()
            view = View(prepared, step, before[: probe.weights_before], gradients)
            with untouched(prepared, generators):
                numbers, files = self._values(probe, view)
            seconds = time.perf_counter() - began
            self.seconds += seconds
            self.gradient_evaluations += view.gradient_evaluations
            new = [text for text in dict.fromkeys(view.notes) if text not in self._said]
            self._said.update(new)
            yield Probed(step, numbers, probe.name, seconds, view.gradient_evaluations, tuple(new))
            for name, data in files.items():
                yield Artifact(name, data, step)

    @staticmethod
    def _values(probe: Probe, view: View) -> tuple[dict[str, float], dict[str, bytes]]:
        """Points of curves, and files. A fault of a probe is said; it costs the run nothing but these values."""
        try:
            with torch.enable_grad():
                found = probe.measure(view)
            arrays = [name for name, one in found.items() if np.ndim(one)]
            return (
                {f"{probe.name}_{name}": float(one) for name, one in found.items() if name not in arrays},
                {f"{probe.name}_{name}.{view.step}.npy": _file(found[name]) for name in arrays},
            )
        except Exception as error:
            view.notes.append(f"probe {probe.name} measured nothing: {first_line(error)}")
            return {}, {}


def _file(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array), allow_pickle=False)
    return file.getvalue()
