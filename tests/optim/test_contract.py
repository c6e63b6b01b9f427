"""What every registered optimizer does: one test for all of them, one's own and torch's alike."""

import copy
import pickle

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
    return model, registry.build(name, model, {}, steps=40)


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
    loaded = registry.build(row.name, twin, {}, steps=40)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    advance(row, model, optimizer, 5)
    advance(row, twin, loaded, 5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.fixture(params=[row for row in ROWS if row.origin == "vr"], ids=lambda row: row.name)
def own(request):
    return request.param


def groups_of(name, model):
    """An optimizer of this package over several groups, each with settings of its own."""
    optimizer = registry.build(name, model, {}, steps=40)
    spare = nn.Linear(3, 2)
    optimizer.add_param_group({"params": list(spare.parameters()), "lr": 0.003})
    model.append(spare)
    return optimizer


def same(a, b):
    """Whether two state dicts have the same keys, types and values."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def round_trips(row, optimizer, tmp_path):
    state = optimizer.state_dict()
    torch.save(state, tmp_path / "state.pt")
    for way, given in (("load", state), ("save", torch.load(tmp_path / "state.pt", weights_only=True))):
        twin = groups_of(row.name, named(row.name)[0])
        twin.load_state_dict(given)
        yield way, twin
    yield "deepcopy", copy.deepcopy(optimizer)
    yield "pickle", pickle.loads(pickle.dumps(optimizer))


@pytest.mark.parametrize("steps", [0, 3])
def test_state_dict_is_the_same_after_every_round_trip(own, steps, tmp_path):
    model, _ = named(own.name)
    optimizer = groups_of(own.name, model)
    advance(own, model, optimizer, steps)
    before = copy.deepcopy(optimizer.state_dict())
    for way, twin in round_trips(own, optimizer, tmp_path):
        assert same(before, twin.state_dict()), way
        assert twin.defaults == optimizer.defaults, way
    assert same(before, optimizer.state_dict())


def test_groups_saved_before_a_setting_existed_get_its_default(own):
    cls = registry.load(own)
    if any(base.__module__.startswith("torch.optim.") for base in cls.__mro__ if base is not torch.optim.Optimizer):
        pytest.skip("torch's own class says what it reads")
    model, _ = named(own.name)
    optimizer = cls(model.parameters())
    advance(own, model, optimizer, 2)
    for key, value in optimizer.defaults.items():
        state = copy.deepcopy(optimizer.state_dict())
        for group in state["param_groups"]:
            del group[key]
        other, _ = named(own.name)
        twin = cls(other.parameters())
        twin.load_state_dict(state)
        assert all(group[key] == value for group in twin.param_groups)
        advance(own, other, twin, 1)


SCHEDULERS = {
    "LambdaLR": {"lr_lambda": lambda epoch: 0.9**epoch},
    "MultiplicativeLR": {"lr_lambda": lambda epoch: 0.9},
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1, 2]},
    "ConstantLR": {"total_iters": 2},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"T_max": 5},
    "PolynomialLR": {},
    "ReduceLROnPlateau": {"patience": 0},
    "CyclicLR": {"base_lr": 1e-3, "max_lr": 1e-2, "step_size_up": 2},
    "OneCycleLR": {"max_lr": 1e-2, "total_steps": 6},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "SequentialLR": None,
    "ChainedScheduler": None,
    "SWALR": {"swa_lr": 1e-4},
}
COMBINING = {"SequentialLR", "ChainedScheduler"}


#: These move the momentum as well, where there is one.
CYCLIC = ("CyclicLR", "OneCycleLR")


def scheduler_of(kind, optimizer):
    schedulers = torch.optim.lr_scheduler
    if kind not in COMBINING:
        found = getattr(schedulers, kind, None) or getattr(torch.optim.swa_utils, kind)
        cycles = {"cycle_momentum": bool({"betas", "momentum"} & optimizer.defaults.keys())} if kind in CYCLIC else {}
        return found(optimizer, **SCHEDULERS[kind], **cycles)
    parts = [schedulers.ConstantLR(optimizer), schedulers.ExponentialLR(optimizer, 0.9)]
    if kind == "ChainedScheduler":
        return schedulers.ChainedScheduler(parts)
    return schedulers.SequentialLR(optimizer, parts, milestones=[2])


def test_every_scheduler_of_torch_is_tried():
    found = vars(torch.optim.lr_scheduler)
    theirs = {name for name in torch.optim.lr_scheduler.__all__ if isinstance(found[name], type)} - {"LRScheduler"}
    assert theirs <= SCHEDULERS.keys()


@pytest.mark.filterwarnings("ignore:.*epoch parameter in .scheduler.step.*")
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_every_scheduler_drives_it(own, kind):
    model, optimizer = named(own.name)
    scheduler = scheduler_of(kind, optimizer)
    rates, momenta = set(), set()
    for _ in range(5):
        (loss,) = advance(own, model, optimizer, 1)
        rates.add(float(optimizer.param_groups[0]["lr"]))
        group = optimizer.param_groups[0]
        momenta.add(group["betas"][0] if "betas" in group else group.get("momentum"))
        scheduler.step(1.0) if kind == "ReduceLROnPlateau" else scheduler.step()
    assert len(rates) > 1
    assert loss == loss
    assert (len(momenta) > 1) == (kind in CYCLIC and None not in momenta)


def test_settings_arrive(row):
    model, _ = named(row.name)
    optimizer = registry.build(row.name, model, {"lr": 0.125}, steps=40)
    assert all(group["lr"] == 0.125 for group in optimizer.param_groups)


def test_frozen_parameters_stay(row):
    model, _ = named(row.name)
    model[1].requires_grad_(False)
    before = model[1].weight.detach().clone()
    optimizer = registry.build(row.name, model, {}, steps=40)
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
