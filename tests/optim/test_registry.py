"""Finding, refusing and building optimizers by name."""

import subprocess
import sys
import types
from importlib.metadata import EntryPoint

import pytest
import torch
from torch import nn

from vrcli.errors import UsageError
from vrcli.optim import registry
from vrcli.optim.rows import CAPABILITIES, TORCH_ROWS, VR_ROWS, Row
from vrcli.tasks.space import Categorical, Real


def test_listing_and_finding_import_no_torch():
    code = (
        "import sys; from vrcli.optim import registry as r; r.names(); r.find('adamw'); r.find('lion'); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'pytorch_optimizer', 'pydantic')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_optimizer_of_torch_has_a_row():
    classes = {
        name
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }
    covered = {row.target.partition(":")[2] for row in TORCH_ROWS} | {"Muon"}
    assert covered >= classes
    assert all(hasattr(torch.optim, row.target.partition(":")[2]) for row in TORCH_ROWS)


@pytest.mark.parametrize("row", registry.catalogue(), ids=lambda row: row.name)
def test_rows_are_complete(row):
    assert row.summary
    assert row.origin
    assert row.name == row.name.lower()
    assert row.capabilities <= CAPABILITIES.keys()
    assert row.refusal or "lr" in row.space
    if not row.refusal and row.origin in ("vr", "torch"):
        assert set(row.space) <= set(registry.settings_model(row.name).model_fields)


@pytest.mark.parametrize("row", [r for r in registry.catalogue() if not r.refusal], ids=lambda row: row.name)
def test_default_settings_lie_in_their_own_space(row):
    defaults = registry.validate(row.name, {})
    for name, axis in row.space.items():
        value = defaults[name]
        if value is None:  # the optimizer derives it from its other settings
            continue
        if isinstance(axis, Categorical):
            assert value in axis.choices
        else:
            assert axis.low <= value <= axis.high, (name, value)


def test_unknown_capability_is_refused():
    with pytest.raises(ValueError, match="closures"):
        Row("x", "a:B", "", "", capabilities=frozenset({"closures"}))


def test_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match=r"'vradm'.*did you mean vradam"):
        registry.find("vradm")


def test_class_by_path():
    model = nn.Linear(2, 1)
    optimizer = registry.build("torch.optim.adamw:AdamW", model, {"lr": 0.5})
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_here:Thing", "there is no no_such_module_here.py in"),
        ("torch.optim:Nothing", "has no class 'Nothing'"),
        ("torch.nn:Linear", "not a torch.optim.Optimizer"),
        ("sparseadam", "sparse gradients"),
    ],
)
def test_what_cannot_be_loaded_says_why(name, message):
    if ":" in name:
        with pytest.raises(UsageError, match=message):
            registry.find(name)
    with pytest.raises(UsageError, match=message):
        registry.settings_model(name)
    with pytest.raises(UsageError, match=message):
        registry.build(name, nn.Linear(2, 1), {})


def patched(monkeypatch, *entries):
    monkeypatch.setattr(registry, "entry_points", lambda group: [e for e in entries if e.group == group])
    registry._rows.cache_clear()
    registry.settings_model.cache_clear()


@pytest.fixture
def entry_points(monkeypatch):
    yield lambda *entries: patched(monkeypatch, *entries)
    monkeypatch.undo()
    registry._rows.cache_clear()
    registry.settings_model.cache_clear()


def test_entry_points_add_optimizers(entry_points):
    entry_points(EntryPoint("mine", "torch.optim:SGD", registry.ENTRY_POINT_GROUP))
    assert "mine" in registry.names()
    assert isinstance(registry.build("mine", nn.Linear(2, 1), {"momentum": 0.5}), torch.optim.SGD)


class Demanding(torch.optim.SGD):
    """Plain SGD that insists.

    More text.
    """

    capabilities = ("create_graph",)
    space = {"lr": Real(1e-3, 1.0, log=True)}

    def step(self, closure):
        return super().step(closure)

    def train(self):
        """Nothing to swap."""

    eval = train


def test_needs_are_read_off_a_third_partys_class(entry_points, monkeypatch):
    monkeypatch.setitem(sys.modules, "their_package", types.SimpleNamespace(Demanding=Demanding))
    entry_points(EntryPoint("demanding", "their_package:Demanding", registry.ENTRY_POINT_GROUP))
    for name in ("demanding", "their_package:Demanding"):
        row = registry.find(name)
        assert row.capabilities == {"closure", "train_eval", "create_graph"}
        assert row.space == {"lr": Real(1e-3, 1.0, log=True)}
        assert row.summary == "Plain SGD that insists"
    assert registry.find("torch.optim:AdamW").capabilities == frozenset()
    assert registry.find("torch.optim:LBFGS").capabilities == {"closure"}


def test_a_name_taken_twice_is_refused(entry_points):
    entry_points(EntryPoint("adamw", "somewhere:Else", registry.ENTRY_POINT_GROUP))
    with pytest.raises(UsageError, match=r"'adamw'.*torch.optim:AdamW.*somewhere:Else"):
        registry.names()


def test_a_broken_entry_point_breaks_nothing_else(entry_points):
    entry_points(EntryPoint("broken", "no_such_module_here:Thing", registry.ENTRY_POINT_GROUP))
    assert registry.build("adamw", nn.Linear(2, 1), {})
    with pytest.raises(UsageError, match="broken"):
        registry.build("broken", nn.Linear(2, 1), {})


def test_build_takes_what_is_trainable():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    optimizer = registry.build("vradam", model, {"beta3": 2})
    assert [p.shape for p in optimizer.param_groups[0]["params"]] == [(1, 3), (1,)]
    assert optimizer.param_groups[0]["beta3"] == 2.0
    model.requires_grad_(False)
    with pytest.raises(UsageError, match="no trainable parameter"):
        registry.build("vradam", model, {})


def test_the_constructors_own_refusal_is_one_line():
    with pytest.raises(UsageError, match="sgd: Nesterov momentum requires a momentum") as caught:
        registry.check_settings("sgd", {"nesterov": True})
    assert "\n" not in str(caught.value)
    assert registry.check_settings("sgd", {"nesterov": True, "momentum": 0.9})["nesterov"] is True


@pytest.mark.parametrize("name", [row.name for row in VR_ROWS])
def test_a_row_names_what_the_telemetry_records(name):
    model = nn.Linear(2, 2)
    optimizer = registry.build(name, model, {}, steps=10)

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(1, 2)).square().sum()
        loss.backward()
        return loss

    closure()
    optimizer.step(closure)
    told = getattr(optimizer, "telemetry", dict)()
    assert set(registry.find(name).curves) == set(told) - {"lr_effective"}
