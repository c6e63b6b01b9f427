"""What a search costs per trial: ask and tell, at different numbers of stored trials."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

from vrcli.tasks.space import Categorical, Integer, Real, Space

#: A space as an optimizer has it: a learning rate, a real, a whole number and a switch.
SPACE: Space = {
    "lr": Real(1e-5, 1e-1, log=True),
    "beta3": Real(0.1, 5.0),
    "lr_cutoff": Integer(5, 30),
    "normgrad": Categorical((True, False)),
    "weight_decay": Real(1e-6, 1e-1, log=True),
}


def rows(
    *, methods: Sequence[str] = ("gp", "forest", "random", "sobol"), sizes: Sequence[int] = (40, 200), rounds: int = 7
) -> list[dict[str, Any]]:
    """Seconds of one ask and one tell, median over rounds, once the library is loaded.

    Args:
        sizes: trials told before.
        rounds: asks that are timed; each is told before the next, as in a sweep.
    """
    from vrcli.search.search import Search

    found = []
    for method in methods:
        for size in sizes:
            search, drawn = Search(SPACE, method, 0), Search(SPACE, "random", 1)
            for _ in range(size):
                point = drawn.ask()
                drawn.tell(point, _loss(point))
                search.tell(point, _loss(point))
            search.ask()  # imports, and the first call of everything
            asked, told = [], []
            for _ in range(rounds):
                start = time.perf_counter()
                point = search.ask()
                asked.append(time.perf_counter() - start)
                start = time.perf_counter()
                search.tell(point, _loss(point))
                told.append(time.perf_counter() - start)
            ask_s, tell_s = statistics.median(asked), statistics.median(told)
            found.append({
                "search": method, "trials": size, "ask_ms": 1000 * ask_s, "tell_ms": 1000 * tell_s,
                "per_trial_ms": 1000 * (ask_s + tell_s), "n": rounds,
            })  # fmt: skip
    return found


def _loss(point: Any) -> float:
    """Smooth where it converges, infinite where the learning rate is too large for beta3: like a real search."""
    if point["lr"] * point["beta3"] > 0.1:
        return math.inf
    return float((math.log10(point["lr"]) + 3) ** 2 + 0.1 * (point["beta3"] - 1) ** 2 + 0.05 * point["normgrad"])
