"""One optimizer over independent searches: a search is one observation, whatever number of runs stands behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from vrcli.direction import sign_of
from vrcli.stats.decide import centres
from vrcli.stats.inference import Direction, Summary, oriented, summary


def over_searches(values: Sequence[Sequence[float]], *, direction: Direction = "min", level: float = 0.95) -> Summary:
    """Summarise y(k), the mean over the fresh runs of search k; the interval has K - 1 degrees of freedom.

    Once a run diverged there is no mean, as `replicates.compare_replicates` has it: y(k) is the median with diverged
    runs as worst, NaN where most of the search's runs diverged, and `mean`, `sd`, `low` and `high` are NaN. What counts
    as diverged in the summary are searches.

    Args:
        values: by search one value per run, NaN or infinite for one that diverged; searches may differ in their runs.
        direction: which end is worst.
    """
    runs = [oriented(own, direction) for own in values if len(own)]
    whole = all(np.isfinite(own).all() for own in runs)
    centre: Literal["mean", "median"] = "mean" if whole else "median"
    sign = sign_of(direction)
    y = [sign * float(centres(own[None], centre)[0]) for own in runs]
    found = summary([value if math.isfinite(value) else math.nan for value in y], direction=direction, level=level)
    return found if whole else replace(found, mean=math.nan, sd=math.nan, low=math.nan, high=math.nan)
