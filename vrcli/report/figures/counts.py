"""How many runs stand behind each line of a figure, and how many of them diverged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from numpy.typing import ArrayLike

from vrcli.stats.curves import first_lost

Curve: TypeAlias = tuple[ArrayLike, ArrayLike]
Curves: TypeAlias = Sequence[Curve]
#: x and y of each run, by optimizer, by the panel's title.
Panels: TypeAlias = Mapping[str, Mapping[str, Curves]]
#: How many runs ended as diverged, by optimizer, by section: also those whose values stayed finite.
Diverged: TypeAlias = Mapping[str, Mapping[str, int]]
#: What a legend means by it.
LOST = "lost means diverged"


def counted_runs(panels: Panels, diverged: Mapping[str, int]) -> dict[str, str]:
    """Runs of each optimizer, and how many of them were lost: "5", "5, 1 lost"."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(name for panel in panels.values() for name in panel):
        mine = [panel[name] for panel in panels.values() if name in panel]
        lost = max(lost_of(curves, diverged.get(name, 0)) for curves in mine)
        found[name] = f"{max(map(len, mine))}{f', {lost} lost' if lost else ''}"
    return found


def lost_of(curves: Curves, diverged: int) -> int:
    """Runs that diverged: at least those with a value that is not finite."""
    return max(diverged, sum(first_lost(curve) is not None for curve in curves))


def legend_labels(counts: Mapping[str, Mapping[str, str]]) -> dict[str, str] | None:
    """Legend entries with the number of runs; None where that differs between sections and must stand there."""
    found: dict[str, set[str]] = {}
    for by_name in counts.values():
        for name, count in by_name.items():
            found.setdefault(name, set()).add(count)
    if any(len(seen) > 1 for seen in found.values()):
        return None
    return {name: f"{name} (n = {seen.pop()})" for name, seen in found.items()}
