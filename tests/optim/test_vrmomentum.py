"""VRMomentum against its recurrence in numpy, against SGD with dampened momentum, and its promises."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from vrcli.optim import VRMomentum

PATHS = {"reference": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}, "default": {}}


@pytest.fixture(params=PATHS, ids=list(PATHS))
def path(request):
    return PATHS[request.param]


def problem(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [
        nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in [(3, 4), (5,), ()]
    ]


def train(params, optimizer, steps, seed=1, scale=0.1):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in params:
            p.grad = (scale * torch.randn(p.shape, generator=generator, dtype=torch.float64)).to(p.dtype)
        optimizer.step()


@pytest.mark.parametrize("normgrad", [False, True])
@pytest.mark.parametrize("cutoff", [19.0, 0.02])
def test_equals_the_recurrence(path, normgrad, cutoff):
    params = problem()
    thetas = [p.detach().numpy().copy() for p in params]
    velocities = [np.zeros_like(t) for t in thetas]
    optimizer = VRMomentum(params, 0.5, 0.8, 2.0, 0.1, normgrad=normgrad, lr_cutoff=cutoff, **path)
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        for p in params:
            p.grad = 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        grads = [p.grad.numpy() for p in params]
        velocities = [0.8 * v + 0.2 * g for v, g in zip(velocities, grads, strict=True)]
        norm = sum(float((x**2).sum()) for x in (grads if normgrad else velocities))
        eta = 0.5 / (1 + min(2.0 * norm, cutoff))
        thetas = [t * (1 - eta * 0.1) - eta * v for t, v in zip(thetas, velocities, strict=True)]
        optimizer.step()
        np.testing.assert_allclose(float(optimizer.telemetry()["lr_effective"]), eta, rtol=1e-12)
    for p, theta in zip(params, thetas, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), theta, rtol=1e-12, atol=1e-14)


def test_without_penalty_it_is_dampened_sgd(path):
    """torch's momentum starts at the first gradient undampened: with a zero gradient first, the two agree."""
    mine, theirs = problem(), problem()
    optimizers = [
        VRMomentum(mine, 0.1, 0.9, beta3=0.0, weight_decay=0.0, **path),
        torch.optim.SGD(theirs, 0.1, momentum=0.9, dampening=0.9),
    ]
    for params, optimizer in zip((mine, theirs), optimizers, strict=True):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
        train(params, optimizer, 100)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-2, 10.0, 1e4])
def test_no_step_is_longer_than_the_bound(path, scale):
    params = problem()
    optimizer = VRMomentum(params, 0.7, beta3=3.0, weight_decay=0.0, lr_cutoff=math.inf, **path)
    for seed in range(10):
        before = [p.detach().clone() for p in params]
        train(params, optimizer, 1, seed, scale)
        moved = math.sqrt(sum(float((a - b.detach()).square().sum()) for a, b in zip(before, params, strict=True)))
        assert moved <= 0.7 / (2 * math.sqrt(3.0)) * (1 + 1e-9)


def test_nan_is_not_hidden(path):
    params = problem()
    optimizer = VRMomentum(params, **path)
    for p in params:
        p.grad = torch.zeros_like(p)
    params[0].grad[0, 0] = math.nan
    optimizer.step()
    assert all(p.isnan().all() for p in params)


def test_maximize_is_minimising_the_negative(path):
    down, up = problem(), problem()
    train(down, VRMomentum(down, 0.1, **path), 5, scale=0.1)
    train(up, VRMomentum(up, 0.1, maximize=True, **path), 5, scale=-0.1)
    for a, b in zip(down, up, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=0)


def test_round_trip_and_deepcopy_continue_identically(path):
    params = problem(torch.float32)
    optimizer = VRMomentum(params, 0.1, **path)
    train(params, optimizer, 3)
    copied, twin = copy.deepcopy((params, optimizer))
    loaded = [nn.Parameter(p.detach().clone()) for p in params]
    third = VRMomentum(loaded, 1.0, **path)
    third.load_state_dict(optimizer.state_dict())
    for some, one in ((params, optimizer), (copied, twin), (loaded, third)):
        train(some, one, 3, seed=2)
    for a, b, c in zip(params, copied, loaded, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_gradients_of_other_strides(path):
    shape = (8, 64, 8, 8)
    plain = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    last = nn.Parameter(plain.detach().to(memory_format=torch.channels_last, copy=True))
    optimizers = [VRMomentum([p], 0.1, **path) for p in (plain, last)]
    for seed in range(3):
        grad = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1e-2
        plain.grad = last.grad = grad
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(last, plain, rtol=1e-12, atol=1e-14)


def test_a_cycled_momentum_is_the_one_of_the_step(path):
    """OneCycleLR changes the decay rate of the velocity: the step follows it."""
    mine, theirs = problem(), problem()
    optimizer, other = VRMomentum(mine, 0.1, **path), VRMomentum(theirs, 0.1, beta1=0.5, **path)
    optimizer.param_groups[0]["momentum"] = 0.5
    for params, one in ((mine, optimizer), (theirs, other)):
        train(params, one, 2)
    for a, b in zip(mine, theirs, strict=True):
        assert torch.equal(a, b)


def test_beta1_in_a_group_or_in_an_older_state():
    one, two = problem()[:2]
    optimizer = VRMomentum([{"params": [one], "beta1": 0.5}, {"params": [two]}], 0.1)
    assert [group["momentum"] for group in optimizer.param_groups] == [0.5, 0.9]
    with pytest.raises(ValueError, match="beta1"):
        VRMomentum([{"params": [one], "beta1": 1.0}], 0.1)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group["beta1"] = group.pop("momentum") / 2
    optimizer.load_state_dict(state)
    assert [group["momentum"] for group in optimizer.param_groups] == [0.25, 0.45]
    assert all("beta1" not in group for group in optimizer.param_groups)


@pytest.mark.parametrize("settings", [{"lr": -1.0}, {"beta1": 1.0}, {"beta3": -1.0}, {"weight_decay": math.nan}])
def test_refuses_bad_values_by_name(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        VRMomentum(problem(), **settings)


@pytest.mark.gpu
def test_cuda_does_not_synchronise(path):
    params = [nn.Parameter(p.detach().float().cuda()) for p in problem()]
    optimizer = VRMomentum(params, **path)
    for p in params:
        p.grad = torch.full_like(p, 0.1)
    optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(p.isfinite().all() for p in params)
