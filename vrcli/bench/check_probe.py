"""Does a probe leave runs as they are, and measure the same again?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vrcli.engine.events import Checkpoint, Every, Probed
from vrcli.engine.loop import train
from vrcli.engine.points import check_name
from vrcli.engine.prepare import DataCache, Prepared, prepare
from vrcli.engine.probes import registry
from vrcli.engine.probes.asked import NONE, Probing
from vrcli.errors import UsageError
from vrcli.settings import resolve
from vrcli.tasks.check import Finding
from vrcli.tasks.registry import load

#: Task and optimizer: batch norm, dropout and attention, a closure, gradients of gradients, two sets of weights.
CASES = (("cnn", "vradam"), ("transformer", "adamw"), ("spirals", "lbfgs"), ("spirals", "adahessian"),
         ("spirals", "schedulefreeadamw"))  # fmt: skip
STEPS = 4
#: Options, of the probes that have them, with which they cost little.
SMALL = {"batch": 16, "iterations": 8}


@dataclass
class Trained:
    """A short run.

    Args:
        state: every number that the next step would depend on, by name.
        measured: what the probe said.
        checkpoint: the run's state in its middle.
    """

    state: dict[str, Any]
    measured: list[Probed] = field(default_factory=list)
    checkpoint: dict[str, Any] | None = None

    @property
    def values(self) -> list[tuple[int, Mapping[str, str]]]:
        """What was measured, by step, as texts: a missing value is one like any other."""
        return [(one.step, {name: repr(value) for name, value in one.values.items()}) for one in self.measured]


def trained(
    task: str, optimizer: str, probing: Probing = NONE, resume_from: Mapping[str, Any] | None = None, *,
    steps: int = STEPS, cache: DataCache | None = None, preset: str = "smoke",
) -> Trained:  # fmt: skip
    """A few steps, written down in the middle."""
    flags = {"until": f"steps:{steps}"}
    prepared = prepare(resolve(load(task), optimizer, preset=preset, flags=flags).request, load(task), cache=cache)
    found = Trained({})
    every = Every(steps=max(1, steps // 2))
    for event in train(prepared, probing=probing, checkpoints=every, resume_from=_copy(resume_from)):
        if isinstance(event, Probed):
            found.measured.append(event)
        elif isinstance(event, Checkpoint) and found.checkpoint is None and event.step < steps:
            found.checkpoint = _copy(event.state)
    found.state = dict(_numbers(prepared))
    return found


def _copy(state: Any) -> Any:
    """A state apart from the run that it was taken of."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, Mapping):
        return {name: _copy(one) for name, one in state.items()}
    return type(state)(map(_copy, state)) if isinstance(state, list | tuple) else state


def _numbers(prepared: Prepared) -> Iterator[tuple[str, Any]]:
    yield from prepared.model.state_dict().items()
    yield "generator", torch.get_rng_state()
    for number, own in enumerate(prepared.optimizer.state.values()):
        for name, one in own.items() if isinstance(own, dict) else ():
            parts = one if isinstance(one, list | tuple) else [one]
            yield from ((f"{name} {number} {at}", part) for at, part in enumerate(parts))


def difference(one: Trained, other: Trained) -> str:
    """The first number of two runs that is not the same, bit for bit; empty where all are."""
    if one.state.keys() != other.state.keys():
        return f"{next(iter(one.state.keys() ^ other.state.keys()))} is there in one of them only"
    for name, value in one.state.items():
        twin = other.state[name]
        tensors = isinstance(value, Tensor) and isinstance(twin, Tensor)
        if not (_bits(value) == _bits(twin) if tensors else repr(value) == repr(twin)):
            return f"{name} differs"
    return ""


def _bits(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def check(name: str) -> list[Finding]:
    """Train a few small tasks with and without a probe.

    Raises:
        UsageError: there is no such probe.
    """
    fields, cache = registry.load(name).Options.model_fields, DataCache()
    found = []
    for task, optimizer in CASES:
        what = f"{task} with {optimizer}"
        given = {key: value for key, value in SMALL.items() if key in fields and (task, key) != ("spirals", "batch")}
        probing = Probing({name: given}, "1")
        plain, probed = trained(task, optimizer, cache=cache), trained(task, optimizer, probing, cache=cache)
        notes = [text for one in probed.measured for text in one.notes]
        why = difference(plain, probed)
        found.append(Finding(f"{what}: bits", not why, why or f"the same after {STEPS} steps"))
        fault = _fault(probed)
        found.append(Finding(f"{what}: values", not fault, fault or "; ".join(notes) or "measured at every step"))
        if plain.checkpoint is not None:
            again = trained(task, optimizer, probing, probed.checkpoint, cache=cache)
            same = again.values == probed.values[-len(again.values) :] and again.values
            found.append(Finding(f"{what}: resumed", bool(same), "the same values" if same else "other values"))
    return found


def _fault(run: Trained) -> str:
    if not run.measured or not any(one.values for one in run.measured):
        texts = [text for one in run.measured for text in one.notes]
        return texts[0] if texts else "it measured nothing"
    try:
        for name in run.measured[-1].values:
            check_name(name)
    except UsageError as error:
        return str(error)
    return ""
