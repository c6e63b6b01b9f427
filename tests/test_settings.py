"""From the words of the user to a request."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from vrcli.engine.prepare import prepare
from vrcli.errors import UsageError
from vrcli.settings import resolve
from vrcli.tasks.base import Preset, assumed
from vrcli.tasks.registry import load

Cnn = load("cnn")
COUNTED = """
import torch

class Counted(torch.optim.SGD):
    made = 0

    def __init__(self, params, lr: float = 1e-3, momentum: float = 0.0, nesterov: bool = False):
        Counted.made += 1
        super().__init__(params, lr=lr, momentum=momentum, nesterov=nesterov)
"""


def test_a_plugin_may_not_take_a_name_of_vrs_own():
    class Greedy(Cnn):
        class Config(Cnn.Config):
            seed: int = Field(0, description="clashes with --seed")

    with pytest.raises(ValueError, match="'seed', which is an option of vr's own"):
        resolve(Greedy, "sgd")


def test_a_presets_learning_rate_for_all_is_not_for_methods_that_find_their_own():
    pytest.importorskip("pytorch_optimizer")

    class Fast(Cnn):
        presets = {"quick": Preset({}, {"*": {"lr": assumed(0.03, "for the test")}})}

    assert resolve(Fast, "adamw").request.optimizer_settings["lr"] == 0.03
    assert resolve(Fast, "prodigy").request.optimizer_settings["lr"] == 1.0


def test_a_run_builds_its_optimizer_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "counted_once.py").write_text(COUNTED)
    monkeypatch.syspath_prepend(str(tmp_path))
    resolved = resolve(Cnn, "counted_once:Counted", preset="smoke")
    built = prepare(resolved.request, Cnn).optimizer
    assert type(built).made == 1  # type: ignore[attr-defined]


def test_settings_that_do_not_go_together_are_refused():
    resolved = resolve(Cnn, "sgd", preset="smoke", flags={"nesterov": True, "momentum": "0"})
    with pytest.raises(UsageError, match="Nesterov momentum requires"):
        resolved.tried()
    with pytest.raises(UsageError, match="Nesterov momentum requires"):
        prepare(resolved.request, Cnn)


class Capped(Cnn):
    presets = {"quick": Preset({"epochs": assumed(7, "some"), "max_steps": assumed(50, "some")})}


@pytest.mark.parametrize(
    ("config", "flags", "end", "most"),
    [
        ({}, {}, "epochs:7", 50),
        ({}, {"until": "gradients:9"}, "gradients:9", None),
        ({"until": "gradients:9"}, {}, "gradients:9", None),
        ({"epochs": 3}, {"until": "steps:9"}, "steps:9", None),
        ({"until": "steps:9"}, {"epochs": "3"}, "epochs:3", 50),
        ({"until": "steps:9"}, {"until": "none"}, "epochs:7", 50),
        ({}, {"until": "epochs:3"}, "epochs:3", None),
        ({}, {"epochs": "3"}, "epochs:3", 50),
    ],
)
def test_the_end_of_a_run_is_the_last_that_was_given(config, flags, end, most):
    training = resolve(Capped, "sgd", config=config, flags=flags).request.training
    assert (str(training.end), training.max_steps) == (end, most)


@pytest.mark.parametrize("other", ["epochs", "max_steps"])
def test_two_ends_in_one_place_are_refused(other):
    two = {"until": "gradients:9", other: "3"}
    with pytest.raises(
        UsageError, match=f"^--until gradients:9 and --{other.replace('_', '-')} are two ends of one run"
    ):
        resolve(Cnn, "sgd", flags=two)
    with pytest.raises(UsageError, match=r"^config file: --until gradients:9 and"):
        resolve(Cnn, "sgd", config=two)
