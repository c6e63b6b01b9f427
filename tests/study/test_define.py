import json
from dataclasses import replace

import pytest

from vrcli.errors import UsageError
from vrcli.execute.lookup import task_of
from vrcli.optim import registry
from vrcli.search.definition import Definition
from vrcli.search.record import key_of
from vrcli.settings import settings_of
from vrcli.study.define import SweepRequest, default_space, define, shared_key_of
from vrcli.study.tune import edited
from vrcli.tasks.space import Integer, Real


@pytest.fixture
def task(valley):
    from valley import Valley

    return Valley


def one(task, **asked):
    return define(task, SweepRequest("valley:Valley", asked.pop("optimizers", ["vradam"]), **asked))[0]


def test_the_space_comes_from_the_task_or_else_from_the_optimizer(task):
    named, other, momentum = define(task, SweepRequest("valley:Valley", ["vradam", "adamw", "vrmomentum"]))
    assert set(named.axes) == {"lr", "normgrad"}
    assert other.axes == {"lr": Real(1e-5, 10.0, log=True, origin="for all")}
    assert set(momentum.axes) == {"lr", "beta3", "normgrad", "lr_cutoff"}
    assert named.epochs == 3


@pytest.mark.parametrize(
    ("optimizer", "low", "high"),
    [("vrmomentum", 1e-4, 1.0), ("lbfgs", 1e-2, 2.0), ("adadelta", 1e-3, 10.0), ("prodigy", 0.1, 10.0)],
)
def test_a_range_chosen_for_the_optimizer_stands_against_the_tasks_for_all(task, optimizer, low, high):
    if optimizer == "prodigy":
        pytest.importorskip("pytorch_optimizer")
    lr = one(task, optimizers=[optimizer]).axes["lr"]
    assert (lr.low, lr.high) == (low, high)


def test_only_the_registrys_general_range_gives_way_to_the_tasks(task):
    for row in registry.catalogue():
        if row.refusal or "lr" not in row.space or row.name in task.space:
            continue
        lr = default_space(task, settings_of(task, row.name))["lr"]
        assert lr == (task.space["*"]["lr"] if row.space["lr"].generic else row.space["lr"]), row.name


def test_axes_can_be_changed_added_and_fixed(task):
    found = one(task, spaces=["beta3=0.1:5", "lr-cutoff=int:5:30"], fixed=["normgrad=false", "weight_decay=1e-5"])
    assert found.axes["beta3"] == Real(0.1, 5.0, origin="--space")
    assert found.axes["lr_cutoff"] == Integer(5, 30, origin="--space")
    assert set(found.axes) == {"lr", "beta3", "lr_cutoff"}
    assert found.explicit == {"normgrad": False, "weight_decay": 1e-5}
    assert found.settings["normgrad"] is False
    assert not found.axes.keys() & found.settings.keys()


def test_a_setting_of_the_loop_can_be_searched_and_given(task):
    found = one(task, spaces=["batch_size=int:4:32"], flags={"epochs": "7"}, config={"width": 6})
    assert "batch_size" in found.axes
    assert found.epochs == found.settings["epochs"] == 7
    assert found.explicit == {"epochs": 7, "width": 6}


def test_entries_of_betas_are_axes(task):
    assert set(one(task, optimizers=["adamw"], spaces=["beta1=0.8:0.99"]).axes) == {"lr", "beta1"}


def test_what_only_one_optimizer_has_reaches_only_that_one(task):
    asked = SweepRequest("valley:Valley", ["vradam", "adamw"], fixed=["beta3=2"], config={"power": 2})
    vradam, adamw = define(task, asked)
    assert vradam.explicit == {"beta3": 2.0, "power": 2}
    assert adamw.explicit == {}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"optimizers": ["adamw", "vradam", "adamw"]}, "--opt adamw is given twice"),
        ({"spaces": ["lrr=0.1:1"]}, "vradam has no setting.*did you mean lr"),
        ({"fixed": ["beta9=1"]}, "vradam has no setting"),
        ({"fixed": ["lr"]}, "--fix"),
        ({"fixed": ["lr=-1"]}, "--lr must be >"),
        ({"fixed": ["lr=0.1", "lr=0.2"]}, "--fix lr is given twice"),
        ({"spaces": ["lr=0.1:1", "lr=0.2:1"]}, "--space lr is given twice"),
        ({"fixed": ["lr=0.1"], "spaces": ["lr=0.1:1"]}, "--fix and in --space"),
        ({"flags": {"epochs": "3"}, "spaces": ["epochs=int:1:3"]}, "--epochs is given a value and a --space"),
        ({"spaces": ["beta3=-1:1"]}, "--space beta3.*must be >= 0"),
        ({"spaces": ["epochs=0.5:3"]}, "--space epochs.*whole number"),
        ({"fixed": ["lr=0.1", "normgrad=true"]}, "nothing is left to search"),
        ({"prune": "sometimes"}, "--prune"),
        ({"preset": "huge"}, "is not a preset"),
        ({"optimizers": ["adamwww"]}, "adamw"),
        ({"flags": {"epochs": "0"}}, "--epochs must be >= 1"),
    ],
)
def test_nonsense_is_refused_in_one_line(task, asked, says):
    with pytest.raises(UsageError, match=says) as refused:
        one(task, **asked)
    assert "\n" not in str(refused.value)


def test_a_definition_survives_json(task):
    made = one(task, spaces=["beta1=0.5:0.9"], seeds=(1, 2)).on("valley", "abc")
    back = Definition.of(json.loads(json.dumps(made.plain())))
    assert back.differences(made) == []
    assert back.axes == made.axes
    assert back.seeds == (1, 2)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, []),
        ({"flags": {"epochs": "5"}}, ["epochs 3 -> 5"]),
        ({"spaces": ["lr=log:1e-4:2"]}, ["space of lr log 0.0001..1 -> log 0.0001..2"]),
        ({"fixed": ["normgrad=true"]}, ["space of normgrad {True,False} -> (absent)", "normgrad (absent) -> True"]),
        ({"search": "random", "search_seed": 3}, ["search gp -> random", "search_seed 0 -> 3"]),
        ({"seeds": (0, 1)}, ["seeds [0] -> [0, 1]"]),
        ({"prune": "median"}, ["prune none -> median"]),
        ({"fixed": ["weight_decay=0.01"]}, ["weight_decay 1e-05 -> 0.01"]),
    ],
)
def test_differences_are_named(task, asked, names):
    assert sorted(one(task).differences(one(task, **asked))) == sorted(names)


def test_other_data_are_a_difference(task):
    made = one(task)
    assert made.on("valley", "abc").differences(made.on("valley", "abd")) == ["dataset_fingerprint abc -> abd"]
    assert made.on("valley-subset-0.5", "abc").differences(made.on("valley", "abc")) == [
        "data valley-subset-0.5 -> valley"
    ]


def test_other_code_is_a_difference(task):
    made = one(task)
    assert made.code["optimizer"].startswith("revision ")
    other = replace(made, code={**made.code, "optimizer": "revision 99"})
    assert made.differences(other) == [f"optimizer code {made.code['optimizer']} -> revision 99"]
    assert replace(made, code={}).differences(made) == ["code not recorded -> recorded"]
    assert key_of(other) != key_of(made)
    assert edited(other.code, made.code).startswith("code was edited meanwhile: optimizer code revision 99 -> revision")


def test_a_sweep_is_known_by_what_it_was_known_by_before_there_were_other_budgets():
    """The key of a stored sweep of these settings; it was not computed here."""
    request = SweepRequest("cnn", ["adamw"], preset="smoke", flags={"epochs": "3"})
    (found,) = define(task_of("cnn"), request)
    assert shared_key_of(found) == "e096d33d5a3fe9c15b4209a124bfbae5"
    (other,) = define(task_of("cnn"), replace(request, flags={"until": "gradients:30"}))
    assert shared_key_of(other) != shared_key_of(found)


def test_epochs_that_were_asked_for_as_an_end_are_among_what_was_given(task):
    made = one(task, flags={"until": "epochs:5"})
    assert (made.epochs, made.explicit) == (5, {"epochs": 5})
