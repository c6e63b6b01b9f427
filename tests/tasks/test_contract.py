"""What every registered task must keep, whoever wrote it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vrcli.optim import registry as optimizers
from vrcli.settings import resolve, settings_of
from vrcli.spec import Training
from vrcli.tasks import registry
from vrcli.tasks.base import Task
from vrcli.tasks.check import Built, build, check
from vrcli.tasks.space import Categorical, Integer, Real

NAMES = registry.names()
PRESETS = [(name, preset) for name in NAMES for preset in registry.load(name).presets]
SPACES = [(name, optimizer) for name in NAMES for optimizer in registry.load(name).space]
PAPER_OPTIMIZERS = ("vradam", "adamw", "sgd", "rmsprop")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def smoke(name: str) -> Built:
    return build(registry.load(name), "smoke")


@pytest.mark.parametrize("name", NAMES)
def test_conformance(name: str) -> None:
    failed = [f"{f.name}: {f.detail}" for f in check(registry.load(name), training_fields=Training.model_fields)
              if not f.passed]  # fmt: skip
    assert not failed


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_task_says_what_it_is(name: str) -> None:
    task = registry.load(name)
    assert task.name == name
    assert task.summary
    assert "\n" not in task.summary
    assert {"smoke", "quick"} <= set(task.presets)
    assert task.metrics[0].direction in ("min", "max")
    module = __import__(task.__module__, fromlist=["__doc__"])
    assert "Source:" in module.__doc__
    assert "Deviations:" in module.__doc__


@pytest.mark.parametrize(("name", "preset"), PRESETS)
@pytest.mark.parametrize("optimizer", PAPER_OPTIMIZERS)
def test_a_preset_makes_a_valid_run_without_its_data(name: str, preset: str, optimizer: str) -> None:
    task = registry.load(name)
    resolved = resolve(task, optimizer, preset=preset)
    request = resolved.request
    for key, sourced in task.presets[preset].settings.items():
        section = request.task_settings if key in task.Config.model_fields else request.training.model_dump()
        assert section[key] == sourced.value
        assert resolved.origins[key] == str(sourced)
    for key, sourced in task.presets[preset].optimizers.get(optimizer, {}).items():
        found = request.optimizer_settings[key]
        assert found == (list(sourced.value) if isinstance(found, list) else sourced.value)


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_value_of_a_preset_says_where_it_is_from(name: str, preset: str) -> None:
    chosen = registry.load(name).presets[preset]
    assert chosen.summary
    for settings in (chosen.settings, *chosen.optimizers.values()):
        for key, sourced in settings.items():
            assert len(sourced.why) > 3, f"{key} says only {sourced.why!r}"


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_the_optimizers_of_a_preset_exist_and_take_its_settings(name: str, preset: str) -> None:
    for optimizer in registry.load(name).presets[preset].optimizers:
        if optimizer != "*":
            resolve(registry.load(name), optimizer, preset=preset).tried()


@pytest.mark.parametrize("name", NAMES)
def test_all_of_the_papers_optimizers_have_a_search_space(name: str) -> None:
    space = registry.load(name).space
    assert "*" in space or set(PAPER_OPTIMIZERS) <= set(space)


@pytest.mark.parametrize(("name", "optimizer"), SPACES)
def test_a_search_space_holds_settings_of_its_optimizer(name: str, optimizer: str) -> None:
    for target in ("adamw", "sgd", "rmsprop", "vradam") if optimizer == "*" else (optimizer,):
        model = optimizers.settings_model(target)
        for key, dimension in registry.load(name).space[optimizer].items():
            assert key in model.model_fields
            ends = dimension.choices if isinstance(dimension, Categorical) else (dimension.low, dimension.high)
            for value in ends:
                assert getattr(model(**{key: value}), key) == value
            assert isinstance(dimension, Real | Integer | Categorical)
            assert dimension.origin


@pytest.mark.parametrize("name", NAMES)
def test_no_sample_is_in_two_splits(name: str) -> None:
    data = smoke(name).data
    rows = [{bytes(row.contiguous().flatten().view(torch.uint8).tolist()) for row in split.tensors[0]}
            for split in (data.train, data.val, data.test)]  # fmt: skip
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert not rows[1] & rows[2]


@pytest.mark.parametrize("name", NAMES)
def test_another_split_seed_gives_another_split(name: str) -> None:
    task = smoke(name).task
    if name == "transformer":
        pytest.skip("the text's own splits")
    other = task.data(torch.Generator().manual_seed(77))
    assert other.fingerprint() != smoke(name).data.fingerprint()


def outcomes(built: Built) -> int | None:
    """Among how many classes or words the task predicts one."""
    info = built.data.info
    if built.task.name == "cnn":
        return int(info["classes"])
    words = info.get("vocabulary")
    return words if words is None or isinstance(words, int) else len(words)


@pytest.mark.parametrize("name", NAMES)
def test_an_untrained_model_guesses(name: str) -> None:
    built = smoke(name)
    count = outcomes(built)
    if count is None:
        pytest.skip("not a classifier")
    found = built.evaluate(built.model(), built.data.val)
    assert found["loss"] == pytest.approx(math.log(count), rel=0.1)
    training = built.loss(built.model()).item()
    assert training == pytest.approx(math.log(count), rel=0.25)


@pytest.mark.parametrize("name", NAMES)
def test_the_bound_of_divergence_is_far_above_the_first_loss(name: str) -> None:
    built = smoke(name)
    assert built.task.diverged_above > 10 * abs(built.loss(built.model()).item())


@pytest.mark.parametrize("name", NAMES)
def test_taking_a_batch_leaves_the_data_as_they_are(name: str) -> None:
    built = smoke(name)
    before = built.data.fingerprint()
    for tensor in built.batch(seed=1):
        tensor.zero_()
    assert built.data.fingerprint() == before


class NoSynchronisation(TorchDispatchMode):
    """Fails where a tensor's value becomes a Python value, which on a GPU waits for the device."""

    WAITS = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal", "aten.is_nonzero")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not str(func).startswith(self.WAITS), f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_never_waits_for_the_device(name: str) -> None:
    if name == "gflownet":
        pytest.skip("how long a trajectory is depends on what was sampled")
    built = smoke(name)
    model = built.model().train()
    index = torch.arange(min(4, len(built.data.train)))
    generator = torch.Generator().manual_seed(0)
    with NoSynchronisation():
        built.task.loss(model, built.task.train_batch(built.data.train, index, generator)).backward()


def test_the_check_for_waiting_can_fail() -> None:
    with NoSynchronisation(), pytest.raises(AssertionError, match="waits"):
        torch.ones(1).item()


def test_no_task_knows_another_packages_settings() -> None:
    for name in NAMES:
        task: type[Task[Any]] = registry.load(name)
        for optimizer in PAPER_OPTIMIZERS:
            settings_of(task, optimizer)  # raises where names clash
