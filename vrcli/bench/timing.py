"""Side-by-side timing: variants alternate within one process, so that a drifting machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    """Seconds of each variant, one value per round; the i-th values of all variants were taken next to each other."""

    seconds: Mapping[str, list[float]]

    def median_s(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, base: str) -> float:
        """Median over rounds of time(name) / time(base): above 1 means `name` is slower."""
        return statistics.median(a / b for a, b in zip(self.seconds[name], self.seconds[base], strict=True))

    def ratio_range(self, name: str, base: str) -> tuple[float, float]:
        """The quartiles of the same ratio: how steady the machine was."""
        ratios = sorted(a / b for a, b in zip(self.seconds[name], self.seconds[base], strict=True))
        quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
        return quartiles[0], quartiles[2]


def alternate(
    variants: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 2,
    inner: int = 1,
    synchronize: Callable[[], object] = lambda: None,
) -> Timings:
    """Time every variant once per round, starting each round with another variant.

    Args:
        rounds: values per variant.
        warmup: calls of each variant before the first round, not counted.
        inner: calls per value, for functions shorter than the clock's resolution.
        synchronize: waits for queued device work; called before each reading of the clock.
    """
    names = list(variants)
    for name in names:
        for _ in range(warmup):
            variants[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            call = variants[name]
            synchronize()
            start = time.perf_counter()
            for _ in range(inner):
                call()
            synchronize()
            seconds[name].append((time.perf_counter() - start) / inner)
    return Timings(seconds)
