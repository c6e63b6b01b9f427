"""RAD against its recurrence in numpy, the two paths against each other, and Adam at its limit."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from torch import nn

from vrcli.engine.events import Steps
from vrcli.engine.loop import train as engine
from vrcli.engine.prepare import prepare
from vrcli.errors import UsageError
from vrcli.optim import RAD
from vrcli.settings import resolve
from vrcli.tasks.cnn import Cnn

PATHS = {"reference": {"foreach": False}, "foreach": {"foreach": True}, "default": {}}


@pytest.fixture(params=PATHS, ids=list(PATHS))
def path(request):
    return PATHS[request.param]


def problem(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (), (0, 2)]
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in shapes]


def gradients(params, step, scale=0.1):
    generator = torch.Generator().manual_seed(step)
    for p in params:
        p.grad = (scale * torch.randn(p.shape, generator=generator, dtype=torch.float64)).to(p.dtype)


def train(params, optimizer, steps, scale=0.1):
    for step in range(steps):
        gradients(params, step, scale)
        optimizer.step()


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("order", [1, 2])
def test_equals_the_papers_recurrence(path, order, maximize):
    params = problem()
    x = [p.detach().numpy().copy() for p in params]
    m, v = [np.zeros_like(t) for t in x], [np.zeros_like(t) for t in x]
    optimizer = RAD(params, 0.05, (0.8, 0.9), 1.5, 1e-10, order, 0.1, 10, maximize=maximize, **path)
    for t in range(1, 13):  # two steps beyond the planned ones
        gradients(params, t)
        zeta = min(1, max(1e-10, math.exp(40 * (t / 10 - 1))))
        for i, p in enumerate(params):
            g = p.grad.numpy() * (-1 if maximize else 1)
            m[i] = 0.8 * m[i] + 0.2 * g
            v[i] = 0.9 * v[i] + 0.1 * g**2
            slowness = 1 / np.sqrt(1.5**2 * v[i] + zeta)
            if order == 2:
                slowness = (slowness + 1 / np.sqrt(1.5**2 * v[i] + zeta / 0.8**2)) / 2
            x[i] = x[i] * (1 - 0.05 * 0.1) - 0.05 * np.sqrt(1 - 0.9**t) / (1 - 0.8**t) * m[i] * slowness
        optimizer.step()
        assert float(optimizer.telemetry()["zeta"]) == pytest.approx(zeta)
    for p, expected in zip(params, x, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-11, atol=1e-13)


@given(
    delta=st.floats(0.1, 10), zeta=st.sampled_from([1e-16, 1e-3]), order=st.sampled_from([1, 2]),
    decay=st.sampled_from([0.0, 0.1]), total=st.integers(0, 8), maximize=st.booleans(),
)  # fmt: skip
@example_settings(deadline=None, max_examples=30, derandomize=True)
def test_fast_path_equals_the_reference(delta, zeta, order, decay, total, maximize):
    found = []
    for foreach in (False, True):
        params = problem()
        groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.3}]
        optimizer = RAD(groups, 0.01, (0.9, 0.99), delta, zeta, order, decay, total, maximize=maximize, foreach=foreach)
        train(params, optimizer, 4)
        params[0].grad = None  # step counts differ within one call
        optimizer.step()
        train(params, optimizer, 2)
        found.append(params)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_is_adam_at_its_limit(path):
    """A gradient of 0.1 is far above the root of zeta, 1e-8; so where epsilon stands makes no difference."""
    mine, theirs = problem(), problem()
    train(mine, RAD(mine, 0.01, **path), 30)
    train(theirs, torch.optim.Adam(theirs, 0.01, eps=0.0), 30)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_decay_is_adamws(path):
    mine, theirs = problem(), problem()
    train(mine, RAD(mine, 0.01, weight_decay=0.3, **path), 30)
    train(theirs, torch.optim.AdamW(theirs, 0.01, eps=0.0, weight_decay=0.3), 30)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_a_step_is_bounded_by_the_speed(path):
    p = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    p.grad = torch.full_like(p, 1e6)
    RAD([p], 0.01, delta=4.0, **path).step()
    torch.testing.assert_close(p.detach(), torch.full_like(p, -0.01 / 4).detach())


def test_zero_gradients_move_nothing(path):
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.zeros(3)
    RAD([p], 0.1, **path).step()
    assert torch.equal(p.detach(), torch.ones(3))


def zetas(**flags):
    resolved = resolve(Cnn, "rad", preset="smoke", flags={"max_steps": 6, **flags})
    blocks = [event for event in engine(prepare(resolved.request, Cnn)) if isinstance(event, Steps)]
    return [value for block in blocks for value in block.values["zeta"]]


def test_zeta_follows_the_budget_of_the_run():
    expected = [max(1e-16, math.exp(40 * (t / 6 - 1))) for t in range(1, 7)]
    assert zetas() == pytest.approx(expected, rel=1e-5)
    assert zetas(until="gradients:6", max_steps=None) == pytest.approx(expected, rel=1e-5)
    assert zetas(total_steps=0) == pytest.approx([1e-16] * 6)
    with pytest.raises(UsageError, match="rad needs total_steps, the number of steps of the whole run"):
        zetas(until="seconds:1", max_steps=None)


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"lr": -1.0}, "lr"), ({"betas": (0.9, 1.0)}, "betas"), ({"zeta": 0}, "zeta"), ({"delta": math.nan}, "delta"),
     ({"order": 3}, "order"), ({"order": 2, "betas": (0.0, 0.9)}, "order 2"), ({"total_steps": -1}, "total_steps")],
)  # fmt: skip
def test_refuses_bad_values_by_name(settings, named):
    with pytest.raises(ValueError, match=named):
        RAD(problem(), **settings)


def test_refuses_sparse_gradients():
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="RAD does not support sparse"):
        RAD(embedding.parameters()).step()
