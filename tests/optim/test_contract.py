"""What every registered optimizer does: one test for all of them, one's own and torch's alike."""

import copy

import pytest
import torch
from torch import nn

from vrcli.errors import UsageError
from vrcli.optim import registry

#: The zoo has tests of its own, where it is installed.
ROWS = [row for row in registry.catalogue() if not row.refusal and row.origin in ("vr", "torch")]


def named(name):
    """A model with matrices, a filter and vectors, whose loss is a quadratic of each parameter."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    with torch.no_grad():
        for p in model.parameters():
            p.normal_()
    return model, registry.build(name, model, {})


def loss_of(model):
    return sum((p - 0.1).square().sum() for p in model.parameters())


def advance(row, model, optimizer, steps):
    losses = []
    for _ in range(steps):

        def closure():
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward(create_graph="create_graph" in row.capabilities)
            return loss

        if "closure" in row.capabilities:
            loss = optimizer.step(closure)
        else:
            loss = closure()
            optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.fixture(params=ROWS, ids=lambda row: row.name)
def row(request):
    return request.param


def test_loss_falls(row):
    model, optimizer = named(row.name)
    losses = advance(row, model, optimizer, 30)
    assert losses[-1] < losses[0]


def test_same_start_same_bits(row):
    runs = []
    for _ in range(2):
        model, optimizer = named(row.name)
        advance(row, model, optimizer, 5)
        runs.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_state_dict_round_trip_continues_identically(row):
    model, optimizer = named(row.name)
    advance(row, model, optimizer, 5)
    twin = copy.deepcopy(model)
    loaded = registry.build(row.name, twin, {})
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    advance(row, model, optimizer, 5)
    advance(row, twin, loaded, 5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_settings_arrive(row):
    model, _ = named(row.name)
    optimizer = registry.build(row.name, model, {"lr": 0.125})
    assert all(group["lr"] == 0.125 for group in optimizer.param_groups)


def test_frozen_parameters_stay(row):
    model, _ = named(row.name)
    model[1].requires_grad_(False)
    before = model[1].weight.detach().clone()
    optimizer = registry.build(row.name, model, {})
    for _ in range(2):

        def closure():
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            return loss

        optimizer.step(closure) if "closure" in row.capabilities else (closure(), optimizer.step())
    assert torch.equal(model[1].weight, before)


def test_schedulers_drive_it(row):
    _, optimizer = named(row.name)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    before = optimizer.param_groups[0]["lr"]
    optimizer.step(lambda: torch.zeros((), requires_grad=True)) if "closure" in row.capabilities else optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == before / 2


def test_unknown_settings_are_refused(row):
    with pytest.raises(UsageError, match="no_such_thing"):
        registry.validate(row.name, {"no_such_thing": 1})


def test_nan_gradients_show(row):
    if row.name in ("lbfgs", "rprop"):
        pytest.skip("lbfgs returns early, rprop looks at signs only: torch's own behaviour")
    model, optimizer = named(row.name)
    for p in model.parameters():
        p.grad = torch.full_like(p, float("nan"))
    optimizer.step(lambda: torch.zeros(())) if "closure" in row.capabilities else optimizer.step()
    assert not any(p.isfinite().any() for p in model.parameters())
