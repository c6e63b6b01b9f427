"""Carrying out a study: every part as `vr compare` would, one after the other, and what it would take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Any

from vrcli.errors import UsageError, VrError
from vrcli.execute.executor import Interrupted
from vrcli.execute.job import Rehearsal
from vrcli.execute.lookup import task_of
from vrcli.execute.place import Place
from vrcli.study.compare import compare
from vrcli.study.comparison import checked
from vrcli.study.define import given_settings
from vrcli.study.events import Event, Finished, PartBegan, PartEnded
from vrcli.study.files.claims import Decided, decided
from vrcli.study.files.scaled import Scaled, ScaledPart, dataset_of
from vrcli.study.files.stored import Found, find_runs
from vrcli.study.jobs import jobs_on
from vrcli.study.sweep import CannotRun, rehearse_job


@dataclass(frozen=True)
class StudyResult:
    """What a study has come to.

    Args:
        found: what is stored, by part.
        failed: why a part has no result, by name.
    """

    study: Scaled
    found: Mapping[str, Found]
    claims: Sequence[Decided]
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_failed(self) -> Mapping[str, str]:
        """The same with the parts in which an optimizer failed."""
        own = {
            name: "; ".join(f"{optimizer}: {why}" for optimizer, why in one.failed.items())
            for name, one in self.found.items() if one.failed
        }  # fmt: skip
        return {**own, **self.failed}


@dataclass(frozen=True)
class PlannedPart:
    """What a part would take.

    Args:
        run_s: seconds of one run, by optimizer; nothing where none was timed.
        memory_bytes: the most that one run took while it was timed.
        about: the data, in one phrase.
        missing: what is to be had before it can run, in one line.
    """

    found: Found
    run_s: Mapping[str, float]
    memory_bytes: float = math.nan
    about: str = ""
    missing: str = ""

    @property
    def left(self) -> Mapping[str, int]:
        """Runs that are not stored, by optimizer."""
        return {name: count - len(self.found.runs.get(name, ())) for name, count in self.found.planned.items()}

    @property
    def left_s(self) -> float:
        """Seconds that those take one after the other; NaN where none was timed."""
        left = {name: count for name, count in self.left.items() if count}
        return sum(count * self.run_s.get(name, math.nan) for name, count in left.items())


@dataclass(frozen=True)
class StudyPlan:
    """What a study would take.

    Args:
        jobs: runs at the same time.
    """

    study: Scaled
    parts: Sequence[PlannedPart]
    jobs: int

    @property
    def left_s(self) -> float:
        """Seconds until all is done."""
        return sum(one.left_s for one in self.parts) / self.jobs


def run_study(study: Scaled, place: Place, *, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Every part's comparison. A part that fails costs no other its result; what is stored is not run again.

    Raises:
        UsageError: a part cannot be carried out; nothing was run.
        Interrupted: `should_stop` said so.
    """
    for part in study.parts:
        _checked(part)
    failed: dict[str, str] = {}
    for number, part in enumerate(study.parts, 1):
        yield PartBegan(part.name, number, len(study.parts))
        try:
            own = replace(place, probing=part.probing)
            for event in compare(part.request, own, should_stop=should_stop):
                if not isinstance(event, Finished):
                    yield event
        except Interrupted:
            raise
        except VrError as error:
            failed[part.name] = _with_data(study, part, place, str(error))
        yield PartEnded(part.name, failed.get(part.name, ""))
    with place.stored() as store:
        yield Finished(read_study(study, store, failed))


def read_study(study: Scaled, store: Any, failed: Mapping[str, str] | None = None) -> StudyResult:
    """What is stored of a study, and what that says.

    Args:
        store: None where there is no database.
        failed: why a part that was to run has no result.
    """
    found = {part.name: find_runs(store, part) for part in study.parts}
    return StudyResult(study, found, decided(study, found, store), failed or {})


def plan_study(study: Scaled, place: Place, *, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """What a study would take: a few steps of every optimizer are timed, and nothing is stored.

    Raises:
        UsageError: a part cannot be carried out.
    """
    for part in study.parts:
        _checked(part)
    planned = []
    with place.stored() as store:
        found = [find_runs(store, part) for part in study.parts]
    with ExitStack() as stack:
        executors: dict[str, Any] = {}  # by what is measured: a worker knows one set of probes
        for part, one in zip(study.parts, found, strict=True):
            if (key := repr(part.probing)) not in executors:
                own = replace(place, probing=part.probing)
                executors[key] = stack.enter_context(closing(own.executor()))
            planned.append(_planned(study, part, one, place, executors[key], should_stop))
            yield PartEnded(part.name)
    yield Finished(StudyPlan(study, planned, place.jobs))


def _checked(part: ScaledPart) -> None:
    try:
        checked(part.request)
    except UsageError as error:
        raise UsageError(f"{part.name}: {error}") from None


def _planned(
    study: Scaled, part: ScaledPart, found: Found, place: Place, executor: Any, should_stop: Callable[[], bool]
) -> PlannedPart:
    if missing := missing_data(study, part, place):
        return PlannedPart(found, {}, missing=missing)
    tuning = part.request.tuning
    timed: dict[str, Rehearsal] = {}
    for name, settings in given_settings(task_of(tuning.task), tuning).items():
        (job,) = jobs_on(
            tuning.seeds[:1], tuning.task, name, tuning.preset, settings, device=tuning.device,
            threads=place.threads_each, rehearse=True,
        )  # fmt: skip
        try:
            timed[name] = rehearse_job(job, executor, should_stop, "study")
        except CannotRun as error:
            found = replace(found, failed={**found.failed, name: error.reason})
    memory = max((one.memory_bytes for one in timed.values()), default=math.nan)
    about = next((one.about for one in timed.values()), "")
    return PlannedPart(found, {name: one.run_s for name, one in timed.items()}, memory, about)


# -- data that must be had --------------------------------------------------------------------------------------------


def missing_data(study: Scaled, part: ScaledPart, place: Place) -> str:
    """What is to be downloaded for a part, how large it is and where it goes; empty where it is there."""
    name = dataset_of(part.request)
    data, folder = study.study.data.get(name), place.data_folder
    if data is None or (folder / data.path).exists():
        return ""
    return (
        f"{name} is not in {folder}: download {data.download} ({data.size_mb:g} MB), which gives {data.path} there; "
        f"--data-dir names another folder, --dataset {name}=FOLDER reads data of your own"
    )


def _with_data(study: Scaled, part: ScaledPart, place: Place, reason: str) -> str:
    """Why a part failed, with what is to be had for it where that is why."""
    missing = missing_data(study, part, place)
    return f"{missing} ({reason})" if missing else reason
