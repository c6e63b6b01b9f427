"""How small a difference a number of seeds can show, and how many seeds a difference needs."""

from __future__ import annotations

import math

from scipy import special

from vrcli.stats.inference import t_quantile

#: Probability with which a "detectable" difference is found; the field's usual choice.
POWER = 0.8
#: Beyond this the answer is "more seeds than anybody runs".
MOST_SEEDS = 10_000


def power_of(effect: float, n: int, *, paired: bool, level: float = 0.95) -> float:
    """Probability that a two-sided t test finds a difference.

    Args:
        effect: true difference over the standard deviation: of the paired differences, or within each sample.
        n: seeds of each optimizer.
    """
    if n < 2:
        return 0.0
    df = n - 1 if paired else 2 * n - 2
    # The square of a noncentral t is a noncentral F, whose distribution function is the more robust of the two.
    noncentrality = effect**2 * (n if paired else n / 2)
    missed = float(special.ncfdtr(1, df, noncentrality, t_quantile(df, level) ** 2))
    # It answers NaN where the probability of a miss underflows.
    return 1 - (0.0 if math.isnan(missed) else missed)


def detectable_difference(sd: float, n: int, *, paired: bool, level: float = 0.95, power: float = POWER) -> float:
    """The smallest true difference that n seeds show with probability `power`; NaN below two seeds."""
    if n < 2 or not math.isfinite(sd):
        return math.nan
    from scipy import optimize

    high = 1.0
    while power_of(high, n, paired=paired, level=level) < power:
        high *= 2
    effect = optimize.brentq(lambda e: power_of(e, n, paired=paired, level=level) - power, 0.0, high, xtol=1e-10)
    return float(effect) * sd


def seeds_needed(
    difference: float, sd: float, *, paired: bool, level: float = 0.95, power: float = POWER
) -> int | None:
    """Seeds of each optimizer that show `difference` with probability `power`; None when no sensible number does."""
    if not (math.isfinite(difference) and math.isfinite(sd)) or difference == 0:
        return None
    if sd == 0:
        return 2
    effect = difference / sd

    def enough(n: int) -> bool:
        return power_of(effect, n, paired=paired, level=level) >= power

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
