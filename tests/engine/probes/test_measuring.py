"""A run with probes is the run without them, bit for bit; what they measure is the same whenever it is measured."""

from __future__ import annotations

import importlib.util
import math
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vrcli.bench.check_probe import CASES, SMALL, difference, trained
from vrcli.engine.events import Artifact, Ended, Eval, Probed, Steps
from vrcli.engine.loop import train
from vrcli.engine.prepare import DataCache, prepare
from vrcli.engine.probes import measuring, registry
from vrcli.engine.probes.asked import Probing
from vrcli.engine.probes.base import Probe, View
from vrcli.engine.probes.noise import Noise
from vrcli.engine.probes.noise import Options as NoiseOptions
from vrcli.errors import UsageError
from vrcli.probing import curves_of
from vrcli.settings import resolve
from vrcli.tasks import registry as tasks

_spec = importlib.util.spec_from_file_location("toy", Path(__file__).parents[1] / "toy.py")
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)
CACHE = DataCache()
FAMILIES = (*(optimizer for _, optimizer in CASES), "sam", "flowadam", "muon", "sgd")


class Net(toy.Toy):
    """With batch norm and dropout."""

    def model(self, data: Any) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Tanh(), nn.Linear(8, 1))


class Vandal(Probe):
    """Changes all that it can reach."""

    name, summary = "vandal", "breaks things"

    def measure(self, view: View) -> dict[str, float]:
        torch.manual_seed(view.step)
        np.random.seed(view.step)
        view.prepared.task.scratch = 3  # type: ignore[attr-defined]  # what a task may come to have
        for p in view.parameters:
            p.detach().zero_()
            p.grad = torch.ones_like(p)
        for module in view.model.modules():
            module.train(view.step % 2 == 0)
            for buffer in module.buffers(recurse=False):
                buffer.fill_(7)
        for state in view.optimizer.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    value.fill_(5)
            state["new"] = 1
        view.optimizer.param_groups[0]["lr"] = 100.0
        return {"one": 1.0}


def run(task: Any = Net, optimizer: str = "adam", probing: Probing = Probing(), **flags: Any) -> tuple[list[Any], Any]:  # noqa: B008  # frozen
    request = resolve(task, optimizer, flags={"epochs": 2, **flags}).request
    prepared = prepare(request, task, cache=CACHE)
    return list(train(prepared, probing=probing)), prepared


def probed(events: list[Any]) -> list[Probed]:
    return [event for event in events if isinstance(event, Probed)]


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "adahessian"])
def test_whatever_a_probe_changes_is_put_back(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", lambda name: Vandal)
    (plain, one), (events, two) = (
        run(optimizer=optimizer),
        run(optimizer=optimizer, probing=Probing({"vandal": {}}, "1")),
    )
    assert [event.values for event in probed(events)] == [{"vandal_one": 1.0}] * 6
    assert facts(plain) == facts(events)
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, two.model.state_dict()[name])
    assert repr(one.optimizer.state_dict()) == repr(two.optimizer.state_dict())


def facts(events: list[Any]) -> str:
    """All that a run measured by itself, without times."""
    steps = [(at, name, value) for e in events if isinstance(e, Steps)
             for name, values in e.values.items() for at, value in zip(e.steps, values, strict=True)]  # fmt: skip
    evaluations = [{k: v for k, v in e.values.items() if k != "wall_s"} for e in events if isinstance(e, Eval)]
    results = {k: v for k, v in events[-1].results.items() if k.startswith(("test", "best", "val", "final"))}
    return repr((sorted(steps), evaluations, results))


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize(("task", "optimizer"), [("spirals", "lbfgs"), ("cnn", "vradam")])
def test_a_probe_leaves_the_bits_of_real_tasks(name: str, task: str, optimizer: str) -> None:
    check_bits(name, task, optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("optimizer", FAMILIES)
@pytest.mark.parametrize("task", [name for name in tasks.own() if name not in ("cnn",)])
def test_a_probe_leaves_the_bits_of_every_task_and_family(name: str, task: str, optimizer: str) -> None:
    try:
        check_bits(name, task, optimizer)
    except UsageError as error:  # a task that cannot give a closure, or whose data are not here
        pytest.skip(str(error))


def check_bits(name: str, task: str, optimizer: str) -> None:
    fields = registry.load(name).Options.model_fields
    few = task == "transformer"  # others have fewer samples, or smaller ones, and all of them are measured
    probing = Probing({name: {k: v for k, v in SMALL.items() if k in fields and (few or k != "batch")}}, "2")
    plain, with_probe = (trained(task, optimizer, one, steps=2, cache=CACHE) for one in (Probing(), probing))
    assert difference(plain, with_probe) == ""
    assert with_probe.measured


@pytest.mark.parametrize("name", registry.names())
def test_a_run_that_was_taken_up_measures_what_it_would_have(name: str) -> None:
    probing = Probing({name: {}}, "2")
    whole = trained("spirals", "vradam", probing, steps=6, cache=CACHE)
    assert whole.checkpoint is not None
    rest = trained("spirals", "vradam", probing, whole.checkpoint, steps=6, cache=CACHE)
    assert rest.values == whole.values[-2:]
    assert difference(whole, rest) == ""


def test_probing_costs_no_budget_and_its_time_is_its_own() -> None:
    plain, (events, _) = run()[0], run(probing=Probing({"sharpness": {}}, "1e"))
    found, base = events[-1].results, plain[-1].results
    assert found["steps"] == base["steps"]
    assert found["gradient_evaluations"] == base["gradient_evaluations"]
    assert [event.step for event in probed(events)] == [3, 6]
    assert found["probe_gradients"] == sum(event.gradient_evaluations for event in probed(events)) > 20
    assert found["probe_s"] == pytest.approx(sum(event.seconds for event in probed(events)))
    assert "probe_s" not in base


@pytest.mark.parametrize(("every", "steps"), [("1", [1, 2, 3, 4, 5, 6]), ("4", [4]), ("2e", [6]), ("9", [])])
def test_probes_measure_every_so_many_steps_or_epochs(every: str, steps: list[int]) -> None:
    assert [event.step for event in probed(run(probing=Probing({"updates": {}}, every))[0])] == steps


@pytest.mark.parametrize("every", ["0", "0e", "-1", "e", "", "1.5", "2s", "1ee", "²", "9" * 20])
def test_other_intervals_are_refused(every: str) -> None:
    with pytest.raises(UsageError, match="--probe-every must be steps"):
        Probing({}, every)


# -- updates ----------------------------------------------------------------------------------------------------------


def test_the_update_of_gradient_descent_follows_its_gradient() -> None:
    events, _ = run(toy.Toy, "sgd", Probing({"updates": {}}, "1"), lr=0.1)
    for event in probed(events):
        values = event.values
        assert values["updates_cosine_gradient"] == pytest.approx(1, abs=1e-5)
        assert values["updates_norm"] == pytest.approx(0.1 * values["updates_gradient_norm"], rel=1e-4)
        assert values["updates_norm/weight"] <= values["updates_norm"]
    assert "updates_cosine_previous" not in probed(events)[0].values
    assert -1 <= probed(events)[1].values["updates_cosine_previous"] <= 1


def test_an_update_far_from_the_last_measurement_is_still_that_of_one_step() -> None:
    every, third = (probed(run(probing=Probing({"updates": {}}, one))[0]) for one in ("1", "3"))
    assert third[0].values == every[2].values
    assert third[1].values == every[5].values


# -- noise ------------------------------------------------------------------------------------------------------------


def test_the_noise_is_that_of_exact_gradients() -> None:
    request = resolve(toy.Toy, "sgd", flags={"epochs": 1}).request
    prepared = prepare(request, toy.Toy, cache=CACHE)
    found = Noise(NoiseOptions(batch=24, chunk=5)).measure(View(prepared))
    x, y = prepared.data.train.tensors
    weight, bias = (p.detach() for p in prepared.model.parameters())
    residual = 2 * (x @ weight.T + bias - y[:, None])
    gradients = torch.cat([residual * x, residual], 1).double()
    mean = gradients.mean(0)
    trace = float((gradients - mean).square().sum() / 23)
    assert found["trace"] == pytest.approx(trace, rel=1e-4)
    assert found["gradient"] == pytest.approx(float(mean.square().sum()) - trace / 24, rel=1e-3)
    assert found["scale"] == pytest.approx(found["trace"] / found["gradient"])


def test_shards_estimate_the_same_noise() -> None:
    request = resolve(toy.Toy, "sgd", flags={"epochs": 1, "rows": 4000}).request
    prepared = prepare(request, toy.Toy)
    single = Noise(NoiseOptions(batch=4000)).measure(View(prepared))
    prepared.model.register_module("norm", nn.BatchNorm1d(1))  # which nobody calls: it is there
    view = View(prepared)
    shards = Noise(NoiseOptions(batch=4000, shard=8)).measure(view)
    assert shards["small"] == 8
    assert "shards of 8" in view.notes[0]
    assert shards["trace"] == pytest.approx(single["trace"], rel=0.25)
    assert shards["gradient"] == pytest.approx(single["gradient"], rel=0.1)


class Counting(Net):
    """Whose output needs a number on the host."""

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return super().loss(model, batch) * (1.0 if batch[0].sum().item() > 0 else 2.0)

    def model(self, data: Any) -> nn.Module:
        return nn.Linear(3, 1)


def test_samples_that_cannot_be_taken_one_by_one_are_said_to_be_so() -> None:
    events, _ = run(Counting, "sgd", Probing({"noise": {}}, "1e"))
    assert {text for event in probed(events) for text in event.notes} == {
        "probe noise: torch.func cannot take this model's samples one by one; shards of 12 are measured"
    }
    assert all(event.values["noise_small"] == 12 for event in probed(events))


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "vradam", "lamb"])
def test_probes_measure_what_they_say_they_can_and_no_probe_says_nothing(optimizer: str) -> None:
    given: dict[str, Any] = {name: {} for name in registry.names()}
    events, _ = run(Net, optimizer, Probing(given, "1"))
    patterns = curves_of(Probing(given))
    assert not any(pattern.endswith("_*") for pattern in patterns)
    found = {name for event in probed(events) for name in event.values}
    assert [name for name in found if not any(fnmatchcase(name, pattern) for pattern in patterns)] == []
    if optimizer == "vradam":  # which has all of them
        unused = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in found)]
        assert unused == ["sharpness_threshold"]


# -- faults -----------------------------------------------------------------------------------------------------------


class Kink(torch.autograd.Function):
    """Zero, with a gradient of zero that has no derivative."""

    @staticmethod
    def forward(ctx: Any, p: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(p)
        return torch.zeros(())

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (p,) = ctx.saved_tensors
        return gradient * (p - p.detach()).square().sqrt()


class Infinite(toy.Toy):
    """Whose loss has no curvature that is a number."""

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return super().loss(model, batch) + sum(Kink.apply(p) for p in model.parameters())


def test_products_that_are_not_finite_are_missing_values_and_said_once() -> None:
    events, _ = run(Infinite, "sgd", Probing({"sharpness": {}}, "1"))
    found = probed(events)
    assert all(math.isnan(value) for event in found for name, value in event.values.items() if name.endswith("_1"))
    assert [text for event in found for text in event.notes] == [
        "probe sharpness: a product of the Hessian is not finite; its eigenvalues are recorded as NaN"
    ]
    assert events[-1].status == "completed"


def test_an_unknown_preconditioner_is_said_once_and_the_raw_one_is_measured() -> None:
    events, _ = run(Net, "lamb", Probing({"sharpness": {}}, "1"))
    found = probed(events)
    assert not any("preconditioned" in name for event in found for name in event.values)
    assert all(event.values["sharpness_1"] > 0 for event in found)
    assert [text for event in found for text in event.notes] == [
        "probe sharpness: the preconditioner of Lamb is not known; only the raw one is measured"
    ]
    (said,) = {
        text for e in probed(run(Net, "lamb", Probing({"sharpness": {"raw": False}}, "1"))[0]) for text in e.notes
    }
    assert said.endswith("is not known; nothing is measured")


class Failing(Probe):
    """Raises; keeps an array otherwise."""

    name, summary = "failing", "raises at its first step"

    def measure(self, view: View) -> dict[str, Any]:
        if view.step == 1:
            raise RuntimeError("no derivative\nof this")
        return {"values": np.arange(3)}


def test_a_probe_that_raises_costs_the_run_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", lambda name: Failing)
    events, _ = run(probing=Probing({"failing": {}}, "1"))
    assert probed(events)[0].notes == ("probe failing measured nothing: RuntimeError: no derivative",)
    assert isinstance(events[-1], Ended)
    assert events[-1].status == "completed"
    kept = [event for event in events if isinstance(event, Artifact) and event.name.startswith("failing")]
    assert [event.name for event in kept] == [f"failing_values.{step}.npy" for step in range(2, 7)]


@pytest.mark.parametrize(
    "value", [None, {"a": None}, {"a": "x"}, {"a": 1j}, {"a": np.array([None])}, {"a": [[1], [1, 2]]}, 3], ids=str
)
def test_what_is_no_measurement_is_a_fault_of_the_probe(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Failing, "measure", lambda self, view: value)
    monkeypatch.setattr(registry, "load", lambda name: Failing)
    events, _ = run(probing=Probing({"failing": {}}, "1e"))
    assert all(event.values == {} for event in probed(events))
    assert [len(event.notes) for event in probed(events)] == [1, 0]  # said once
    assert probed(events)[0].notes[0].startswith("probe failing measured nothing: ")
    assert not [event for event in events if isinstance(event, Artifact) and event.name.startswith("failing")]
    assert events[-1].status == "completed"


def test_parts_of_a_batch_have_noise_of_their_own_and_always_the_same() -> None:
    class Noisy(toy.Toy):
        def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
            return super().loss(model, batch) + torch.rand(())

    view = View(prepare(resolve(Noisy, "sgd", flags={}).request, Noisy, cache=CACHE))
    batch = view.batch(6)
    first, again, other = (float(view.loss(batch, part)) for part in (0, 0, 1))
    assert first == again != other


def test_a_batch_above_the_data_is_refused_and_the_default_takes_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"--probe-sharpness-batch must be <= 24, the training samples of toy, got 25"):
        run(toy.Toy, "sgd", Probing({"sharpness": {"batch": 25}}, "1e"))
    assert probed(run(toy.Toy, "sgd", Probing({"sharpness": {}}, "1e"))[0])


def test_the_batch_is_the_same_at_every_step_and_another_for_another_seed() -> None:
    def drawn(seed: int) -> torch.Tensor:
        request = resolve(toy.Toy, "sgd", flags={"augment": 0.5}, seed=seed).request
        view = View(prepare(request, toy.Toy, cache=CACHE))
        first = view.batch(6)[0]
        assert torch.equal(first, view.batch(6)[0])
        return first

    assert not torch.equal(drawn(0), drawn(1))
    assert measuring.built(Probing(), object()) == []  # type: ignore[arg-type]  # nothing is looked at
