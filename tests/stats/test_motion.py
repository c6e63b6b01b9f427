"""The motions of theory: their recursions are the optimizers', their limits are where motions leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vrcli.optim import VRAdam, VRMomentum
from vrcli.stats import motion

SETTINGS = motion.Settings(beta3=0.7, cutoff=2.0)


def optimizer(rule: motion.Rule, p: torch.Tensor, lr: float) -> torch.optim.Optimizer:
    s = SETTINGS
    more = {"lr": lr, "weight_decay": 0.0}
    if rule == "vradam":
        return VRAdam([p], betas=(s.beta1, s.beta2), beta3=s.beta3, lr_cutoff=s.cutoff, eps=s.eps, **more)
    if rule == "vrmomentum":
        return VRMomentum([p], beta1=s.beta1, beta3=s.beta3, lr_cutoff=s.cutoff, **more)
    if rule == "adam":
        return torch.optim.Adam([p], betas=(s.beta1, s.beta2), eps=s.eps, **more)
    return torch.optim.SGD([p], momentum=s.beta1, dampening=s.beta1, **more)


@pytest.mark.parametrize("rule", motion.RULES)
def test_the_recursions_are_the_optimizers(rule: motion.Rule) -> None:
    p = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    # torch takes the first gradient undamped: give it a first step without one.
    p.grad = torch.zeros_like(p)
    stepped, places = optimizer(rule, p, lr=0.8), []
    if rule == "momentum":
        stepped.step()
    for _ in range(60):
        p.grad = p.detach().clone()
        stepped.step()
        places.append(p.item())
    found, _ = motion.path(2.0, rule, 0.8, 60, SETTINGS)
    assert found[1:] == pytest.approx(places, rel=1e-9)


def test_an_orbit_keeps_its_energy_and_comes_back() -> None:
    places, velocities = motion.orbit(1.5, 0.0, 1.0, 20.0, points=2001)
    energies = motion.energy(places, velocities, 1.0)
    assert energies == pytest.approx(np.full_like(energies, 1.5**2 / 2), rel=1e-6)
    turns = np.flatnonzero((velocities[:-1] < 0) & (velocities[1:] >= 0))
    assert places[turns] == pytest.approx(np.full(len(turns), -1.5), abs=0.02)
    plain, _ = motion.orbit(1.0, 0.0, 0.0, 2 * np.pi)  # without a penalty it is the harmonic oscillator
    assert plain[-1] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("cutoff", [4.0, 19.0])
def test_momentum_and_its_relative_leave_where_theory_says(cutoff: float) -> None:
    settings = motion.Settings(cutoff=cutoff)
    assert motion.limit("momentum", settings) == pytest.approx(38.0)
    for rule in ("momentum", "vrmomentum"):
        assert motion.largest_stable(rule, 5000, settings) == pytest.approx(motion.limit(rule, settings), rel=0.01)
    for rule in ("adam", "vradam"):
        assert motion.largest_stable(rule, 1000, settings) == motion.limit(rule, settings) == np.inf


@pytest.mark.parametrize("rule", ["adam", "vradam", "vrmomentum"])
def test_a_cycle_of_two_steps_goes_on(rule: motion.Rule) -> None:
    """A motion that is put on the cycle of theory stays there for some steps, whether or not it attracts others."""
    settings, lr = motion.Settings(beta2=0.9), 60.0
    x = motion.amplitude(rule, lr, settings)
    velocity = -(1 - settings.beta1) / (1 + settings.beta1) * x  # of the step before, at -x
    state = motion.State(np.array(x), np.array(velocity), np.array(x**2), 10_000)
    for turn in range(6):
        state = motion.advance(state, state.x, rule, lr, settings)
        assert float(state.x) == pytest.approx(x * (-1) ** (turn + 1), rel=1e-4)


@pytest.mark.parametrize(("beta3", "swings"), [(1e-320, np.inf), (1e300, 0.0)])
def test_a_penalty_beyond_all_numbers_swings_without_end_or_not_at_all(beta3: float, swings: float) -> None:
    assert motion.amplitude("vrmomentum", 60.0, motion.Settings(beta3=beta3)) == swings


def test_momentum_comes_to_rest_below_its_limit() -> None:
    found = motion.swing("momentum", np.array([1.0, 37.0, 39.0]), 4000)
    assert found.bounded.tolist() == [True, True, False]
    assert found.largest[:2].max() < 1e-9
    assert motion.amplitude("momentum", 37.0) == 0.0
    assert motion.amplitude("momentum", 39.0) == np.inf
