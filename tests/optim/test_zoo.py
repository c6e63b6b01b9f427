"""The zoo's table against the package it stands for, and its optimizers at work."""

import copy
import sys

import pytest
import torch
from torch import nn

from vrcli.errors import UsageError
from vrcli.optim import registry
from vrcli.optim.zoo import ORIGIN, PACKAGE, ZOO_ROWS

RUNNING = [row.name for row in ZOO_ROWS if not row.refusal]
#: One of each kind in the default tests; all of them in the slow ones.
FEW = [
    "lion",
    "adabelief",
    "sophiah",
    "adahessian",
    "sam",
    "soap",
    "schedulefreeadamw",
    "prodigy",
    "normuon",
    "adammini",
]
REQUIRED = {"ranger21": {"num_iterations": 20}}
TORCHS = {
    "adam",
    "adamw",
    "sgd",
    "rmsprop",
    "nadam",
    "radam",
    "adamax",
    "adadelta",
    "adafactor",
    "asgd",
    "lbfgs",
    "muon",
    "lamb",
}


def test_torchs_names_stay_torchs():
    assert {registry.find(name).origin for name in TORCHS} == {"torch", "vr"}
    assert registry.find("lion").origin == ORIGIN


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    for name in ("lion", "sam"):
        monkeypatch.delitem(sys.modules, "vrcli.optim.zoo_adapters", raising=False)
        with pytest.raises(UsageError, match=r"pip install 'vrcli\[zoo\]'"):
            registry.load(registry.find(name))


def test_table_is_the_packages():
    package = pytest.importorskip(PACKAGE)
    classes = {name: package.load_optimizer(name).__name__ for name in package.get_supported_optimizers()}
    rows = {row.name: row.target.partition(":")[2] for row in ZOO_ROWS}
    assert {name: cls for name, cls in classes.items() if name not in TORCHS} == {
        name: cls for name, cls in rows.items() if name in classes
    }
    assert set(rows) - set(classes) == {"sam", "friendlysam", "looksam"}


def convnet():
    torch.manual_seed(0)
    head = [nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3)]
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), *head)


def train(name, model, optimizer, steps):
    capabilities = registry.find(name).capabilities
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(48, 1, 8, 8, generator=generator), torch.randint(3, (48,), generator=generator)
    torch.manual_seed(2)
    if "train_eval" in capabilities:
        optimizer.train()
    losses = []
    for _ in range(steps):

        def closure():
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward(create_graph="create_graph" in capabilities)
            return loss

        if "closure" in capabilities:
            loss = optimizer.step(closure)
        else:
            loss = closure()
            optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def check_one(name):
    pytest.importorskip(PACKAGE)
    model = convnet()
    settings = REQUIRED.get(name, {})
    optimizer = registry.build(name, model, settings)
    before = [p.detach().clone() for p in model.parameters()]
    losses = train(name, model, optimizer, 12)  # adashift starts with the eleventh
    assert all(loss == loss for loss in losses)
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    twin = copy.deepcopy(model)
    loaded = registry.build(name, twin, settings)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(name, model, optimizer, 2)
    train(name, twin, loaded, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5)
    train(name, model, optimizer, 1)
    scheduler.step()
    assert all(isinstance(group["lr"], float) for group in optimizer.param_groups)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FEW)
def test_one_of_each_kind_runs_and_resumes(name):
    check_one(name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RUNNING)
def test_every_optimizer_that_lists_runs_and_resumes(name):
    check_one(name)


@pytest.mark.parametrize("name", [row.name for row in ZOO_ROWS if row.refusal])
def test_those_that_cannot_run_say_why(name):
    with pytest.raises(UsageError, match=f"{name} cannot be used: it "):
        registry.build(name, nn.Linear(2, 1), {})


def test_sharpness_aware_step():
    """The update uses the gradient at the perturbed point, and the loss it returns is the unperturbed one."""
    pytest.importorskip(PACKAGE)
    p = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = registry.load(registry.find("sam"))([p], lr=0.0, rho=0.5)
    points = []

    def closure():
        optimizer.zero_grad()
        points.append(p.detach().clone())
        loss = p.square().sum() / 2
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 12.5
    torch.testing.assert_close(points[0], torch.tensor([3.0, 4.0], dtype=torch.float64))
    torch.testing.assert_close(points[1], torch.tensor([3.3, 4.4], dtype=torch.float64))  # rho along the gradient
    torch.testing.assert_close(p.detach(), points[0])
    with pytest.raises(RuntimeError, match="needs a closure"):
        optimizer.step()
