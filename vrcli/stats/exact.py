"""Exact tests and Holm's adjustment for many comparisons at once: one row each.

A single comparison and a simulation of thousands use the same code, so what is simulated is what decides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def holm_rows(p: NDArray[np.float64], *, of_best: bool = False) -> NDArray[np.float64]:
    """Adjusted p-values of each row (..., tests), step by step as Holm does; NaN (no test) stays and is not counted.

    Args:
        of_best: each test compares one of several with the best one seen, see `comparison.differ_from_best`.
    """
    order = np.argsort(p, axis=-1)  # NaN last
    left = np.maximum((~np.isnan(p)).sum(axis=-1, keepdims=True) - np.arange(p.shape[-1]), 1)
    steps = np.take_along_axis(p, order, -1) * (left * (left + 1) // 2 if of_best else left)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(steps, axis=-1), 1.0), -1)
    return adjusted


def differences(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """a - b where +infinity is worst: two that are equal, diverged ones among them, differ by 0."""
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0.0, a - b)


def doubled_ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Twice the rank of each value in its row (..., n), from 2; ties share their mean, which doubling makes whole."""
    one, other = values[..., :, None], values[..., None, :]
    found: NDArray[np.int64] = 2 * (other < one).sum(axis=-1) + (other == one).sum(axis=-1) + 1
    return found


def signed_ranks(d: NDArray[np.float64]) -> NDArray[np.int64]:
    """Twice the rank of each difference by size, with its sign; a tie has rank 0 but keeps its place."""
    return np.sign(d).astype(np.int64) * doubled_ranks(np.abs(d))


def flip_signs(weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Two-sided p of the sum of signed weights (rows, n) when each sign could as well be the other.

    Of signed ranks this is Wilcoxon's test, exact also with ties. No p is below 2^(1 - n).
    """
    size = np.abs(weights)
    # chance[s] = probability that the weights with a plus sum to s, over the weights seen so far
    chance = np.zeros((len(size), int(size.sum(axis=1).max(initial=0)) + 1))
    chance[:, 0] = 1
    for weight in size.T:
        chance = (chance + _moved(chance, weight)) / 2
    return _two_sided(chance, np.where(weights > 0, size, 0).sum(axis=1))


def _moved(chance: NDArray[np.float64], by: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each row (rows, sums) moved to the right by its own number of places."""
    source = np.arange(chance.shape[1]) - by[:, None]
    return np.where(source >= 0, np.take_along_axis(chance, np.maximum(source, 0), 1), 0.0)


def _two_sided(chance: NDArray[np.float64], observed: NDArray[np.int64]) -> NDArray[np.float64]:
    """Twice the smaller tail of each row's distribution over 0, 1, 2, ..."""
    at = np.arange(chance.shape[1])
    low = np.where(at <= observed[:, None], chance, 0.0).sum(axis=1)
    high = np.where(at >= observed[:, None], chance, 0.0).sum(axis=1)
    found: NDArray[np.float64] = np.minimum(1.0, 2 * np.minimum(low, high))
    return found
