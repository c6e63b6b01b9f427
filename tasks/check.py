"""Conformance of a task: the checks behind `vr tasks check` and the project's own contract tests.

Each check is a function of a task that is built from its smoke preset (or its only one). It raises `AssertionError`
with a sentence for the plugin's author, or returns a short finding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from vrcli.errors import contained, first_line
from vrcli.tasks.base import Batch, Preset, Sourced, Split, Splits, Stream, Task, TaskConfig

_BATCH = 8


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: its name, whether it passed, and what was seen."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Built:
    """A task with its data loaded, from a preset's settings."""

    task: Task[Any]
    data: Splits
    preset: str

    def model(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        return self.task.model(self.data)

    def batch(self, seed: int = 0) -> Batch:
        if isinstance(train := self.data.train, Stream):
            order = torch.arange(len(train)) if train.indexed else None
            return next(train.batches(order, _BATCH, seed=seed, first=0))
        n = min(_BATCH, len(self.data.train))
        index = torch.randperm(len(self.data.train), generator=torch.Generator().manual_seed(seed))[:n]
        return self.task.train_batch(self.data.train, index, torch.Generator().manual_seed(seed))

    def loss(self, model: nn.Module, seed: int = 0) -> torch.Tensor:
        batch = self.batch(seed)
        torch.manual_seed(seed)
        return self.task.loss(model.train(), batch)

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        with torch.no_grad():
            torch.manual_seed(0)
            return self.task.evaluate(model.eval(), split)


def check(task: type[Task[Any]], *, training_fields: Collection[str], preset: str = "smoke") -> Iterator[Finding]:
    """Run every check on one preset; the data are loaded once.

    Args:
        training_fields: names of the training loop's settings, which presets may set beside the task's own.
        preset: which preset's data and model are built.
    """
    yield check_declaration(task, training_fields)
    preset = preset if preset in task.presets else next(iter(task.presets), "")
    try:
        with contained():
            built = build(task, preset)
    except Exception as error:  # any failure of a plugin's own code is the finding
        yield Finding("data", False, first_line(error))
        return
    for name, one in _CHECKS.items():
        yield _finding(name, partial(one, built))


def check_declaration(task: type[Task[Any]], training_fields: Collection[str]) -> Finding:
    """Whether a task's class says all that it must."""
    return _finding("declaration", lambda: _declaration(task, training_fields))


def build(task: type[Task[Any]], preset: str) -> Built:
    """The task of one preset, with its data."""
    chosen = task.presets[preset].settings
    own = {name: s.value for name, s in chosen.items() if name in task.Config.model_fields}
    instance = task(task.Config(**own))
    return Built(instance, _data(instance), preset)


def _data(task: Task[Any]) -> Splits:
    return task.data(torch.Generator().manual_seed(task.config.split_seed))


def _finding(name: str, run: Callable[[], str]) -> Finding:
    try:
        with contained():
            return Finding(name, True, run())
    except Exception as error:  # any failure of a plugin's own code is the finding
        found = first_line(error)
        return Finding(name, False, found.removeprefix("AssertionError: "))


def _declaration(task: type[Task[Any]], training_fields: Collection[str]) -> str:
    for attribute in ("name", "summary", "metrics", "presets"):
        assert hasattr(task, attribute), f"the class has no `{attribute}`"
    assert task.metrics, "`metrics` is empty: the first one is the objective"
    assert issubclass(task.Config, TaskConfig), "`Config` must derive from vrcli.tasks.base.TaskConfig"
    assert task.presets, "`presets` is empty: at least `quick`, better also `smoke`"
    known = set(task.Config.model_fields) | set(training_fields)
    clash = set(task.Config.model_fields) & set(training_fields)
    assert not clash, f"Config fields {sorted(clash)} belong to the training loop"
    for name, preset in task.presets.items():
        assert isinstance(preset, Preset), f"preset {name!r} is not a vrcli.tasks.base.Preset"
        unknown = set(preset.settings) - known
        assert not unknown, f"preset {name!r} sets {sorted(unknown)}, which neither Config nor the training loop has"
        values = [*preset.settings.values(), *(s for o in preset.optimizers.values() for s in o.values())]
        assert all(isinstance(v, Sourced) for v in values), (
            f"preset {name!r}: wrap values in stated(...) or assumed(...)"
        )
        task.Config(**{k: s.value for k, s in preset.settings.items() if k in task.Config.model_fields})
    undescribed = [n for n, f in task.Config.model_fields.items() if not f.description]
    assert not undescribed, f"Config fields {undescribed} have no description, which --help shows"
    return f"{len(task.presets)} presets, {len(task.Config.model_fields)} settings"


def _splits(built: Built) -> str:
    data = built.data
    for name in ("train", "val", "test"):
        split = getattr(data, name)
        if isinstance(split, Stream) and not split.known:
            said = name != "train" or getattr(built.task.config, "steps_per_epoch", None)
            assert said, "the length of the training data is not known: `Config` needs a field steps_per_epoch"
            continue
        assert len(split) > 0, f"the {name} split is empty"
        assert all(len(t) == len(split) for t in split.tensors), f"tensors of the {name} split differ in length"
    assert data.dataset, "`Splits.dataset` is empty: tables need its name"
    counts = [str(len(s)) if not isinstance(s, Stream) or s.known else "?" for s in data.named.values()]
    return "{}: {} training, {} validation, {} test samples".format(data.dataset, *counts)


def _same_data(built: Built) -> str:
    again = _data(built.task)
    assert again.fingerprint() == built.data.fingerprint(), (
        "data() gives other data the second time for the same split_seed"
    )
    for name in built.data.streamed:
        first, same = (next(iter(data.named[name].chunks(_BATCH))) for data in (built.data, again))
        alike = all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
        assert alike, f"the {name} split gives other samples the second time"
    return built.data.fingerprint()


def _batch_from_generator(built: Built) -> str:
    torch.manual_seed(1)
    first = built.batch(seed=3)
    torch.manual_seed(2)
    again = built.batch(seed=3)
    same = all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert same, "train_batch must draw from the generator it is given; it draws from the global one"
    return f"{len(first)} tensors"


def _same_weights(built: Built) -> str:
    a, b = built.model(seed=5).state_dict(), built.model(seed=5).state_dict()
    differ = [name for name in a if not torch.equal(a[name], b[name])]
    assert not differ, f"the same seed gives other initial weights: {differ[:3]}"
    return f"{sum(p.numel() for p in built.model().parameters()):,} parameters"


def _loss(built: Built) -> str:
    model = built.model()
    loss = built.loss(model)
    assert loss.shape == (), f"loss() must return a scalar, got shape {tuple(loss.shape)}"
    value = loss.item()
    assert math.isfinite(value), f"the loss at initialisation is {value}"
    assert value <= built.task.diverged_above, (
        f"the loss at initialisation, {value:g}, is above diverged_above, {built.task.diverged_above:g}"
    )
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients, "no parameter got a gradient"
    assert all(torch.isfinite(g).all() for g in gradients), "a gradient at initialisation is not finite"
    assert any(g.abs().max() > 0 for g in gradients), "every gradient at initialisation is zero"
    return f"{value:.4g} at initialisation"


def _same_loss(built: Built) -> str:
    values = {built.loss(built.model()).item() for _ in range(2)}
    assert len(values) == 1, f"the same seed gives other losses: {sorted(values)}"
    return "same seed, same bits"


def _evaluate(built: Built) -> str:
    model = built.model()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    found = built.evaluate(model, built.data.val)
    declared = [m.name for m in built.task.metrics]
    assert list(found) == declared, f"evaluate() returns {list(found)}, declared are {declared}"
    assert all(isinstance(v, float) for v in found.values()), "evaluate() must return Python floats"
    assert built.evaluate(model, built.data.val) == found, "evaluate() gives other values the second time"
    changed = [name for name, t in model.state_dict().items() if not torch.equal(t, before[name])]
    assert not changed, f"evaluate() changes the model: {changed[:3]}"
    return "  ".join(f"{k} {v:.4g}" for k, v in found.items())


def _learns(built: Built) -> str:
    """A few steps on one batch lower its loss: gradients point downhill."""
    model = built.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = built.loss(model)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[1:]) < losses[0], f"ten AdamW steps on one batch never lower its loss from {losses[0]:g}"
    return f"{losses[0]:.4g} -> {min(losses):.4g} in ten steps on one batch"


_CHECKS: dict[str, Callable[[Built], str]] = {
    "splits": _splits,
    "data are reproducible": _same_data,
    "batches are reproducible": _batch_from_generator,
    "weights are reproducible": _same_weights,
    "loss": _loss,
    "loss is reproducible": _same_loss,
    "evaluate": _evaluate,
    "learns": _learns,
}
