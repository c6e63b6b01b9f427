"""What a study has come to: plain values, which reports put into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:  # a run alone needs no scipy
    from vrcli.results.types import Run
    from vrcli.search.definition import Definition
    from vrcli.search.trials import Trial
    from vrcli.stats.across_tasks import AcrossTasks, Ranks
    from vrcli.stats.budget import AfterTrials, ToTarget
    from vrcli.stats.comparison import Comparison
    from vrcli.stats.replicates import Comparison as Replicated


@dataclass(frozen=True)
class TrainResult:
    """What the runs of one command have come to.

    Args:
        seeds: those that were asked for; fewer have run where somebody interrupted.
        runs: in the order of their seeds.
        metrics: those of the task that tables show, the objective first.
    """

    seeds: Sequence[int]
    runs: Sequence[Any]
    metrics: Sequence[Any]


@dataclass(frozen=True)
class FreshRun:
    """A run with chosen settings on a seed that did not choose them.

    Args:
        status: of the run; "failed" also where its process died.
        value: its best validation loss.
    """

    seed: int
    status: str
    value: float | None = None
    run_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class SearchResult:
    """What one search has come to.

    Args:
        trials: those that ended, in the order in which they did.
        exhausted: why there is nothing left to try, in one line; empty where there is.
        at_edge: the best settings that lie at an end of what was searched, as "lr=0.1".
        fresh: the runs on fresh seeds that were asked for.
        fresh_stored: how many runs of its settings on fresh seeds there are.
    """

    sweep_id: int
    search_id: int
    name: str
    definition: Definition
    total: int
    trials: tuple[Trial, ...]
    best: Trial | None
    exhausted: str = ""
    at_edge: tuple[str, ...] = ()
    fresh: tuple[FreshRun, ...] = ()
    fresh_stored: int = 0


@dataclass(frozen=True)
class SweepResult:
    """What the searches of one command have come to."""

    searches: tuple[SearchResult, ...]


@dataclass(frozen=True)
class PlannedSearch:
    """What a search would do.

    Args:
        stored: how many of its trials have ended.
        trial_s: estimate of one trial's seconds.
    """

    definition: Definition
    stored: int
    trial_s: float


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep would do.

    Args:
        trials: of each search, in all.
        left_s: estimate of the seconds until all have ended.
        about: the data, in one phrase.
    """

    searches: tuple[PlannedSearch, ...]
    trials: int
    jobs: int
    left_s: float
    about: str = ""


@dataclass(frozen=True)
class Candidate:
    """A trial that may be the best of its search.

    Args:
        values: best validation loss on each seed of the re-ranking; NaN for a run that diverged. Nothing where there
            was nothing to choose from.
    """

    trial: Trial
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Arm:
    """The settings of one optimizer in one replicate, and the seeds that they run on.

    Args:
        replicate: from 0.
        settings: by name.
        seeds: fresh ones.
        search: where the settings come from; None for those of the preset.
        candidates: the trials that were re-ranked, the winner first.
    """

    optimizer: str
    replicate: int
    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    search: SearchResult | None = None
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class CompareResult:
    """What a comparison has come to.

    Args:
        metric: the result that the verdict is about.
        trials: of each search; 0 for the preset's settings.
        seeds: how many fresh ones in each replicate.
        search_seed: of the first search.
        arms: replicate by replicate, in each one for every optimizer.
        runs: by optimizer and replicate, in the order of their seeds.
        values: the metric of those; NaN for a run that diverged.
        replicated: what is claimed of optimizers that were searched several times; None where there was one search or
            none.
        comparisons: what is claimed of single settings, where that is so.
        metrics: those of the task that tables show, the objective first.
        reached: how soon each optimizer's runs reached the target, by unit: steps, epochs, gradients, s.
        equal: the settings that alone were searched, by request.
        by_budget: what each optimizer's searches had found after a part of their trials; empty where that was not
            asked for.
        failed: why an optimizer could not be compared, by name; it is in none of the others.
        searchable: whether a search would have something to search.
    """

    task: str
    preset: str
    metric: str
    direction: Literal["min", "max"]
    level: float
    trials: int
    seeds: int
    search_seed: int
    arms: Sequence[Arm]
    runs: Mapping[str, Sequence[Sequence[Run]]]
    values: Mapping[str, Sequence[Sequence[float]]]
    replicated: Replicated | None
    comparisons: Sequence[Comparison]
    tuned: SweepResult | None = None
    metrics: Sequence[Any] = ()
    target: float | None = None
    reached: Mapping[str, Mapping[str, ToTarget]] = field(default_factory=dict)
    equal: Sequence[str] = ()
    by_budget: Mapping[str, AfterTrials] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    searchable: bool = True

    @property
    def searches(self) -> int:
        """Replicates of each optimizer."""
        return len(next(iter(self.runs.values())))

    def of(self, optimizer: str) -> list[Run]:
        """All fresh runs of an optimizer."""
        return [run for own in self.runs[optimizer] for run in own]


@dataclass(frozen=True)
class TasksResult:
    """What a comparison on several tasks has come to.

    Args:
        tasks: the result on each, by name.
        failed: why there is none, by task.
        pairs: the pairs of optimizers over the tasks that have a result; none below two tasks.
        ranks: of the optimizers over those tasks; None where they are too few to claim anything.
        without_ratio: tasks with a value that is not positive: they are in the ranks, and not in the pairs.
    """

    tasks: Mapping[str, CompareResult]
    failed: Mapping[str, str]
    pairs: Sequence[AcrossTasks] = ()
    ranks: Ranks | None = None
    without_ratio: Sequence[str] = ()


Result: TypeAlias = TrainResult | SweepResult | SweepPlan | CompareResult | TasksResult
