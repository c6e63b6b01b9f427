"""FlowAdam: its Adam, its solver against scipy's and exact flows, its switch and its injection."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import nn

from vrcli.optim import registry
from vrcli.optim.flowadam import FlowAdam, dopri5

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


@pytest.mark.parametrize("duration", [0.01, 1.0, 20.0])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-8])
def test_solver_on_an_exact_flow(duration, tolerance):
    rates = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    y = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    end = dopri5(lambda x: -rates * x, y, duration, first=-rates * y, tolerance=tolerance)
    torch.testing.assert_close(end, y * torch.exp(-rates * duration), rtol=0, atol=20 * tolerance)


def test_solver_against_scipy():
    def field(x):
        return np.array([x[1], (1 - x[0] ** 2) * x[1] - x[0]])  # van der Pol

    y = np.array([2.0, 0.0])
    exact = solve_ivp(lambda t, x: field(x), (0, 5), y, rtol=1e-12, atol=1e-12).y[:, -1]
    counted = []

    def velocity(x):
        counted.append(1)
        return torch.from_numpy(field(x.numpy()))

    end = dopri5(velocity, torch.from_numpy(y), 5.0, first=torch.from_numpy(field(y)), tolerance=1e-6)
    np.testing.assert_allclose(end.numpy(), exact, atol=1e-4)
    assert len(counted) < 1.5 * solve_ivp(lambda t, x: field(x), (0, 5), y, rtol=1e-6, atol=1e-6).nfev


@pytest.mark.parametrize("broken", [lambda x: x * math.nan, lambda x: 1e6 * torch.sign(torch.sin(1e9 * x))])
def test_solver_gives_up(broken):
    y = torch.ones(2, dtype=torch.float64)
    assert dopri5(broken, y, 1.0, first=torch.ones(2, dtype=torch.float64), tolerance=1e-8) is None


def test_flow_follows_the_clamped_gradient_and_injects_its_velocity():
    params, curvatures = problem()
    optimizer = FlowAdam(params, 0.1, gamma=0.25, ode_t_scale=2.0, tolerance=1e-9, **ALWAYS)
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


def test_failed_flow_takes_adams_step(monkeypatch):
    flowing, curvatures = problem()
    plain, _ = problem()
    monkeypatch.setattr("vrcli.optim.flowadam.dopri5", lambda velocity, y, *_, **__: (velocity(y + 1), None)[1])
    optimizer = FlowAdam(flowing, 0.01, **ALWAYS)
    run(flowing, curvatures, optimizer, 20)
    run(plain, curvatures, FlowAdam(plain, 0.01, **NEVER), 20)
    assert optimizer.counters() == {"steps": 20, "triggers": 9, "evaluations": 29}
    for a, b in zip(flowing, plain, strict=True):
        assert torch.equal(a, b)


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


@pytest.mark.parametrize("settings", [{"lr": -1}, {"gamma": 1.5}, {"betas": (1, 0)}, {"tolerance": 0}, {"eps": -1}])
def test_refuses_bad_values_by_name(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        FlowAdam(problem()[0], **settings)
    with pytest.raises(ValueError, match="one parameter group"):
        FlowAdam([{"params": [p]} for p in problem()[0]])


def test_refuses_a_group_added_later():
    optimizer = FlowAdam(problem()[0])
    with pytest.raises(ValueError, match="one parameter group"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    assert len(optimizer.param_groups) == 1
