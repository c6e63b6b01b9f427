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

from vrcli.engine.checkpoint import NO_RESUME
from vrcli.engine.events import Artifact, Checkpoint, Eval, Every, Started, Steps
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


_SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("muon", "flowadam", "lbfgs")]


@pytest.mark.parametrize("optimizer", ["vradam", *_SLOW])
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


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "evaluated every 2 steps": {"eval_every": 2},
    "evaluated every 5 steps, across epochs": {"eval_every": 5, "until": "steps:14"},
    "until gradients": {"optimizer": "lbfgs", "until": "gradients:60", "schedule": "warmup-cosine"},
    "scheduled and clipped": {"schedule": "warmup-cosine", "warmup_epochs": 1, "grad_clip": 0.5},
    "gradients accumulate": {"accumulate_gradients": True, "lr": 1e-4},
    "patience": {"lr": 0.3, "patience": 2, "epochs": 12},
    "accuracy": {"stop_accuracy": 0.05, "epochs": 12, "lr": 0.02},
    "two sets of weights": {"optimizer": "schedulefreeadamw", "eval_every": 2},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_may_be_stopped_after_any_step(name: str) -> None:
    settings = {"augment": 0.1, "optimizer": "adamw", **SETTINGS[name]}
    optimizer, cache = settings.pop("optimizer"), DataCache()
    expected = facts(list(train(prepared(Net, optimizer, cache, **settings))))
    total, stops = expected[3][2]["steps"], 0
    for after in range(1, total + 1):
        first = list(_stopped(prepared(Net, optimizer, cache, **settings), after))
        if first[-1].status != "interrupted":
            continue  # it was its end
        stops += 1
        assert isinstance(first[-2], Checkpoint)
        assert first[-2].step >= after
        rest = list(train(prepared(Net, optimizer, cache, **settings), resume_from=through_a_file(first[-2].state)))
        assert same(facts([*first[:-2], *rest]), expected), after
    assert stops >= min(total - 1, 8)


def _stopped(ready: Any, after: int) -> Any:
    """The events of a run that is told to stop after so many steps."""
    step, done = ready.optimizer.step, 0

    def stepped(*words: Any) -> Any:
        nonlocal done
        done += 1
        return step(*words)

    ready.optimizer.step = stepped
    return train(ready, should_stop=lambda: done >= after, checkpoints=Every(seconds=1e9))


def test_what_cannot_be_taken_back_is_never_written() -> None:
    ready = prepared(Net, "sgd")
    ready.optimizer.state[ready.optimizer.param_groups[0]["params"][0]]["own"] = object()
    events = list(train(ready, checkpoints=Every(steps=1)))
    assert not any(isinstance(event, Checkpoint) for event in events)
    assert events[-1].status == "completed"


def test_seconds_go_on_where_they_were() -> None:
    def make() -> Any:
        return prepared(Net, "sgd", until="seconds:0.3")

    first = list(_stopped(make(), 3))
    rest = list(train(make(), resume_from=through_a_file(first[-2].state)))
    assert first[-1].results["train_s"] <= rest[-1].results["train_s"]
    assert rest[-1].results["wall_s"] >= first[-1].results["wall_s"]


def test_weights_before_the_last_step_are_those_of_a_run_that_was_not_interrupted_after_it() -> None:
    make = lambda: prepared(Net, "adamw", epochs=2)  # noqa: E731
    plain, whole = list(train(make())), list(train(make(), keep="update"))
    assert same(facts(plain)[:2], facts(whole)[:2])
    assert same(facts(plain)[3], facts(whole)[3])
    kept = [event for event in whole if isinstance(event, Artifact) and event.name.startswith("weights")]
    assert [event.name for event in kept] == ["weights.before-last.safetensors", "weights.last.safetensors"]
    assert kept[0].data != kept[1].data
    states = (event.state for event in train(make(), checkpoints=Every(steps=6), keep="update")
              if isinstance(event, Checkpoint))  # fmt: skip
    again = list(train(make(), resume_from=through_a_file(next(states)), keep="update"))
    assert again[0].step == 6  # of six
    assert [event for event in again if isinstance(event, Artifact) and event.name.startswith("weights")] == kept


def test_a_run_that_ends_early_has_no_weights_before_its_planned_last_step() -> None:
    events = list(train(prepared(Net, "adamw", epochs=9, stop_loss=1e6), keep="update"))
    names = [event.name for event in events if isinstance(event, Artifact)]
    assert "weights.last.safetensors" in names
    assert "weights.before-last.safetensors" not in names
