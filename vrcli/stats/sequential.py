"""Planned looks at a growing number of replicates, with the error rate of all looks together kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
from scipy import special

from vrcli.stats.inference import Array

Boundary: TypeAlias = Literal["obrien-fleming", "pocock"]

#: Simulated experiments behind a boundary, from a fixed seed: an error rate of 5% is met to +- 0.02%.
DRAWS = 1_000_000
#: Below this a p-value is taken for this.
TINY = 1e-300


@dataclass(frozen=True)
class Looks:
    """When a comparison is looked at, and how strict each look is.

    Args:
        sizes: searches at each look, increasing: (3, 5).
        boundary: "pocock" tests every look at the same nominal level; "obrien-fleming" is strict early and leaves the
            last look nearly the whole level.
    """

    sizes: tuple[int, ...]
    boundary: Boundary = "obrien-fleming"

    def __post_init__(self) -> None:
        if len(self.sizes) < 2 or self.sizes[0] < 2 or any(a >= b for a, b in pairwise(self.sizes)):
            raise ValueError(f"looks need at least two rising numbers of searches from 2 on, got {self.sizes}")

    def nominal(self, alpha: float) -> tuple[float, ...]:
        """Two-sided p of the t test below which each look decides, so that all together err with `alpha`."""
        z = _quantile(_null(self)[-1], alpha) / _weights(self)
        return tuple((2 * special.ndtr(z)).tolist())

    def spent(self, alpha: float) -> tuple[float, ...]:
        """Probability of an error up to and including each look: the last is alpha."""
        null = _null(self)
        return tuple(_share_below(look, _quantile(null[-1], alpha)) for look in null)

    def overall(self, p: Array) -> Array:
        """The smallest error rate of all looks together at which one of those so far decides.

        Args:
            p: (..., looks so far), two-sided p of the t test at each.

        Returns:
            (...), to be adjusted for several tests and compared with the level like any other p.
        """
        extreme = _extreme(p, _weights(self)[: p.shape[-1]]).min(axis=-1)
        below = np.searchsorted(_null(self)[-1], extreme, side="right")
        return np.asarray((below + 1) / (DRAWS + 1))

    def at_last(self, p: Array) -> Array:
        """The same where another test decides, and only at the last look: what earlier looks may spend is set aside.

        Args:
            p: (...), of that test at the last look.
        """
        null = _null(self)
        alpha = np.arange(1, DRAWS + 1) / DRAWS
        left = np.maximum.accumulate(alpha - np.searchsorted(null[-2], null[-1], side="right") / DRAWS)
        found: Array = alpha[np.minimum(np.searchsorted(left, p), DRAWS - 1)]
        return found


def planned(searches: int, looks: int = 2, boundary: Boundary = "obrien-fleming") -> Looks:
    """Looks at about equal steps up to a number of searches, none before 2: 5 searches in 2 looks are 3 and 5.

    Raises:
        ValueError: fewer than two looks, or fewer searches than they need.
    """
    if looks < 2 or searches < looks + 1:
        raise ValueError(f"{looks} looks need at least {max(looks, 2) + 1} searches, and 2 looks are the fewest")
    return Looks(tuple(math.ceil(searches * look / looks) for look in range(1, looks + 1)), boundary)


def _weights(looks: Looks) -> Array:
    """By how much each look's z counts: the root of its share of all searches (O'Brien and Fleming 1979), or 1."""
    sizes = np.array(looks.sizes, dtype=np.float64)
    return np.sqrt(sizes / sizes[-1]) if looks.boundary == "obrien-fleming" else np.ones(len(sizes))


def _extreme(p: Array, weights: Array) -> Array:
    """How extreme each look is on the boundary's own scale: the smaller, the more."""
    found: Array = special.ndtri(np.maximum(p, TINY) / 2) * weights
    return found


@lru_cache(maxsize=8)
def _null(looks: Looks) -> Array:
    """Without a difference, the most extreme of the looks so far: (looks, DRAWS), each row sorted."""
    rng = np.random.default_rng(0)
    total, squares = np.zeros(DRAWS), np.zeros(DRAWS)
    found, before = [], 0
    for size in looks.sizes:
        # Only the sum and the sum of squares of each stage's differences matter to t.
        step = size - before
        added = math.sqrt(step) * rng.standard_normal(DRAWS)
        total += added
        squares += added**2 / step + 2 * rng.standard_gamma((step - 1) / 2, DRAWS)
        t = total / np.sqrt(size * (squares - total**2 / size) / (size - 1))
        found.append(2 * special.stdtr(size - 1, -np.abs(t)))
        before = size
    extreme = _extreme(np.array(found).T, _weights(looks)).T
    return np.sort(np.minimum.accumulate(extreme, axis=0), axis=1)


def _quantile(null: Array, alpha: float) -> float:
    return float(np.quantile(null, alpha))


def _share_below(null: Array, extreme: float) -> float:
    return float(np.searchsorted(null, extreme, side="right")) / DRAWS
