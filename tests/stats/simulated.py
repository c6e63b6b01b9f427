"""Thousands of replicated comparisons at once, with the truth known."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrcli.stats.decide import Plan, decide

Array = NDArray[np.float64]
#: Luck of the search in units of the noise between seeds (1): 5 x 3 then has power 0.72 at a difference of 1.5.
TAU = 0.4


def draw(
    count: int,
    optimizers: int,
    searches: int,
    seeds: int,
    *,
    tau: float = TAU,
    effect: float = 0.0,
    diverging: float = 0.0,
    heavy: bool = False,
    seed: int = 0,
) -> Array:
    """Values (count, optimizers, K, m), smaller is better: the first optimizer is better by `effect`.

    Args:
        heavy: noise and luck from t with three degrees of freedom, scaled to the same variance.
    """
    rng = np.random.default_rng(seed)

    def chance(*shape: int) -> Array:
        return rng.standard_t(3, shape) / math.sqrt(3) if heavy else rng.standard_normal(shape)

    found = chance(count, optimizers, searches, seeds) + tau * chance(count, optimizers, searches, 1)
    found[:, 0] -= effect
    found[rng.random(found.shape) < diverging] = np.inf
    return found


def plan(optimizers: int, **options: Any) -> Plan:
    return Plan(list(combinations(range(optimizers), 2)), **options)


def false_verdicts(values: Array, **options: Any) -> float:
    """Share of the comparisons with any verdict."""
    return float((decide(values, plan(values.shape[1], **options)).p_adjusted <= 0.05).any(axis=1).mean())


def power(values: Array, **options: Any) -> float:
    """Share of the comparisons that find the first optimizer better than the second."""
    found = decide(values, plan(values.shape[1], **options))
    return float(((found.p_adjusted[:, 0] <= 0.05) & (found.tests.lean[:, 0] < 0)).mean())


def at_most(level: float, count: int) -> float:
    """What a rate of `level` stays below in that many simulations: two standard errors above."""
    return level + 2 * math.sqrt(level * (1 - level) / count)
