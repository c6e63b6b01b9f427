"""What a search budget buys, as rows of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from vrcli.direction import Direction
from vrcli.report.wording import number
from vrcli.stats.budget import best_of_search

#: Numbers of trials that tables quote.
QUOTED_K = (1, 2, 5, 10, 20, 40, 80)


def best_of_k_rows(
    searches: Mapping[str, Sequence[tuple[str, float | None]]], direction: Direction = "min"
) -> list[dict[str, str]]:
    """What to expect of the first k trials of each search, as rows of text that all have the same columns.

    With diverged trials there is no mean, but the median of the best stands for some k. Failed trials are counted
    apart.

    Args:
        searches: state and value of each trial that ended, by name.
    """
    found = {name: best_of_search(trials, direction=direction) for name, trials in searches.items()}
    most = max((one.n for one in found.values() if one), default=0)
    states = {name: Counter(state for state, _ in trials) for name, trials in searches.items()}
    rows = []
    for name, one in found.items():
        row = {"trials": name}
        best = [] if one is None else (one.median if one.diverged else one.expected).tolist()
        row |= {str(k): number(best[k - 1]) if k <= len(best) else "" for k in QUOTED_K if k <= most}
        row["diverged"] = f"{one.diverged}/{one.n}" if one else "-"
        if any(state["pruned"] for state in states.values()):
            row["stopped early"] = str(states[name]["pruned"])
        if any(state["failed"] for state in states.values()):
            row["failed, left out"] = str(states[name]["failed"])
        rows.append(row)
    return rows
