"""How many runs stand behind each line of a figure, and how many of them diverged."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeAlias

from numpy.typing import ArrayLike

from vrcli.report.figures.style import Series
from vrcli.results.types import Run
from vrcli.stats.curves import first_nonfinite

Curve: TypeAlias = tuple[ArrayLike, ArrayLike]
Curves: TypeAlias = Sequence[Curve]
#: x and y of each run, by line, by the panel's metric.
Panels: TypeAlias = Mapping[str, Mapping[Series, Curves]]
#: What each curve is a repetition of, by line, by the panel's metric.
Units: TypeAlias = Mapping[str, Mapping[Series, Sequence[Hashable]]]
#: How many runs ended as diverged, by line, by section: also those whose values stayed finite.
Diverged: TypeAlias = Mapping[str, Mapping[Series, int]]


def diverged_runs(sections: Mapping[str, Mapping[Series, Sequence[Run]]]) -> dict[str, dict[Series, int]]:
    """How many of the runs of each line diverged, by section."""
    return {
        section: {series: sum(run.status == "diverged" for run in runs) for series, runs in lines.items()}
        for section, lines in sections.items()
    }


def counted_runs(panels: Panels, diverged: Mapping[Series, int], units: Units | None = None) -> dict[Series, str]:
    """Runs of each line, and how many of them diverged: "5", "5, 1 diverged"; of several searches "3 x 5"."""
    found: dict[Series, str] = {}
    for name in dict.fromkeys(name for panel in panels.values() for name in panel):
        mine = [panel[name] for panel in panels.values() if name in panel]
        n_diverged = max(diverged_of(curves, diverged.get(name, 0)) for curves in mine)
        count = max(map(len, mine))
        searches = max((len(set(own[name])) for own in (units or {}).values() if name in own), default=1)
        runs = f"{count}" if searches == 1 else f"{searches} x {count // searches}"
        if count % searches:
            runs = f"{count} in {searches} searches"
        found[name] = f"{runs}{f', {n_diverged} diverged' if n_diverged else ''}"
    return found


def diverged_of(curves: Curves, diverged: int) -> int:
    """Runs that diverged: at least those with a value that is not finite."""
    return max(diverged, sum(first_nonfinite(curve) is not None for curve in curves))


def legend_labels(counts: Mapping[str, Mapping[Series, str]]) -> dict[Series, str] | None:
    """Legend entries with the number of runs; None where that differs between sections and must stand there."""
    found: dict[Series, set[str]] = {}
    for by_series in counts.values():
        for series, count in by_series.items():
            found.setdefault(series, set()).add(count)
    if any(len(seen) > 1 for seen in found.values()):
        return None
    return {series: f"{series.label} (n = {seen.pop()})" for series, seen in found.items()}
