"""Data that are read when they are needed: the same bits whoever reads them, and after any interruption."""

from __future__ import annotations

import random
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch

from vrcli.engine.events import Checkpoint, Ended, Eval, Every, Steps
from vrcli.engine.loop import train
from vrcli.engine.prepare import prepare
from vrcli.errors import UsageError
from vrcli.settings import resolve
from vrcli.tasks.base import TaskError
from vrcli.tasks.registry import load


@pytest.fixture(autouse=True)
def _here(valley: None) -> None:
    """The plugins are in reach."""


def prepared(*, seed: int = 0, **flags: Any) -> Any:
    task = load("streamed:Streamed")
    request = resolve(task, "adamw", flags=flags, seed=seed).request
    return prepare(request, task)


def numbers(events: Any) -> list[Any]:
    """Everything measured, without seconds."""
    found: list[Any] = []
    for event in events:
        if isinstance(event, Steps):
            found += zip(event.steps, event.values["train_loss"], event.values["grad_norm"], strict=True)
        if isinstance(event, Eval):
            found.append((event.step, event.values["val_loss"], event.values["epoch_train_loss"]))
        if isinstance(event, Ended):
            found.append((event.status, event.results.get("test_loss")))
    return found


WAYS = {
    "a data set": {"dataset": "noisy"},
    "a data set, in short epochs": {"dataset": "noisy", "steps_per_epoch": 2},
    "an iterable of known length": {"dataset": "told"},
    "one without an end": {"dataset": "flow", "steps_per_epoch": 3},
}


@pytest.mark.parametrize("flags", WAYS.values(), ids=WAYS)
def test_workers_change_no_bit(flags: dict[str, Any]):
    alone = prepared(**flags)
    torch.manual_seed(5)
    expected = numbers(train(alone))
    helped = prepared(**flags, workers=2)
    torch.manual_seed(6)  # nothing comes from where the process happens to be
    assert numbers(train(helped)) == expected
    assert alone.spec.spec_id == helped.spec.spec_id
    assert expected[-1][0] == "completed"
    assert len({row[1] for row in expected}) == len(expected)  # no batch came twice
    other = prepared(**flags, seed=1)
    assert numbers(train(other))[0] != expected[0]


@pytest.mark.parametrize("flags", WAYS.values(), ids=WAYS)
def test_a_run_goes_on_in_the_middle_of_an_epoch_with_the_same_bits(flags: dict[str, Any]):
    whole, states = [], []
    for event in train(prepared(**flags), checkpoints=Every(steps=1)):
        if isinstance(event, Checkpoint):
            states.append((len(numbers(whole)), written(event.state)))
        whole.append(event)
    place, file = states[0]
    for workers in (0, 2):
        state = torch.load(BytesIO(file), weights_only=True)
        assert state["place"] == [1, 1]
        again = numbers(train(prepared(**flags, workers=workers), resume_from=state))
        assert again == numbers(whole)[place:]


def written(state: Any) -> bytes:
    """What a checkpoint is on the disk; its tensors go on changing."""
    file = BytesIO()
    torch.save(state, file)
    return file.getvalue()


def test_what_is_read_leaves_the_generators_of_the_process_alone():
    data = prepared().data
    torch.manual_seed(1)
    np.random.seed(2)
    random.seed(3)
    expected = torch.rand(()).item(), np.random.rand(), random.random()
    torch.manual_seed(1)
    np.random.seed(2)
    random.seed(3)
    batches = data.train.batches(torch.arange(20), 6, seed=4, first=0)
    next(batches)
    assert (torch.rand(()).item(), np.random.rand(), random.random()) == expected
    assert [len(batch[0]) for batch in batches] == [6, 6, 2]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({"dataset": "empty"}, "the train data are empty: their length is 0"),
    "a loader": ({"dataset": "loader"}, "are a DataLoader; give its dataset"),
    "an iterator": ({"dataset": "once"}, "can be read once only"),
    "no data": (
        {"dataset": "number"},
        "the train data, a int, must be a Split, a Dataset with a length, or an iterable",
    ),
    "no length": ({"dataset": "flow"}, "needs a field steps_per_epoch"),
    "no identity": ({"declared": ""}, "Splits.identity is missing: say which data"),
    "too many steps": ({"steps_per_epoch": 5}, "--steps-per-epoch 5 of 6 samples is more than the 20 of streamed"),
    "no end": ({"dataset": "flow", "steps_per_epoch": 2, "stop_accuracy": 0.5}, "no metric called accuracy"),
}


@pytest.mark.parametrize(("flags", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(flags: dict[str, Any], told: str):
    with pytest.raises((TaskError, UsageError)) as error:
        prepared(**flags)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("given", "kind", "told"),
    [
        ("short", TaskError, "the training data ended 1 steps before their epoch of 5 did"),
        ("broken", OSError, "shard 5 cannot be read"),
        ("words", TypeError, "a sample must be a tensor, or a tuple of tensors and numbers, not dict"),
    ],
)
def test_faults_of_the_data_are_told_as_they_are(given: str, kind: type[Exception], told: str, workers: int):
    with pytest.raises(kind) as error:
        list(train(prepared(dataset=given, workers=workers)))
    assert str(error.value) == told


def test_the_fingerprint_is_of_the_declared_identity():
    first, same, other = (prepared(declared=text).spec.dataset_fingerprint for text in ("a", "a", "b"))
    assert first == same != other


def test_tensors_need_no_workers(vr: Callable[..., Any]):
    told = vr("run", "valley:Valley", "--opt", "adamw", "--preset", "smoke", "--workers", "2", "--threads", "1")
    assert told.code == 0
    assert "--workers 2: the data of valley are in memory; no worker reads them" in told.err


@pytest.mark.slow
def test_runs_say_what_their_data_are_declared_to_be(vr: Callable[..., Any]):
    done = vr("run", "streamed:Streamed", "--opt", "adamw", "--workers", "1", "--threads", "1")
    assert done.code == 0, done.err
    assert "by what the task declares: noisy, version 1" in vr("runs", "show", "1").out
    again = vr("sweep", "streamed:Streamed", "--opt", "adamw", "--trials", "2", "--workers", "1", "--threads", "1")
    assert again.code == 0, again.err
    assert vr("tasks", "check", "streamed:Streamed").code == 0
