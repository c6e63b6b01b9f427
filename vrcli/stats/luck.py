"""The luck of a search: how much of an optimizer's spread it makes, and what it means for the next experiment."""

from __future__ import annotations

from dataclasses import dataclass

from vrcli.stats.inference import Array

#: An interval for a share that leaves out less than this tells nothing.
TELLS = 0.2
#: Runs that a search spends on choosing its winner, beside its trials: the best 3 on 3 seeds.
RERANKING = 9


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
        """Fresh seeds per search that tell most for the runs spent: (sigma / tau) sqrt(trials + reranking)."""
        raise NotImplementedError


def luck_of(values: Array, level: float = 0.95) -> Luck:
    """Take the spread of replicates apart (balanced one-way layout with random effects).

    Args:
        values: (K, m), all finite for an answer.
    """
    raise NotImplementedError


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
) -> Layout | None:
    """The cheapest K x m that shows a true difference with probability 0.8; None where no sensible one does.

    Args:
        difference: of two optimizers, in units of the metric.
        sigma: standard deviation over runs of one winner; of one optimizer where both are alike, else the root mean
            square of the two.
        tau: standard deviation over searches, likewise.
        trials: of each search.
        tests: that the comparison will make.
    """
    raise NotImplementedError


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
    raise NotImplementedError
