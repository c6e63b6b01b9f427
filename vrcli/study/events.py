"""What happens in a study, as it happens: facts, which whoever watches puts into words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from vrcli.study.results import CompareResult, Result, SweepResult

if TYPE_CHECKING:
    from vrcli.search.definition import Definition
    from vrcli.search.record import Store
    from vrcli.search.trials import Trial


@dataclass(frozen=True)
class Note:
    """Something done on the user's behalf, or to know.

    Args:
        kind: what it is about.
        facts: "database" and "data": the `text`; "superseded": the stored `search`
            (`vrcli.search.record.Superseded`); "code unknown": the `sweep_id`; "unequal budgets": the `result` (a
            `SweepResult`); "equal": the `settings` that alone are searched.
    """

    kind: Literal["database", "data", "superseded", "code unknown", "unequal budgets", "equal"]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class PlanMade:
    """What is searched, before it begins.

    Args:
        trials: of each search, in all.
        about: the data, in one phrase.
        run_s: estimate of one run's seconds, by optimizer; nothing where no run was timed.
    """

    definitions: tuple[Definition, ...]
    trials: int
    about: str
    run_s: Mapping[str, float]
    jobs: int


@dataclass(frozen=True)
class SearchBegan:
    """A stored search is taken up.

    Args:
        search: its place among those of this command.
        trials: those that are stored.
    """

    search: int
    sweep_id: int
    search_id: int
    name: str
    definition: Definition
    total: int
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class TrialStarted:
    """A trial begins to run."""

    search: int
    trial: Trial


@dataclass(frozen=True)
class TrialEpoch:
    """A run of a trial has come to the end of an epoch.

    Args:
        loss: on the validation split.
    """

    search: int
    number: int
    epoch: int
    loss: float


@dataclass(frozen=True)
class TrialEnded:
    """A trial has ended."""

    search: int
    trial: Trial


@dataclass(frozen=True)
class SearchEnded:
    """A search has nothing more to do.

    Args:
        exhausted: see `SearchResult`.
    """

    search: int
    exhausted: str = ""


@dataclass(frozen=True)
class RunsPlanned:
    """So many runs follow.

    Args:
        what: the best trials again on seeds that did not find them, chosen settings on fresh seeds, or on the same
            seeds what a search had found before its last trial.
        metric: the result that a comparison is about.
    """

    total: int
    what: Literal["rerank", "fresh", "budget"] = "fresh"
    metric: str = ""


@dataclass(frozen=True)
class RunBegan:
    """A run of this process begins; what its engine tells (`vrcli.engine.events`) follows as it is.

    Args:
        run: its row in the database.
        prepared: its spec, task, data and model (`vrcli.engine.prepare.Prepared`).
        origins: where each setting's value comes from.
    """

    run: Any
    prepared: Any
    origins: Mapping[str, str]


@dataclass(frozen=True)
class RunStarted:
    """A run on a fresh seed begins."""

    optimizer: str
    seed: int


@dataclass(frozen=True)
class RunEnded:
    """A run has ended: one on a fresh seed, or one that was asked for by itself.

    Args:
        job: its place among the runs of this command.
        run: None where its process died, or it was refused.
        reused: the run was stored already.
        problem: why there is no run, or "edited", with the reason.
    """

    job: int
    optimizer: str
    seed: int
    run: Any = None
    reused: bool = False
    problem: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Tick:
    """Time has passed while jobs run."""


@dataclass(frozen=True)
class Tuned:
    """The searches of a comparison have ended."""

    result: SweepResult


@dataclass(frozen=True)
class TaskBegan:
    """The comparison on one of several tasks begins.

    Args:
        number: of it, from 1.
    """

    task: str
    number: int
    tasks: int


@dataclass(frozen=True)
class TaskEnded:
    """The comparison on one of several tasks has ended.

    Args:
        result: None where it failed.
        reason: why, in one line.
    """

    task: str
    result: CompareResult | None
    reason: str = ""


@dataclass(frozen=True)
class PartBegan:
    """A part of a study begins.

    Args:
        number: of it, from 1.
    """

    part: str
    number: int
    parts: int


@dataclass(frozen=True)
class PartEnded:
    """A part of a study has ended.

    Args:
        reason: why it has no result, in one line; empty where it has.
    """

    part: str
    reason: str = ""


@dataclass(frozen=True)
class Finished:
    """The last event.

    Args:
        result: of a study file `vrcli.study.files.run.StudyResult`, or its plan.
    """

    result: Result | Any


Event: TypeAlias = (
    Note | PlanMade | SearchBegan | TrialStarted | TrialEpoch | TrialEnded | SearchEnded | RunsPlanned | RunBegan
    | RunStarted | RunEnded | Tick | Tuned | TaskBegan | TaskEnded | PartBegan | PartEnded | Finished
)  # fmt: skip


def notes_of(store: Store) -> Iterator[Note]:
    """What opening the database did on the user's behalf."""
    for text in store.notices:
        yield Note("database", {"text": text})
