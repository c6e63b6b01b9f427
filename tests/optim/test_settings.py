"""The settings model that follows from a constructor's signature."""

import math
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vrcli.errors import UsageError
from vrcli.optim import registry
from vrcli.optim.settings import model_of

USABLE = [row.name for row in registry.catalogue() if not row.refusal and row.origin in ("vr", "torch")]


def test_vradam_as_the_command_line_sees_it():
    fields = registry.settings_model("vradam").model_fields
    expected = "lr betas beta3 eps weight_decay power normgrad lr_cutoff norm_scope maximize foreach fused capturable"
    assert list(fields) == expected.split()
    assert fields["beta3"].default == 1.0
    assert fields["betas"].default == (0.9, 0.999)
    assert fields["lr_cutoff"].description == (
        "bounds the penalty: the learning rate never falls below lr / (1 + lr_cutoff)"
    )


@pytest.mark.parametrize("name", USABLE)
def test_defaults_are_the_constructors(name):
    """What the model says is what the optimizer uses when nothing is given."""
    row = registry.find(name)
    bare = [nn.Parameter(torch.zeros(3))]
    group = registry.load(row)(bare, **row.defaults).param_groups[0]
    values = registry.validate(name, {})
    for key in values.keys() & group.keys():
        if values[key] is not None:  # None stands for a value that the constructor works out
            assert values[key] == group[key], key
    assert all(field.description for field in registry.settings_model(name).model_fields.values())


@pytest.mark.parametrize("name", USABLE)
@pytest.mark.parametrize("bad", [0, 0.0, -1.0, math.nan, math.inf])
def test_a_learning_rate_is_positive_and_finite(name, bad):
    with pytest.raises(UsageError, match=r"^lr must be"):
        registry.validate(name, {"lr": bad})


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("vradam", {"beta3": -1.0}, r"beta3 must be >= 0, got -1\.0"),
        ("vradam", {"lr_cutoff": -1}, "lr_cutoff must be >= 0"),
        ("vradam", {"power": 0}, "power must be > 0"),
        ("vradam", {"norm_scope": "layer"}, "norm_scope must be 'global', 'group' or 'tensor'"),
        ("vradam", {"betas": (0.9, 1.0)}, "betas must each be < 1"),
        ("adamw", {"betas": (-0.1, 0.9)}, "betas must each be >= 0"),
        ("adamw", {"betas": (0.9,)}, "betas needs more values"),
        ("adamw", {"eps": -1e-8}, "eps must be >= 0"),
        ("adamw", {"weight_decay": -1}, "weight_decay must be >= 0"),
        ("sgd", {"momentum": -0.5}, "momentum must be >= 0"),
        ("sgd", {"momentun": 0.5}, "momentun is not a setting of sgd; did you mean momentum"),
        ("adamw", {"differentiable": True}, "differentiable is not a setting of adamw"),
        ("lbfgs", {"line_search_fn": "armijo"}, "line_search_fn must be 'strong_wolfe'"),
        ("lbfgs", {"max_iter": 0}, "max_iter must be >= 1"),
        ("muon", {"ns_steps": 100}, "ns_steps must be < 100"),
        ("rmsprop", {"alpha": "much"}, "alpha must be a valid number"),
    ],
)
def test_bad_values_are_refused_by_name(name, settings, message):
    with pytest.raises(UsageError, match=message) as caught:
        registry.validate(name, settings)
    assert "\n" not in str(caught.value)


def test_integers_and_text_become_numbers():
    values = registry.validate("adamw", {"lr": "0.1", "betas": ["0.5", 0], "weight_decay": 0})
    assert (values["lr"], values["betas"], values["weight_decay"]) == (0.1, (0.5, 0.0), 0.0)
    assert type(values["weight_decay"]) is float
    assert type(registry.validate("sgd", {})["momentum"]) is float


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_whatever_passes_the_model_passes_the_constructor(beta3):
    try:
        values = registry.validate("vradam", {"beta3": beta3})
    except UsageError:
        assert not 0 <= beta3 < math.inf
    else:
        registry.build("vradam", nn.Linear(1, 1), values)


class Older(torch.optim.Optimizer):
    """An optimizer of the older style.

    :param lr: float. step size.
    :param decay_mode: str. one of two modes. more text.
    """

    def __init__(self, params, lr, decay_mode="fixed", steps=10, hook=None, table: Any = None, *args, **kwargs):
        super().__init__(params, {"lr": lr})


class Younger(Older):
    """Passes on.

    Args:
        mode: how it
            is done.
        lr: overridden.
    """

    def __init__(self, params, mode: Literal["a", "b"] = "a", **kwargs):
        super().__init__(params, **kwargs)


class Demanding(torch.optim.Optimizer):
    def __init__(self, params, lr, hessian):
        super().__init__(params, {"lr": lr})


def test_constructors_without_annotations():
    model = model_of(Older, name="older", defaults={})
    assert model().model_dump() == {"lr": 1e-3, "decay_mode": "fixed", "steps": 10}
    assert model.model_fields["decay_mode"].description == "one of two modes"
    assert type(model(steps=3).model_dump()["steps"]) is int
    assert model(steps=0.5).model_dump()["steps"] == 0.5
    assert model_of(Older, name="older", defaults={"lr": 0.5})().model_dump()["lr"] == 0.5


def test_keyword_arguments_pass_up_the_hierarchy():
    model = model_of(Younger, name="younger", defaults={})
    assert list(model.model_fields) == ["mode", "lr", "decay_mode", "steps"]
    assert model.model_fields["mode"].description == "how it is done"


def test_a_required_argument_that_is_no_setting():
    with pytest.raises(UsageError, match="requires the argument 'hessian'"):
        model_of(Demanding, name="demanding", defaults={})


def test_bounds_give_way_to_a_default_outside_them():
    class Odd(torch.optim.Optimizer):
        def __init__(self, params, lr=1e-3, momentum=-1.0):
            super().__init__(params, {"lr": lr})

    assert model_of(Odd, name="odd", defaults={})().model_dump()["momentum"] == -1.0
