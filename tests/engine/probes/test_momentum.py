"""The probe momentum: the norm is that of the state, and the bound of VRAdam's step can be found broken."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vrcli.engine.events import Probed, Steps
from vrcli.engine.loop import train
from vrcli.engine.prepare import DataCache, prepare
from vrcli.engine.probes.asked import Probing
from vrcli.engine.probes.momentum import Momentum
from vrcli.settings import resolve
from vrcli.tasks.registry import load

CACHE = DataCache()


def run(optimizer: str, steps: int = 8, **flags: Any) -> tuple[list[dict[str, float]], list[str], Any, list[Steps]]:
    """Values by measurement, notes, the prepared run, and what the engine recorded."""
    task = load("cnn")
    flags = {"until": f"steps:{steps}", "schedule": "constant", **flags}
    prepared = prepare(resolve(task, optimizer, preset="smoke", flags=flags).request, task, cache=CACHE)
    events = list(train(prepared, probing=Probing({"momentum": {}}, "1")))
    probed = [event for event in events if isinstance(event, Probed)]
    notes = [text for event in probed for text in event.notes]
    return [dict(event.values) for event in probed], notes, prepared, [e for e in events if isinstance(e, Steps)]


def recorded(blocks: list[Steps], name: str) -> list[float]:
    return [value for block in blocks for value in block.values[name]]


@pytest.mark.parametrize(
    ("optimizer", "state"),
    [("vradam", "exp_avg"), ("adamw", "exp_avg"), ("sgd", "momentum_buffer"), ("sophiah", "momentum")],
)
def test_the_norm_is_that_of_the_whole_state(optimizer: str, state: str) -> None:
    values, notes, prepared, _ = run(optimizer, **({"momentum": 0.9} if optimizer == "sgd" else {}))
    whole = torch.cat([own[state].flatten() for own in prepared.optimizer.state.values()]).double()
    assert values[-1]["momentum_norm"] == pytest.approx(float(whole.norm()), rel=1e-12)
    assert set(values[-1]) == {"momentum_norm"} | (
        {"momentum_reach", "momentum_bound"} if optimizer == "vradam" else set()
    )
    assert notes == []


def test_under_normgrad_it_is_still_the_velocity() -> None:
    values, _, _, blocks = run("vradam", normgrad=True)
    ratios = [own["momentum_norm"] / norm for own, norm in zip(values, recorded(blocks, "velocity_norm"), strict=True)]
    assert ratios[0] == pytest.approx(0.1, rel=1e-5)  # v = (1 - b1) g after the first step
    assert all(ratio < 0.9 for ratio in ratios)


def test_another_power_has_no_bound() -> None:
    values, _, _, _ = run("vradam", power=1.0)
    assert all(math.isnan(own["momentum_bound"]) for own in values)


@pytest.mark.parametrize("optimizer", ["vradam", "vrmomentum"])
def test_the_step_stays_under_the_bound_that_the_paper_proves(optimizer: str) -> None:
    values, _, _, blocks = run(optimizer, steps=30, lr=0.01, beta3=10.0)
    assert values[0]["momentum_bound"] == pytest.approx(0.01 / (2 * math.sqrt(10)))
    for own, rate in zip(values, recorded(blocks, "lr_effective"), strict=True):
        assert own["momentum_reach"] == pytest.approx(own["momentum_norm"] * rate, rel=1e-6)
        assert own["momentum_reach"] <= own["momentum_bound"] * (1 + 1e-5)
    assert max(own["momentum_reach"] / own["momentum_bound"] for own in values) > 0.9  # it is near, so the check is one


def test_another_norm_than_the_global_one_breaks_it() -> None:
    values, _, _, _ = run("vradam", steps=30, lr=0.01, beta3=10.0, norm_scope="tensor")
    assert max(own["momentum_reach"] / own["momentum_bound"] for own in values) > 1.5


def test_where_the_cutoff_is_active_there_is_no_bound() -> None:
    values, _, _, blocks = run("vradam", steps=30, lr=0.01, beta3=100.0, lr_cutoff=2.0)
    at_cutoff = [gate <= (1 + 1e-5) / 3 for gate in recorded(blocks, "gate")]
    assert [math.isnan(own["momentum_bound"]) for own in values] == at_cutoff
    assert 0 < sum(at_cutoff) < 30
    assert math.isnan(run("vradam", beta3=0.0)[0][-1]["momentum_bound"])


def test_an_optimizer_without_a_mean_is_said_once() -> None:
    values, notes, _, _ = run("sgd", momentum=0.0, nesterov=False)
    assert values == [{}] * 8
    assert notes == ["probe momentum: SGD keeps no momentum"]


def test_a_state_that_has_numbers_beside_those_of_the_tensors_is_read() -> None:
    weight = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    optimizer.state["k"] = torch.tensor([0])  # as MADGRAD of pytorch-optimizer keeps it
    view: Any = SimpleNamespace(optimizer=optimizer, notes=[])
    assert Momentum(Momentum.Options()).measure(view) == {"norm": pytest.approx(math.sqrt(2))}
    assert view.notes == []
