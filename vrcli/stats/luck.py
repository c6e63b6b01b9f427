"""The luck of a search: how much of an optimizer's spread it makes, and what it means for the next experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from vrcli.stats.inference import Array, t_quantile
from vrcli.stats.power import power_of, seeds_needed

#: An interval for a share that leaves out less than this tells nothing.
TELLS = 0.2
#: Runs that a search spends on choosing its winner, beside its trials: the best 3 on 3 seeds.
RERANKING = 9
#: Searches below which no layout is advised: two hardly show a spread.
FEWEST = 3
#: Fresh seeds per search that a layout goes up to.
MOST_SEEDS = 50


@dataclass(frozen=True)
class Luck:
    """The spread of one optimizer's replicates, taken apart.

    Args:
        sigma: standard deviation over fresh runs of one winner; NaN where it cannot be estimated (m = 1, or a run
            diverged). The same holds for all that follows.
        tau: standard deviation over searches of a winner's true value, sqrt(var(y) - sigma^2 / m), at least 0.
        tau_interval: for tau, Williams (1962): at least `level`.
        share: tau^2 / (tau^2 + sigma^2 / m), the share of the variance of y that is luck of the search.
        share_interval: for the share, exact for normal values (F).
        level: of the intervals.
    """

    sigma: float
    tau: float
    tau_interval: tuple[float, float]
    share: float
    share_interval: tuple[float, float]
    level: float

    @property
    def told(self) -> bool:
        """Whether the interval for the share says anything: False means "cannot be told"."""
        return self.share_interval[1] - self.share_interval[0] <= 1 - TELLS

    @property
    def most(self) -> bool:
        """Whether the luck of the search is most of the spread, by the whole interval."""
        return self.share_interval[0] > 0.5

    def best_seeds(self, trials: int, reranking: int = RERANKING) -> float:
        """Fresh seeds per search that tell most for the runs spent, about: (sigma / tau) sqrt(trials + reranking).

        Infinite where no luck of the search was seen; NaN where the spread cannot be taken apart.
        """
        if self.tau == 0:
            return math.inf
        return self.sigma / self.tau * math.sqrt(trials + reranking)


def luck_of(values: Array, level: float = 0.95) -> Luck:
    """Take the spread of replicates apart (balanced one-way layout with random effects).

    Args:
        values: (K, m), all finite for an answer.
    """
    table = np.asarray(values, dtype=np.float64)
    searches, seeds = table.shape
    if searches < 2 or seeds < 2 or not np.isfinite(table).all():
        nan = math.nan
        return Luck(nan, nan, (nan, nan), nan, (nan, nan), level)
    between = float(table.mean(axis=1).var(ddof=1))  # tau^2 + sigma^2 / m
    within = float(table.var(axis=1, ddof=1).mean()) / seeds  # sigma^2 / m
    df, df_within, tail = searches - 1, searches * (seeds - 1), (1 - level) / 2
    lower, upper = special.fdtri(df, df_within, [tail, 1 - tail])
    # between / within = F (1 + m tau^2 / sigma^2), so the share is 1 - F within / between.
    low, high = (_share(between, f * within) for f in (upper, lower))
    # Williams 1962: tau^2 = (between - F within) df / chi2, with F and chi2 at the same end.
    chi2_high, chi2_low = special.chdtri(df, [tail, 1 - tail])
    return Luck(
        sigma=math.sqrt(within * seeds),
        tau=math.sqrt(max(0.0, between - within)),
        tau_interval=(
            math.sqrt(max(0.0, between - upper * within) * df / chi2_high),
            math.sqrt(max(0.0, between - lower * within) * df / chi2_low),
        ),
        share=_share(between, within),
        share_interval=(low, high),
        level=level,
    )


def _share(between: float, luck_of_seeds: float) -> float:
    return max(0.0, float(1 - luck_of_seeds / between)) if between else math.nan


@dataclass(frozen=True)
class Layout:
    """A size for the next experiment.

    Args:
        searches: K, per optimizer.
        seeds: m, fresh runs per search.
        runs: all runs of one optimizer: K (trials + reranking + m).
        power: probability that it shows the difference it was made for.
    """

    searches: int
    seeds: int
    runs: int
    power: float


def next_layout(
    difference: float,
    sigma: float,
    tau: float,
    *,
    trials: int,
    reranking: int = RERANKING,
    tests: int = 1,
    level: float = 0.95,
    sd_df: float | None = None,
) -> Layout | None:
    """The cheapest K x m that shows a true difference with probability 0.8; None where no sensible one does.

    Args:
        difference: of two optimizers, in units of the metric.
        sigma: standard deviation over runs of one winner; of one optimizer where both are alike, else the root mean
            square of the two.
        tau: standard deviation over searches, likewise.
        trials: of each search.
        tests: that the comparison will make.
        sd_df: degrees of freedom behind sigma and tau where they are estimates, see `power.power_of`.
    """
    found: list[Layout] = []
    strictest = 1 - (1 - level) / tests
    for seeds in range(1, MOST_SEEDS + 1):
        sd = math.sqrt(2 * (tau**2 + sigma**2 / seeds))  # of the difference of two optimizers in one replicate
        searches = seeds_needed(difference, sd, paired=True, level=strictest, sd_df=sd_df)
        if searches is None:
            continue
        searches = max(searches, FEWEST)
        power = power_of(difference / sd, searches, paired=True, level=strictest, sd_df=sd_df) if sd else 1.0
        found.append(Layout(searches, seeds, searches * (trials + reranking + seeds), power))
    return min(found, key=lambda layout: layout.runs, default=None)


def tipping_point(difference: float, error: float, df: float, level: float = 0.95) -> float:
    """Luck of the search (sd) beyond which a difference found with one search each would not be significant.

    tau* = sqrt(((difference / t)^2 - error^2) / 2): with that much luck in both tuned losses the interval would just
    reach 0.

    Args:
        error: standard error of the difference over fresh seeds.
        df: of that error.
        level: 1 - the level at which the difference was tested.

    Returns:
        0 where the difference is not significant; NaN where it was not tested.
    """
    if math.isnan(difference * error * df * level):
        return math.nan
    return math.sqrt(max(0.0, ((difference / t_quantile(df, level)) ** 2 - error**2) / 2))
