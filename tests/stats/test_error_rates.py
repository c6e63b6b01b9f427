"""False verdicts, power and coverage of the replicated comparison, by simulation of the functions that decide."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from simulated import at_most, draw, false_verdicts, plan, power

from vrcli.stats.decide import Plan, decide
from vrcli.stats.inference import t_quantile
from vrcli.stats.sequential import Looks

COUNT = 8000


@pytest.mark.parametrize("optimizers", [2, 4])
@pytest.mark.parametrize(("searches", "seeds"), [(5, 3), (3, 3), (10, 1)])
@pytest.mark.parametrize("noise", [{}, {"heavy": True}, {"diverging": 0.1}], ids=["normal", "heavy", "diverging"])
def test_alike_optimizers_are_said_to_differ_in_at_most_one_of_twenty(
    optimizers: int, searches: int, seeds: int, noise: dict[str, float]
) -> None:
    count = 2000 if "diverging" in noise else COUNT
    rate = false_verdicts(draw(count, optimizers, searches, seeds, seed=1, **noise))
    assert rate <= at_most(0.05, count)
    if not noise:
        assert rate >= 0.04  # and it does speak: the level is used


@pytest.mark.parametrize("tau", [0.0, 2.0])
def test_the_amount_of_luck_does_not_matter(tau: float) -> None:
    for optimizers in (2, 4):
        assert 0.04 < false_verdicts(draw(COUNT, optimizers, 5, 3, tau=tau, seed=2)) <= at_most(0.05, COUNT)


def test_seeds_of_one_search_are_no_replicates() -> None:
    """What replication protects from: with seeds as the unit the same luck makes verdicts."""
    pooled = draw(COUNT, 2, 5, 3, seed=3).reshape(COUNT, 2, 15, 1)
    assert false_verdicts(pooled) > at_most(0.05, COUNT) + 0.005
    unlucky = draw(COUNT, 2, 5, 3, tau=1.0, seed=3).reshape(COUNT, 2, 15, 1)
    assert false_verdicts(unlucky) > 0.12
    one_search = draw(COUNT, 2, 1, 10, seed=4).reshape(COUNT, 2, 10, 1)
    assert false_verdicts(one_search) > 0.15
    more_seeds = draw(COUNT, 2, 1, 50, seed=4).reshape(COUNT, 2, 50, 1)
    assert false_verdicts(more_seeds) > 0.4


@pytest.mark.parametrize(("searches", "seeds", "expected"), [(5, 3, 0.72), (3, 3, 0.33), (10, 1, 0.79)])
def test_power_at_one_and_a_half_noise_sd(searches: int, seeds: int, expected: float) -> None:
    assert power(draw(COUNT, 2, searches, seeds, effect=1.5, seed=5)) == pytest.approx(expected, abs=0.02)


def test_fewer_tests_keep_more_power() -> None:
    values = draw(COUNT, 4, 5, 3, effect=1.5, seed=6)
    pairs = [(0, 1), (0, 2), (0, 3)]
    every = power(values)
    against = decide(values, Plan(pairs)).p_adjusted[:, 0]
    primary = decide(values, plan(4, primary=True)).p_adjusted[:, 0]
    assert every == pytest.approx(0.31, abs=0.03)
    assert every + 0.1 < float((against <= 0.05).mean()) < float((primary <= 0.05).mean())
    assert float((primary <= 0.05).mean()) == pytest.approx(0.72, abs=0.02)


def test_a_declared_pair_keeps_the_level_of_all_claims() -> None:
    """All alike; then all but the declared pair alike, so that the gate is open."""
    four = plan(4, primary=True)
    alike = decide(draw(COUNT, 4, 5, 3, seed=7), four).p_adjusted
    assert float((alike <= 0.05).any(axis=1).mean()) <= at_most(0.05, COUNT)
    values = draw(COUNT, 4, 5, 3, effect=30, seed=8)
    others = [index for index, pair in enumerate(four.pairs) if 0 not in pair]
    opened = decide(values, four).p_adjusted[:, others]
    assert float((opened <= 0.05).any(axis=1).mean()) <= at_most(0.05, COUNT)


@pytest.mark.parametrize("searches", [6, 8])
def test_ranks_speak_from_six_replicates_on(searches: int) -> None:
    """With one run in ten diverging: the level holds, and a true difference is found."""
    assert false_verdicts(draw(4000, 2, searches, 3, diverging=0.1, seed=9)) <= at_most(0.05, 4000)
    found = power(draw(4000, 2, searches, 3, diverging=0.1, effect=1.5, seed=9))
    assert found > {6: 0.4, 8: 0.6}[searches]
    assert power(draw(4000, 2, 5, 3, diverging=0.1, effect=1.5, seed=9)) < 0.05


def test_unpaired_ranks_speak_at_five_replicates() -> None:
    alike = draw(2000, 2, 5, 3, diverging=0.1, seed=10)
    assert false_verdicts(alike, unpaired_ranks=True) <= at_most(0.05, 2000)
    # What both share makes them stricter, not looser.
    shared = alike + np.random.default_rng(0).standard_normal((2000, 1, 5, 1))
    assert false_verdicts(shared, unpaired_ranks=True) <= false_verdicts(alike, unpaired_ranks=True)
    assert power(draw(2000, 2, 5, 3, diverging=0.1, effect=1.5, seed=10), unpaired_ranks=True) > 0.45


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize(("searches", "seeds"), [(5, 3), (3, 3), (10, 1)])
def test_the_interval_holds_the_optimizers_difference(searches: int, seeds: int, heavy: bool) -> None:
    tests = decide(draw(COUNT, 2, searches, seeds, effect=1.5, heavy=heavy, seed=11), plan(2)).tests
    half = t_quantile(searches - 1, 0.95) * tests.error
    covered = float((np.abs(tests.mean + 1.5) <= half).mean())
    assert 0.93 <= covered <= 0.975 if heavy else 0.93 <= covered <= 0.97


def test_all_simultaneous_intervals_hold_together() -> None:
    tests = decide(draw(COUNT, 4, 5, 3, seed=12), plan(4)).tests
    half = t_quantile(4, 1 - 0.05 / 6) * tests.error
    assert float((np.abs(tests.mean) <= half).all(axis=1).mean()) >= 1 - at_most(0.05, COUNT)


def test_equal_within_the_margin_is_said_wrongly_in_at_most_one_of_twenty() -> None:
    margin = 3.0
    at_margin = decide(draw(COUNT, 2, 5, 3, effect=margin, seed=13), plan(2, margin=margin))
    assert 0.04 <= float((at_margin.p_equal_adjusted <= 0.05).mean()) <= at_most(0.05, COUNT)
    alike = decide(draw(COUNT, 2, 5, 3, seed=13), plan(2, margin=margin))
    assert float((alike.p_equal_adjusted <= 0.05).mean()) > 0.95


@pytest.mark.parametrize("boundary", ["pocock", "obrien-fleming"])
@pytest.mark.parametrize(("optimizers", "noise"), [(2, {}), (4, {}), (2, {"heavy": True}), (2, {"diverging": 0.02})])
def test_looking_twice_costs_nothing_of_the_level(boundary: str, optimizers: int, noise: dict[str, float]) -> None:
    """A comparison errs when either look finds a difference that is not there."""
    looks = Looks((4, 8), boundary)  # type: ignore[arg-type]
    values = draw(4000, optimizers, 8, 3, seed=14, **noise)
    either = np.zeros(4000, dtype=bool)
    careless = np.zeros(4000, dtype=bool)
    for size in looks.sizes:
        found = decide(values[:, :, :size], plan(optimizers, looks=looks))
        either |= (found.p_adjusted <= 0.05).any(axis=1)
        careless |= (decide(values[:, :, :size], plan(optimizers)).p_adjusted <= 0.05).any(axis=1)
    assert float(either.mean()) <= at_most(0.05, 4000)
    if not noise:
        assert float(either.mean()) > 0.035
        assert float(careless.mean()) > 0.065


@pytest.mark.slow
@pytest.mark.parametrize("optimizers", [2, 4, 6])
@pytest.mark.parametrize("searches", [2, 3, 4, 5, 6, 8, 10])
@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("tau", [0.0, 0.4, 2.0])
def test_the_level_holds_everywhere(optimizers: int, searches: int, seeds: int, tau: float) -> None:
    """Three standard errors: the grid asks hundreds of times."""
    for noise in ({}, {"heavy": True}, {"diverging": 0.1}, {"diverging": 0.4}):
        count = 1000 if "diverging" in noise else 20_000
        values = draw(count, optimizers, searches, seeds, tau=tau, seed=15, **noise)
        rate = false_verdicts(values)
        assert rate <= 0.05 + 1.5 * (at_most(0.05, count) - 0.05), (noise, rate)
