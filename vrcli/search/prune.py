"""Early stopping of hopeless trials: what a trial must have reached after which epoch.

The limits of a trial follow from the finished trials alone and are known when it starts, so that a repeated sweep stops
the same trials at the same epochs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import accumulate

from vrcli.direction import Direction, cost, sign_of

RULES = ("none", "median", "halving")
#: Halving keeps the best third at each rung, as in asynchronous successive halving (arXiv 1810.05934).
REDUCTION = 3
#: The median rule watches from here on, in shares of the epochs, and once so many trials have been seen.
FIRST_SHARE = 0.2
FIRST_TRIALS = 4


def limits(
    rule: str, finished: Sequence[Sequence[float]], epochs: int, direction: Direction = "min"
) -> Mapping[int, float]:
    """The worst value of the objective, by epoch, with which a trial goes on; its best so far is what counts.

    Args:
        rule: "none", "median" (not worse than the median of the others at that epoch) or "halving" (in the best third
            at epochs/9 and epochs/3).
        finished: the objective on validation, per epoch, of the trials that completed or were stopped by a rule.
    """
    best = [list(accumulate((cost(value, direction) for value in values), min)) for values in finished]
    found: dict[int, float] = {}
    for epoch in _checked(rule, epochs):
        reached = sorted(curve[epoch - 1] for curve in best if len(curve) >= epoch)
        if rule == "median" and len(reached) >= FIRST_TRIALS:
            found[epoch] = statistics.median(reached)
        elif rule == "halving" and len(reached) >= REDUCTION:
            found[epoch] = reached[math.ceil(len(reached) / REDUCTION) - 1]
    return {epoch: sign_of(direction) * limit for epoch, limit in found.items()}


def _checked(rule: str, epochs: int) -> Sequence[int]:
    if rule == "median":
        return range(max(1, math.ceil(FIRST_SHARE * epochs)), epochs)
    if rule == "halving":
        rungs = {math.ceil(epochs / REDUCTION**2), math.ceil(epochs / REDUCTION)}
        return sorted(rung for rung in rungs if rung < epochs)
    return ()
