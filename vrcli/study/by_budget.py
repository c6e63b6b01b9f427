"""Performance against tuning budget: what each search had found after some of its trials, on fresh seeds.

A search's own values say little of it: they chose the settings, and each depends on those before it. So the incumbent
after a part of the trials is measured as the winner is: on the same fresh seeds of its replicate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vrcli.execute.job import Job, Lineage
from vrcli.results.types import values_of
from vrcli.search.trials import Trial, best_of
from vrcli.spec import Threads
from vrcli.stats.budget import AfterTrials, after_trials, parts_of
from vrcli.study.jobs import jobs_on
from vrcli.study.results import Arm

if TYPE_CHECKING:
    from vrcli.search.record import Store
    from vrcli.study.comparison import CompareRequest


@dataclass(frozen=True)
class Incumbents:
    """What every arm's search had found after each part of its trials.

    Args:
        arms: in which these trials were searched.
        found: by arm and number of trials; None where none of those completed.
    """

    arms: Sequence[Arm]
    found: Mapping[tuple[int, int], Trial | None]

    @property
    def more(self) -> list[tuple[int, Trial]]:
        """Arms, with trials that are not the winner of an arm and so have no runs on fresh seeds."""
        pairs = {(at, trial.number): trial for (at, _), trial in self.found.items() if trial is not None}
        return [(at, trial) for (at, number), trial in pairs.items() if number != _winner(self.arms[at])]

    @property
    def runs(self) -> int:
        """How many runs measure them."""
        return sum(len(self.arms[at].seeds) for at, _ in self.more)


def incumbents(arms: Sequence[Arm], trials: int) -> Incumbents:
    """The incumbents after a quarter of the trials, half of them and all."""
    found = {
        (at, part): best_of(arm.search.trials[:part], arm.search.definition.direction)
        for at, arm in enumerate(arms) if arm.search for part in parts_of(trials)
    }  # fmt: skip
    return Incumbents(arms, found)


def jobs_of(one: Incumbents, request: CompareRequest, store: Store, threads: Threads) -> list[Job]:
    """The runs that measure incumbents. They belong to their trials: no table takes them for a search's result."""
    tuning = request.tuning
    jobs = []
    for at, trial in one.more:
        arm = one.arms[at]
        assert arm.search is not None
        ids = {stored.number: stored.id for stored in store.searches.trials(arm.search.search_id)}
        lineage = Lineage(request.tag, search_id=arm.search.search_id, trial_id=ids[trial.number])
        jobs += jobs_on(
            arm.seeds, tuning.task, arm.optimizer, tuning.preset, {**arm.settings, **trial.params},
            device=tuning.device, threads=threads, lineage=lineage, reuse="spec",
        )  # fmt: skip
    return jobs


def by_budget(
    one: Incumbents, runs: Sequence[Any], blocks: Mapping[str, Sequence[Sequence[Any]]], request: CompareRequest,
    direction: Any,
) -> dict[str, AfterTrials]:  # fmt: skip
    """Performance against tuning budget by optimizer.

    Args:
        runs: what the jobs came to, in their order.
        blocks: the winners' runs by optimizer and replicate.
    """
    left = iter(runs)
    measured = {(at, trial.number): [next(left) for _ in one.arms[at].seeds] for at, trial in one.more}
    tables: dict[str, dict[int, list[list[float]]]] = {}
    for (at, part), trial in one.found.items():
        arm = one.arms[at]
        if trial is None:  # nothing that it tried had completed
            values = [float("nan")] * len(arm.seeds)
        elif trial.number == _winner(arm):
            values = values_of(blocks[arm.optimizer][arm.replicate], request.metric)
        else:
            values = values_of(measured[at, trial.number], request.metric)
        tables.setdefault(arm.optimizer, {}).setdefault(part, []).append(values)
    return {
        name: after_trials({part: np.array(own) for part, own in table.items()}, direction=direction,
                           level=request.level)
        for name, table in tables.items()
    }  # fmt: skip


def _winner(arm: Arm) -> int:
    return arm.candidates[0].trial.number
