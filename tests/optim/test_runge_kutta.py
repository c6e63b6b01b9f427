"""The solver against exact flows, scipy's and torchdiffeq's, and where it gives up."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from vrcli.optim.runge_kutta import MAX_EVALUATIONS, SOLVERS, solve


@pytest.mark.parametrize("duration", [0.01, 1.0, 20.0])
@pytest.mark.parametrize(
    ("solver", "tolerance", "allowed"),
    # the polynomial of bosh3 is coarse, as torchdiffeq's is
    [("dopri5", 1e-4, 2e-3), ("dopri5", 1e-8, 2e-7), ("bosh3", 1e-4, 5e-2), ("bosh3", 1e-6, 5e-3)],
)
def test_on_an_exact_flow(duration, solver, tolerance, allowed):
    rates = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    y = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    found = solve(lambda x: -rates * x, y, duration, first=-rates * y, solver=solver, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.end, y * torch.exp(-rates * duration), rtol=0, atol=allowed)
    stages = len(SOLVERS[solver].stages)
    assert found.evaluations == 1 + stages * (found.accepted + found.rejected)


def test_against_scipy():
    def field(x):
        return np.array([x[1], (1 - x[0] ** 2) * x[1] - x[0]])  # van der Pol

    y = np.array([2.0, 0.0])
    exact = solve_ivp(lambda t, x: field(x), (0, 5), y, rtol=1e-12, atol=1e-12).y[:, -1]
    counted = []

    def velocity(x):
        counted.append(1)
        return torch.from_numpy(field(x.numpy()))

    found = solve(velocity, torch.from_numpy(y), 5.0, first=torch.from_numpy(field(y)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.end.numpy(), exact, atol=1e-4)
    assert len(counted) == found.evaluations
    assert len(counted) < 1.5 * solve_ivp(lambda t, x: field(x), (0, 5), y, rtol=1e-6, atol=1e-6).nfev


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("duration", [0.01, 0.4, 3.0, 20.0])
def test_is_torchdiffeqs(duration, solver):
    """End, evaluations and steps are the same, but for the evaluation at the start, which is given here."""
    torchdiffeq = pytest.importorskip("torchdiffeq")
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    curvature, y = root @ root.T / 6, torch.randn(6, generator=generator, dtype=torch.float64)
    counted = {"evaluations": 0, "accepted": 0, "rejected": 0}

    class Field(torch.nn.Module):
        def forward(self, t, x):
            counted["evaluations"] += 1
            return -(curvature @ x).clamp(-1, 1)

        def callback_accept_step(self, *about):
            counted["accepted"] += 1

        def callback_reject_step(self, *about):
            counted["rejected"] += 1

    times = torch.tensor([0.0, duration], dtype=torch.float64)
    theirs = torchdiffeq.odeint(Field(), y, times, rtol=1e-4, atol=1e-4, method=solver)[-1]
    ours = solve(
        lambda x: -(curvature @ x).clamp(-1, 1), y, duration, first=-(curvature @ y).clamp(-1, 1), solver=solver
    )
    torch.testing.assert_close(ours.end, theirs, rtol=1e-11, atol=1e-11)
    assert counted == {"evaluations": ours.evaluations + 1, "accepted": ours.accepted, "rejected": ours.rejected}


@pytest.mark.parametrize("broken", [lambda x: x * math.nan, lambda x: 1e6 * torch.sign(torch.sin(1e9 * x))])
def test_gives_up(broken):
    y = torch.ones(2, dtype=torch.float64)
    found = solve(broken, y, 1.0, first=torch.ones(2, dtype=torch.float64), rtol=1e-8, atol=1e-8)
    assert found.end is None
    assert found.evaluations <= MAX_EVALUATIONS + 7
