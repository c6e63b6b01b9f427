"""How small a difference a number of seeds (or searches) can show, and how many a difference needs.

Everything is computed for the test that is used: Student's t of paired differences, or Welch's, whose degrees of
freedom follow the spread it finds (values of equal variance are assumed).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import special

from vrcli.stats.inference import Array, t_quantile

#: Probability with which a "detectable" difference is found; the field's usual choice.
POWER = 0.8
#: Beyond this the answer is "more seeds than anybody runs".
MOST_SEEDS = 10_000
#: Points at which an unknown quantity's distribution is taken: the error of a power is below 0.001.
POINTS = 20


def power_of(effect: float, n: int, *, paired: bool, level: float = 0.95, sd_df: float | None = None) -> float:
    """Probability that a two-sided t test finds a difference.

    Args:
        effect: true difference over the standard deviation: of the paired differences, or within each sample.
        n: seeds of each optimizer.
        sd_df: degrees of freedom behind that standard deviation where it is an estimate; None where it is known. Then
            the power is averaged over what the true one may be: taken for known, an sd from 4 degrees of freedom
            promises 0.8 and gives 0.68.
    """
    if n < 2:
        return 0.0
    weights = np.ones(1)
    effects = np.array([effect])
    if sd_df is not None:
        at, weights = _nodes()
        effects = effect * np.sqrt(special.chdtri(sd_df, 1 - at) / sd_df)
    df = n - 1 if paired else 2 * n - 2
    critical, shares = _critical(n, paired, level)
    # The square of a noncentral t is a noncentral F, whose distribution function is the more robust of the two.
    noncentrality = effects**2 * (n if paired else n / 2)
    missed = special.ncfdtr(1, df, noncentrality[:, None], critical**2)
    # It answers NaN where the probability of a miss underflows.
    return 1 - float(weights @ np.where(np.isnan(missed), 0.0, missed) @ shares)


@lru_cache
def _nodes() -> tuple[Array, Array]:
    """Places in (0, 1) and weights: the mean of a smooth function of a uniform variable (Gauss-Legendre)."""
    at, weights = np.polynomial.legendre.leggauss(POINTS)
    return (at + 1) / 2, weights / 2


@lru_cache(maxsize=256)
def _critical(n: int, paired: bool, level: float) -> tuple[Array, Array]:
    """Critical values of t and how often each applies: one for pairs, several for Welch's test.

    The share that one sample has in the sum of both variances is Beta distributed and independent of that sum, so t
    itself keeps 2n - 2 degrees of freedom; the share only decides with what t is compared.
    """
    if paired:
        return np.array([t_quantile(n - 1, level)]), np.ones(1)
    at, weights = _nodes()
    share = special.betaincinv((n - 1) / 2, (n - 1) / 2, at)
    df = (n - 1) / (share**2 + (1 - share) ** 2)
    return special.stdtrit(df, 0.5 + level / 2), weights


def detectable_difference(
    sd: float, n: int, *, paired: bool, level: float = 0.95, power: float = POWER, sd_df: float | None = None
) -> float:
    """The smallest true difference that n seeds show with probability `power`; NaN below two seeds or without a spread.

    Args:
        sd_df: see `power_of`.
    """
    if n < 2 or not 0 < sd < math.inf:
        return math.nan
    return _detectable_effect(n, paired, level, power, sd_df) * sd


@lru_cache(maxsize=1024)
def _detectable_effect(n: int, paired: bool, level: float, power: float, sd_df: float | None) -> float:
    def enough(effect: float) -> bool:
        return power_of(effect, n, paired=paired, level=level, sd_df=sd_df) >= power

    low, high = 0.0, 1.0
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def seeds_needed(
    difference: float,
    sd: float,
    *,
    paired: bool,
    level: float = 0.95,
    power: float = POWER,
    sd_df: float | None = None,
) -> int | None:
    """Seeds of each optimizer that show `difference` with probability `power`; None when no sensible number does.

    Args:
        sd_df: see `power_of`.
    """
    if not (math.isfinite(difference) and 0 < sd < math.inf) or difference == 0:
        return None
    effect = difference / sd

    def enough(n: int) -> bool:
        return power_of(effect, n, paired=paired, level=level, sd_df=sd_df) >= power

    high = 2
    while not enough(high):
        high *= 2
        if high > MOST_SEEDS:
            return None
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
