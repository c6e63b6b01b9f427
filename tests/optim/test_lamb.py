"""LAMB against its recurrence in numpy, the two paths against each other, and the length of its steps."""

import numpy as np
import pytest
import torch
from torch import nn

from vrcli.optim import Lamb

PATHS = {"reference": {"foreach": False}, "foreach": {"foreach": True}, "default": {}}


@pytest.fixture(params=PATHS, ids=list(PATHS))
def path(request):
    return PATHS[request.param]


def problem(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (), (6,)]
    values = [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]
    values[3].zero_()  # as a bias that starts at zero
    return [nn.Parameter(value) for value in values]


def train(params, optimizer, steps, scale=0.1):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for p in params:
            p.grad = (scale * torch.randn(p.shape, generator=generator, dtype=torch.float64)).to(p.dtype)
        optimizer.step()


@pytest.mark.parametrize("maximize", [False, True])
def test_equals_algorithm_2(path, maximize):
    params = problem()
    x = [p.detach().numpy().copy() for p in params]
    m, v = [np.zeros_like(t) for t in x], [np.zeros_like(t) for t in x]
    optimizer = Lamb(params, 0.05, (0.8, 0.9), 1e-6, 0.1, maximize=maximize, **path)
    generator = torch.Generator().manual_seed(1)
    for t in range(1, 8):
        for i, p in enumerate(params):
            p.grad = 0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
            g = p.grad.numpy() * (-1 if maximize else 1)
            m[i] = 0.8 * m[i] + 0.2 * g
            v[i] = 0.9 * v[i] + 0.1 * g**2
            r = (m[i] / (1 - 0.8**t)) / (np.sqrt(v[i] / (1 - 0.9**t)) + 1e-6) + 0.1 * x[i]
            norm, length = np.sqrt((x[i] ** 2).sum()), np.sqrt((r**2).sum())
            x[i] = x[i] - 0.05 * (norm / length if norm and length else 1.0) * r
        optimizer.step()
    for p, expected in zip(params, x, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_step_has_the_length_lr_times_the_norm_from_the_first_one_on(path, scale):
    params = problem()[:3]
    optimizer = Lamb(params, 0.01, **path)
    for _ in range(5):
        before = [p.detach().clone() for p in params]
        train(params, optimizer, 1, scale)
        for p, old in zip(params, before, strict=True):
            np.testing.assert_allclose(float((p.detach() - old).norm() / old.norm()), 0.01, rtol=1e-9)


def test_without_a_norm_it_is_adams_step(path):
    """A tensor of zeros has the ratio 1: its first step moves every entry by lr."""
    p = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    train([p], Lamb([p], 0.01, eps=0.0, **path), 1)
    torch.testing.assert_close(p.detach().abs(), torch.full((4,), 0.01, dtype=torch.float64))
    q = nn.Parameter(torch.zeros(4))
    q.grad = torch.zeros(4)
    Lamb([q], **path).step()
    assert torch.equal(q.detach(), torch.zeros(4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_follows_float64(path, dtype):
    low, high = problem(dtype), problem()
    train(low, Lamb(low, 0.01, **path), 5)
    train(high, Lamb(high, 0.01, **path), 5)
    tolerance = 1e-5 if dtype is torch.float32 else 5e-2
    for a, b in zip(low, high, strict=True):
        torch.testing.assert_close(a.detach().double(), b.detach(), rtol=tolerance, atol=tolerance)


def test_parameters_may_rest(path):
    params = problem()
    optimizer = Lamb(params, 0.01, **path)
    train(params, optimizer, 2)
    rested = params[0].detach().clone()
    params[0].grad = None
    optimizer.step()
    assert torch.equal(params[0].detach(), rested)
    assert [float(optimizer.state[p]["step"]) for p in params] == [2.0, 3.0, 3.0, 3.0]
    train(params, optimizer, 1)  # step counts differ within one call
    assert all(p.isfinite().all() for p in params)


@pytest.mark.parametrize(
    ("settings", "named"), [({"lr": -1.0}, "lr"), ({"betas": (0.9, 1.0)}, "betas"), ({"weight_decay": -1}, "weight_d")]
)
def test_refuses_bad_values_by_name(settings, named):
    with pytest.raises(ValueError, match=named):
        Lamb(problem(), **settings)


def test_refuses_sparse_gradients():
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        Lamb(embedding.parameters()).step()
