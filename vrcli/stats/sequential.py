"""Planned looks at a growing number of replicates, with the error rate of all looks together kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from vrcli.stats.inference import Array

Boundary: TypeAlias = Literal["obrien-fleming", "pocock"]


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

    def nominal(self, alpha: float) -> tuple[float, ...]:
        """Two-sided p of the t test below which each look decides, so that all together err with `alpha`."""
        raise NotImplementedError

    def spent(self, alpha: float) -> tuple[float, ...]:
        """Share of `alpha` used up to and including each look: the last is alpha."""
        raise NotImplementedError

    def overall(self, p: Array) -> Array:
        """The smallest error rate of all looks at which the looks so far decide.

        Args:
            p: (..., looks so far), two-sided p of the t test at each.

        Returns:
            (...), to be adjusted for several tests and compared with the level like any other p.
        """
        raise NotImplementedError


def planned(searches: int, looks: int = 2, boundary: Boundary = "obrien-fleming") -> Looks:
    """Looks at about equal steps up to a number of searches, none before 2: 5 searches in 2 looks are 3 and 5.

    Raises:
        ValueError: fewer searches than such looks need.
    """
    raise NotImplementedError
