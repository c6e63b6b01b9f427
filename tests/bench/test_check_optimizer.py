"""The conformance check: passes what conforms, and finds each fault in an optimizer made to have it."""

import math
import sys
import types

import pytest
import torch

from vrcli.bench.check_optimizer import CHECKS, CheckResult, check
from vrcli.errors import UsageError
from vrcli.optim import registry


class Sound(torch.optim.SGD):
    """SGD with a momentum."""

    def __init__(self, params, lr=0.05, momentum=0.9):
        super().__init__(params, lr=lr, momentum=momentum)


class NoProgress(Sound):
    def step(self, closure=None):
        return closure() if closure else None


class Random(Sound):
    seeds = iter(range(10**6))

    def step(self, closure=None):
        loss = super().step(closure)
        generator = torch.Generator().manual_seed(next(self.seeds))
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data.add_(torch.randn(p.shape, generator=generator).to(p.dtype), alpha=1e-4)
        return loss


class Forgetful(Sound):
    def state_dict(self):
        return {**super().state_dict(), "state": {}}


class OneGroup(Sound):
    def step(self, closure=None):
        groups, self.param_groups = self.param_groups, self.param_groups[:1]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups


class OwnRate(Sound):
    def step(self, closure=None):
        for group in self.param_groups:
            group["lr"] = 0.05
        return super().step(closure)


class DeafToClosures(Sound):
    def step(self, closure=None):
        return super().step()


class Silent(Sound):
    def step(self, closure=None):
        super().step(closure)


class WithoutGradients(Sound):
    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure else None
        super().step()
        return loss


class DecaysTheFrozen(Sound):
    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(1 - 1e-3 * group["lr"])
        return loss


class HidesNaN(Sound):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.nan_to_num_(0.0)
        return super().step(closure)


class DividesByTheNorm(Sound):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.div_(20 * p.grad.norm())
        return super().step(closure)


class SinglePrecisionOnly(Sound):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.dtype is not torch.float32:
                    raise TypeError("float32 only")
        return super().step(closure)


FAULTS = {
    NoProgress: {"loss falls", "parameter groups", "NaN gradient"},
    Random: {"determinism", "state-dict round trip", "schedules"},
    Forgetful: {"state-dict round trip"},
    OneGroup: {"parameter groups"},
    OwnRate: {"schedules"},
    DeafToClosures: {"closure"},
    Silent: {"closure"},
    WithoutGradients: {"closure"},
    DecaysTheFrozen: {"frozen parameters"},
    HidesNaN: {"NaN gradient"},
    DividesByTheNorm: {"zero gradient"},
    SinglePrecisionOnly: {"dtypes"},
}


@pytest.fixture(autouse=True)
def _module(monkeypatch):
    classes = {cls.__name__: cls for cls in (Sound, *FAULTS)}
    monkeypatch.setitem(sys.modules, "tried_here", types.SimpleNamespace(**classes))
    yield
    registry.settings_model.cache_clear()


def failures(results):
    return {result.name for result in results if result.status == "failed"}


@pytest.mark.parametrize("name", ["vradam", "vrmomentum", "muon", "adamw", "sgd", "radam", "tried_here:Sound"])
def test_sound_optimizers_pass(name):
    results = check(name, rounds=1)
    assert failures(results) == set()
    assert [result.name for result in results] == [*CHECKS, "step time"]
    assert all(isinstance(result, CheckResult) and result.detail and "\n" not in result.detail for result in results)


@pytest.mark.parametrize("cls", FAULTS, ids=lambda cls: cls.__name__)
def test_each_fault_is_found(cls):
    assert failures(check(f"tried_here:{cls.__name__}", rounds=1)) == FAULTS[cls]


def test_what_does_not_apply_is_said():
    by_name = {result.name: result for result in check("lbfgs", rounds=1)}
    assert by_name["step time"].status == by_name["zero gradient"].status == "not applicable"
    assert by_name["closure"].status == "passed"
    assert by_name["parameter groups"].status == "failed", "torch's L-BFGS takes one group only"


def test_measures():
    by_name = {result.name: result.detail for result in check("vradam", rounds=2)}
    assert by_name["memory"].startswith("state 2.0")
    assert "x torch's AdamW (medians of 2, 1 threads)" in by_name["step time"]


def test_settings_are_tried():
    with pytest.raises(UsageError, match="beta3 must be >= 0"):
        check("vradam", {"beta3": -1})
    assert failures(check("vradam", {"beta3": 0.0, "norm_scope": "tensor"}, rounds=1)) == set()
    with pytest.raises(UsageError, match="did you mean"):
        check("vradamm")


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    check("sgd", rounds=1)
    assert torch.equal(before, torch.get_rng_state())
    assert math.isfinite(float(torch.rand(())))
