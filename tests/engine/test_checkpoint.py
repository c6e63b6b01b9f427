"""A run that is taken up from a checkpoint gives the same bits as one that was never interrupted."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vrcli.engine.checkpoint import NO_RESUME, Every
from vrcli.engine.events import Artifact, Checkpoint, Ended, Eval, Started, Steps
from vrcli.engine.loop import train
from vrcli.engine.prepare import DataCache, prepare
from vrcli.errors import UsageError
from vrcli.optim import registry
from vrcli.settings import resolve
from vrcli.tasks import registry as tasks

_spec = importlib.util.spec_from_file_location("toy", Path(__file__).parent / "toy.py")
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)

#: Results that say how long it took, not what came of it.
TIMES = {"wall_s", "train_s", "samples_per_s", "step_ms", "optimizer_ms", "peak_memory_bytes"}
OPTIMIZERS = [row.name for row in registry.catalogue() if not row.refusal]


class Net(toy.Toy):
    """With matrices, vectors, dropout and a running average, as networks have."""

    def model(self, data):
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Tanh(), nn.Linear(8, 1))


def prepared(task: Any, optimizer: str, cache: DataCache | None = None, preset: str = "quick", **flags: Any) -> Any:
    resolved = resolve(task, optimizer, preset=preset, flags=flags)
    return prepare(resolved.request, task, cache=cache)


def through_a_file(state: Any) -> Any:
    held = io.BytesIO()
    torch.save(state, held)
    held.seek(0)
    return torch.load(held, weights_only=True, map_location="cpu")


def facts(events: Sequence[Any]) -> tuple[Any, ...]:
    """All that a run gave, without its times: points, evaluations, files, results."""
    points = {
        (name, step): value
        for e in events
        if isinstance(e, Steps)
        for name, values in e.values.items()
        for step, value in zip(e.steps, values, strict=True)
    }
    evaluations = [
        (e.epoch, e.step, e.best, {k: v for k, v in e.values.items() if k != "wall_s"})
        for e in events
        if isinstance(e, Eval)
    ]
    files = [(e.name, e.step, e.data) for e in events if isinstance(e, Artifact)]
    ended = events[-1]
    results = {k: v for k, v in ended.results.items() if k not in TIMES}
    return sorted(points.items()), evaluations, files, (ended.status, ended.reason, results)


def same(found: Any, expected: Any) -> bool:
    return repr(found) == repr(expected)  # nan equals nan


def check(make: Callable[[], Any], at: int) -> None:
    """Interrupt a run after `at` steps and go on with it in another one."""
    whole = make()
    expected = list(train(whole))
    broken, before, state = make(), [], None
    for event in train(broken, checkpoints=Every(steps=at)):
        if isinstance(event, Checkpoint):
            assert event.step == at
            state = through_a_file(event.state)
            break
        before.append(event)
    with torch.no_grad():
        for p in broken.model.parameters():
            p.fill_(float("nan"))  # nothing may come from here
    torch.manual_seed(99)
    again = make()
    after = list(train(again, resume_from=state))
    assert isinstance(after[0], Started)
    assert after[0].step == at
    assert same(facts([*before, *after[1:]]), facts(expected))
    for one, other in zip(again.model.state_dict().values(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


RESUMABLE = [name for name in OPTIMIZERS if NO_RESUME not in registry.find(name).capabilities]


@pytest.mark.parametrize("optimizer", RESUMABLE)
def test_every_optimizer_goes_on_with_the_same_bits(optimizer: str) -> None:
    cache = DataCache()
    check(lambda: prepared(Net, optimizer, cache, epochs=8, augment=0.1), at=11)


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name not in RESUMABLE])
def test_an_optimizer_that_cannot_be_put_back_writes_no_checkpoint(optimizer: str) -> None:
    events = train(prepared(Net, optimizer), checkpoints=Every(steps=1))
    assert not any(isinstance(event, Checkpoint) for event in events)


@pytest.mark.parametrize("optimizer", ["vradam", "muon", "lbfgs", "flowadam"])
@pytest.mark.parametrize("task", sorted(tasks.names()))
def test_every_task_goes_on_with_the_same_bits(task: str, optimizer: str) -> None:
    cache, cls = DataCache(), tasks.load(task)

    def make() -> Any:
        try:
            return prepared(cls, optimizer, cache, "smoke")
        except UsageError as error:
            pytest.skip(str(error))

    start = next(train(make()))
    check(make, at=max(1, start.total_steps // 2))
