"""The best settings again, on seeds that the search never saw: the figures that reports quote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vrcli.errors import VrError
from vrcli.sweep.controller import PATIENCE_S, Interrupted, Sweep, Trial
from vrcli.sweep.executor import Executor
from vrcli.sweep.trial import Outcome, TrialJob


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
        links: what a sweep's confirming runs belong to, as `Store.begin_run` takes it.

    Raises:
        Interrupted: `should_stop` said so.
    """
    waiting = [
        (sweep, seed, best)
        for sweep in sweeps
        if (best := sweep.best()) is not None
        for seed in fresh_seeds(sweep.definition.seeds, count)
    ]
    running: dict[int, tuple[Sweep, int]] = {}
    key = 0
    while waiting or running:
        if should_stop():
            executor.close(patience_s=PATIENCE_S)
            raise Interrupted("the confirmation was interrupted; the same command goes on with it")
        while waiting and executor.free() > 0:
            sweep, seed, best = waiting.pop(0)
            key += 1
            running[key] = (sweep, seed)
            executor.submit(key, TrialJob(sweep.definition, best.params, [seed], threads, links(sweep, best)))
        for message in executor.receive(0.2):
            if message.kind == "note":
                continue
            sweep, seed = running.pop(message.key)
            if message.kind == "refused":
                raise VrError(f"{sweep.definition.optimizer}: {message.body}")
            outcome = message.body if message.kind == "done" else Outcome("failed", error=str(message.body))
            ended(sweep, Confirmed(seed, outcome))
