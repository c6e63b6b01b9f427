"""Fitted rates against power laws whose exponent is known, and the share of wrong verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vrcli.stats import rates
from vrcli.stats.rates import local, rate

LENGTHS = [100, 1000, 10000]


def runs(exponent: float, seeds: int = 20, noise: float = 0.3, seed: int = 0) -> list[np.ndarray]:
    """Values (seeds, points) that fall to N^exponent in the middle of the run, and rise again."""
    generator = np.random.default_rng(seed)
    shape = 1 + np.square(np.linspace(-2, 2, 21))
    return [
        length**exponent * shape * np.exp(noise * generator.standard_normal((seeds, 21)) - noise**2 / 2)
        for length in LENGTHS
    ]


def test_a_power_law_without_noise_is_found_exactly() -> None:
    found = rate(LENGTHS, runs(-0.5, noise=0.0), power=-0.5, logs=0)
    assert found.exponent == pytest.approx(-0.5)
    assert found.interval == pytest.approx((-0.5, -0.5))
    assert found.claimed == pytest.approx(-0.5)
    assert found.values == pytest.approx([0.1, 1000**-0.5, 0.01])
    assert local(LENGTHS, found.values) == pytest.approx([-0.5, -0.5])


def test_the_logarithm_is_in_the_claimed_exponent() -> None:
    found = rate(LENGTHS, runs(-0.5), power=-0.5, logs=1)
    assert found.claimed == pytest.approx(-0.5 + math.log(2) / math.log(100))  # ln N doubles from 100 to 10,000
    assert not found.violated


@pytest.mark.parametrize(("exponent", "violated"), [(-0.8, False), (-0.5, False), (-0.1, True), (0.1, True)])
def test_what_falls_more_slowly_violates_the_rate(exponent: float, violated: bool) -> None:
    found = rate(LENGTHS, runs(exponent), power=-0.5, logs=1)
    assert found.violated is violated
    assert found.interval[0] <= found.exponent <= found.interval[1]


def test_a_rate_that_holds_exactly_is_seldom_called_violated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "RESAMPLES", 1000)
    found = [rate(LENGTHS, runs(-0.5, noise=0.5, seed=seed), power=-0.5, logs=0) for seed in range(200)]
    # One-sided at 2.5 %; the minimum of noisy means is too low by the same factor at every length.
    assert sum(one.violated for one in found) <= 12
    inside = sum(one.interval[0] <= -0.5 <= one.interval[1] for one in found)
    assert 180 <= inside <= 200


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_five_seeds_are_enough_for_the_promised_level(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "RESAMPLES", 1000)
    generator, wrong = np.random.default_rng(1), 0
    for _ in range(300):
        curves = [length**-0.5 * generator.lognormal(0, spread, (5, 1)) for length in LENGTHS]
        wrong += rate(LENGTHS, curves, power=-0.5, logs=0).violated
    assert wrong <= 12  # of 300 at 2.5 %; without the widening 18 or more
