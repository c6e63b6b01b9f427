"""The best settings again, on seeds that the search never saw: the figures that reports quote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vrcli.errors import VrError
from vrcli.execute.executor import Executor, run_all
from vrcli.execute.trial import Outcome, TrialJob
from vrcli.study.tune import Sweep, Trial


@dataclass(frozen=True)
class Confirmed:
    """One run with the best settings on a fresh seed."""

    seed: int
    outcome: Outcome


def fresh_seeds(seeds: Sequence[int], count: int) -> list[int]:
    """The first seeds above those of the search: the same for every optimizer, so that the runs pair."""
    return [max(seeds) + 1 + i for i in range(count)]


def confirm(
    sweeps: Sequence[Sweep],
    count: int,
    executor: Executor,
    links: Callable[[Sweep, Trial], Mapping[str, Any]],
    *,
    threads: int,
    ended: Callable[[Sweep, Confirmed], object],
    should_stop: Callable[[], bool],
) -> None:
    """Run every sweep's best settings on `count` fresh seeds; runs that are there already are not repeated.

    Args:
        links: what a sweep's confirming runs belong to, as `Store.runs.begin` takes it.

    Raises:
        Interrupted: `should_stop` said so.
    """
    asked = [
        (sweep, seed, TrialJob(sweep.definition, best.params, [seed], threads, links(sweep, best)))
        for sweep in sweeps
        if (best := sweep.best()) is not None
        for seed in fresh_seeds(sweep.definition.seeds, count)
    ]
    for message in run_all([job for *_, job in asked], executor, should_stop=should_stop, what="confirmation"):
        sweep, seed, _ = asked[message.key]
        if message.kind in ("refused", "edited"):
            raise VrError(f"{sweep.definition.optimizer}: {message.body}")
        outcome = message.body if message.kind == "done" else Outcome("failed", error=str(message.body))
        ended(sweep, Confirmed(seed, outcome))
