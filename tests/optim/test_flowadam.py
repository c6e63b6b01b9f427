"""FlowAdam: its Adam, its switch, its flow and injection, its groups, modes and counters."""

import copy
import math

import pytest
import torch
from torch import nn

from vrcli.engine.events import Steps
from vrcli.engine.loop import train
from vrcli.engine.prepare import prepare
from vrcli.optim import registry
from vrcli.optim.flowadam import MODES, FlowAdam
from vrcli.optim.runge_kutta import Solution
from vrcli.settings import resolve
from vrcli.tasks.cnn import Cnn

NEVER = {"switch_sensitivity": 0.0, "curvature_sensitivity": math.inf}
ALWAYS = {"switch_sensitivity": math.inf}


def problem(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in [(3, 2), (4,)]]
    return params, [torch.linspace(0.1, 1.0, p.numel(), dtype=dtype).view(p.shape) for p in params]


def run(params, curvatures, optimizer, steps):
    def closure():
        optimizer.zero_grad()
        loss = sum((c * p * p).sum() / 2 for c, p in zip(curvatures, params, strict=True))
        loss.backward()
        return loss

    return [optimizer.step(closure).item() for _ in range(steps)]


def test_between_flows_it_is_adam():
    mine, curvatures = problem()
    theirs, _ = problem()
    run(mine, curvatures, FlowAdam(mine, 0.01, eps=0.0, **NEVER), 50)
    run(theirs, curvatures, torch.optim.Adam(theirs, 0.01, eps=0.0), 50)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_flow_follows_the_clamped_gradient_and_injects_its_velocity():
    params, curvatures = problem()
    optimizer = FlowAdam(params, 0.1, gamma=0.25, ode_t_scale=2.0, rtol=1e-9, atol=1e-9, **ALWAYS)
    run(params, curvatures, optimizer, 11)
    assert optimizer.counters()["triggers"] == 0, "ten steps must be done before"
    start = [p.detach().clone() for p in params]
    momenta = [optimizer.state[p]["exp_avg"].clone() for p in params]
    counts = [optimizer.state[p]["step"] for p in params]
    run(params, curvatures, optimizer, 1)
    assert optimizer.counters()["triggers"] == 1
    assert [optimizer.state[p]["step"] for p in params] == counts
    for p, theta, c, m in zip(params, start, curvatures, momenta, strict=True):
        assert (c * theta).abs().max() < 1, "no clamping: the flow is an exponential"
        torch.testing.assert_close(p.detach(), theta * torch.exp(-c * 0.2), rtol=1e-7, atol=1e-9)
        u = (theta - p.detach()) / 0.1
        u *= min(1.0, 5 * float(m.norm()) / float(u.norm()))
        torch.testing.assert_close(optimizer.state[p]["exp_avg"], 0.75 * m + 0.25 * u, rtol=1e-9, atol=1e-12)


def test_failed_flow_takes_adams_step():
    """From the twelfth step on, every gradient but that at the step's start is NaN, so no flow has an end."""
    flowing, curvatures = problem()
    plain, _ = problem()
    optimizer = FlowAdam(flowing, 0.01, **ALWAYS)
    run(flowing, curvatures, optimizer, 11)
    for _ in range(9):
        starts = [p.detach().clone() for p in flowing]

        def closure(starts=starts):
            optimizer.zero_grad()
            moved = any(not torch.equal(p, start) for p, start in zip(flowing, starts, strict=True))
            loss = sum((c * p * p).sum() / 2 for c, p in zip(curvatures, flowing, strict=True))
            (loss * math.nan if moved else loss).backward()
            return loss

        optimizer.step(closure)
    run(plain, curvatures, FlowAdam(plain, 0.01, **NEVER), 20)
    found = optimizer.counters()
    assert (found["steps"], found["triggers"], found["failures"], found["accepted"]) == (20, 9, 9, 0)
    assert found["evaluations"] > 29
    for a, b in zip(flowing, plain, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("gamma", "share"), [(1.0, 1.0), (0.0, 0.0)])
def test_hard_injection_replaces_the_momentum_and_none_keeps_it(gamma, share):
    params, curvatures = problem()
    optimizer = FlowAdam(params, 0.1, gamma=gamma, momentum_clip=math.inf, **ALWAYS)
    run(params, curvatures, optimizer, 11)
    start = [p.detach().clone() for p in params]
    momenta = [optimizer.state[p]["exp_avg"].clone() for p in params]
    run(params, curvatures, optimizer, 1)
    for p, theta, m in zip(params, start, momenta, strict=True):
        expected = share * (theta - p.detach()) / 0.1 + (1 - share) * m
        torch.testing.assert_close(optimizer.state[p]["exp_avg"], expected)


def test_gradients_of_the_flow_are_clipped():
    p = nn.Parameter(torch.tensor([1.0, 100.0], dtype=torch.float64))
    curvatures = [torch.ones(2, dtype=torch.float64)]
    optimizer = FlowAdam([p], 0.01, gradient_clip=2.0, ode_t_scale=10.0, **ALWAYS)
    run([p], curvatures, optimizer, 11)
    start = p.detach().clone()
    run([p], curvatures, optimizer, 1)
    assert start[0] < 2
    expected = torch.stack([start[0] * math.exp(-0.1), start[1] - 0.1 * 2.0])
    torch.testing.assert_close(p.detach(), expected, rtol=1e-4, atol=1e-4)


def test_groups_flow_together_each_for_its_own_time():
    params, curvatures = problem()
    rest = nn.Parameter(torch.ones(2, dtype=torch.float64))
    groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.05}, {"params": [rest], "lr": 0.0}]
    optimizer = FlowAdam(groups, 0.1, ode_t_scale=2.0, rtol=1e-9, atol=1e-9, **ALWAYS)
    every, curved = [*params, rest], [*curvatures, torch.ones_like(rest).detach()]
    run(every, curved, optimizer, 11)
    start = [p.detach().clone() for p in every]
    run(every, curved, optimizer, 1)
    assert optimizer.counters()["triggers"] == 1
    for p, theta, c, duration in zip(every, start, curved, (0.2, 0.1, 0.0), strict=True):
        torch.testing.assert_close(p.detach(), theta * torch.exp(-c * duration), rtol=1e-7, atol=1e-9)


def test_groups_of_equal_settings_are_one_group():
    one, curvatures = problem()
    two, _ = problem()
    run(one, curvatures, FlowAdam(one, 0.05, **ALWAYS), 20)
    run(two, curvatures, FlowAdam([{"params": [p]} for p in two], 0.05, **ALWAYS), 20)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_gives_what_is_not_given(mode):
    group = FlowAdam(problem()[0], mode=mode).param_groups[0]
    assert {name: group[name] for name in MODES[mode]} == MODES[mode]
    group = FlowAdam(problem()[0], mode=mode, ode_t_scale=7.0).param_groups[0]
    assert {name: group[name] for name in MODES[mode]} == {**MODES[mode], "ode_t_scale": 7.0}


def coupled(steps, **settings):
    """Triggers after each step of completing a small matrix of rank 2, and the factors, in float64."""
    generator = torch.Generator().manual_seed(5)
    target = (
        torch.randn(20, 2, generator=generator, dtype=torch.float64) @ torch.randn(2, 30, generator=generator).double()
    )
    seen = torch.rand(20, 30, generator=generator) < 0.3
    factors = [nn.Parameter(0.1 * torch.randn(n, 7, generator=generator, dtype=torch.float64)) for n in (20, 30)]
    optimizer, triggers = FlowAdam(factors, **settings), []

    def closure():
        optimizer.zero_grad()
        loss = ((factors[0] @ factors[1].T - target)[seen]).square().mean()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
        triggers.append(optimizer.counters()["triggers"])
    return triggers, [p.detach() for p in factors]


@pytest.mark.slow
def test_with_torchdiffeqs_solver_in_its_place_a_long_run_is_the_same(monkeypatch):
    """At a large rate single precision tells the two apart after hundreds of steps: by rounding, not by the method."""
    torchdiffeq = pytest.importorskip("torchdiffeq")

    def solve(velocity, y, duration, *, first, solver, rtol, atol):
        times = torch.tensor([0.0, duration], dtype=y.dtype)
        end = torchdiffeq.odeint(lambda t, p: velocity(p), y.clone(), times, rtol=rtol, atol=atol, method=solver)[-1]
        return Solution(end)

    own, factors = coupled(250, lr=0.2, mode="a")
    monkeypatch.setattr("vrcli.optim.flowadam.solve", solve)
    theirs, expected = coupled(250, lr=0.2, mode="a")
    assert own[-1] > 5
    assert own == theirs
    torch.testing.assert_close(factors, expected, rtol=1e-4, atol=1e-4)


def test_counters_count_what_the_closure_sees():
    params, curvatures = problem()
    optimizer = FlowAdam(params, 0.1, **ALWAYS)
    calls = []

    def closure():
        calls.append(1)
        optimizer.zero_grad()
        loss = sum((c * p * p).sum() / 2 for c, p in zip(curvatures, params, strict=True))
        loss.backward()
        return loss

    per_step, total = [], 0
    for _ in range(15):
        before = len(calls)
        optimizer.step(closure)
        told = {name: float(value) for name, value in optimizer.telemetry().items()}
        assert told["flow_evaluations"] == len(calls) - before - 1
        per_step.append(told)
        total += int(told["flow_accepted"] + told["flow_rejected"])
    found = optimizer.counters()
    assert found["evaluations"] == len(calls)
    assert found["accepted"] + found["rejected"] == total > 0
    assert [told["flow_triggers"] for told in per_step] == [0] * 11 + [1, 2, 3, 4]
    # a step of dopri5 costs six, finding the first one's size costs one
    assert found["evaluations"] == 15 + 4 + 6 * total


def test_the_flow_is_recorded_as_curves():
    resolved = resolve(Cnn, "flowadam", preset="smoke", flags={"max_steps": "14", "mode": "b"})
    curves = {}
    for event in train(prepare(resolved.request, Cnn)):
        if isinstance(event, Steps):
            for name, values in event.values.items():
                curves.setdefault(name, []).extend(values)
    assert curves["flow_triggers"][10] == 0 < curves["flow_triggers"][-1]
    assert len(curves["flow_evaluations"]) == 14
    assert curves["flow_failures"][-1] == 0


def test_switches_on_a_plateau_and_on_a_jump():
    p = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = FlowAdam([p], 1e-3)
    scale = 1.0

    def closure():
        optimizer.zero_grad()
        loss = (scale * p).sum()
        loss.backward()
        return loss

    for _ in range(20):
        optimizer.step(closure)
    assert optimizer.counters()["triggers"] == 0
    scale = 0.1  # the norm falls below 0.4 times its average
    optimizer.step(closure)
    assert optimizer.counters()["triggers"] == 1


def test_round_trip_continues_identically():
    params, curvatures = problem(torch.float32)
    optimizer = FlowAdam(params, 0.05, **ALWAYS)
    run(params, curvatures, optimizer, 15)
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    loaded = FlowAdam(twins, 1.0)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(params, curvatures, optimizer, 5)
    run(twins, curvatures, loaded, 5)
    assert all(torch.equal(a, b) for a, b in zip(params, twins, strict=True))
    assert loaded.counters() == optimizer.counters()


def test_registered_with_its_closure():
    assert registry.find("flowadam").capabilities == {"closure"}


@pytest.mark.parametrize(
    "settings",
    [{"lr": -1}, {"gamma": 1.5}, {"betas": (1, 0)}, {"rtol": 0}, {"atol": math.inf}, {"eps": -1}, {"mode": "c"},
     {"solver": "euler"}, {"gradient_clip": 0}, {"momentum_clip": -1}, {"switch_sensitivity": math.nan}],
)  # fmt: skip
def test_refuses_bad_values_by_name(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        FlowAdam(problem()[0], **settings)


@pytest.mark.parametrize("settings", [{"curvature_sensitivity": 1.0}, {"solver": "bosh3"}, {"mode": "b"}, {"lr": -1}])
def test_refuses_a_group_that_would_need_a_flow_of_its_own(settings):
    optimizer = FlowAdam(problem()[0])
    with pytest.raises(ValueError, match=next(iter(settings))):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))], **settings})
    assert len(optimizer.param_groups) == 1
