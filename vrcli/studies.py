"""Study files in Python: what `vr study` does, as functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vrcli.db.location import Location
from vrcli.following import follow

if TYPE_CHECKING:
    from vrcli.execute.place import Place
    from vrcli.outcomes import StudyOutcome
    from vrcli.plan_outcomes import StudyPlanOutcome
    from vrcli.study.files.scaled import Scaled

__all__ = ["plan_study", "read_study", "study"]


def study(
    name: str | os.PathLike[str],
    *,
    scale: str = "full",
    only: str | Sequence[str] = (),
    dataset: Mapping[str, str] | None = None,
    jobs: int = 1,
    device: str | None = None,
    threads: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    db: str | os.PathLike[str] | Location | None = None,
    checkpoint_every: str = "60s",
    checkpoint_dir: str | os.PathLike[str] | None = None,
    malloc_tuning: bool = True,
    watch: Callable[[Any], object] | None = None,
) -> StudyOutcome:
    """Run a whole experiment that is written down in a file. This is `vr study run`.

    The same call again goes on where it was interrupted, and runs nothing twice.

    Args:
        name: of a study that ships with vr, as vradam/table1, or the path of a file.
        scale: named reduction in the file; full runs it as it is written.
        only: parts; all by default.
        dataset: folders to read instead of data sets: `{"cifar10": "data/cifar10"}`.
        jobs: runs at the same time; the threads are divided among them.
        device: auto, cpu, cuda or mps; auto by default.
        threads: CPU threads of all runs together; torch's choice by default, one for each run of short steps.
        data_dir: folder of data sets; the user's cache by default.
        db: a database file, an SQLAlchemy URL or a `Location`; VR_DB or vr.db by default.
        checkpoint_every: how often a run is written down, to go on from there: "60s", "500" (steps) or "off".
        checkpoint_dir: folder for that; VR_CHECKPOINTS or beside the database by default.
        malloc_tuning: the workers keep freed memory (glibc), which makes steps faster.
        watch: gets every event of `vrcli.study.events`; by default a terminal or a notebook shows the progress.

    Raises:
        UsageError: the study has a fault, or cannot be carried out; nothing was recorded.
        Interrupted: Ctrl-C.
    """
    from vrcli.outcomes import StudyOutcome
    from vrcli.study.files.run import run_study

    place = _place(db, data_dir, jobs, threads, malloc_tuning, checkpoint_every, checkpoint_dir)
    found = scaled_study(name, scale, only=only, dataset=dataset, device=device, threads=threads)
    result = follow(lambda stop: run_study(found, place, should_stop=stop), watch, "study")
    return StudyOutcome(place.database, result)


def plan_study(
    name: str | os.PathLike[str],
    *,
    scale: str = "full",
    only: str | Sequence[str] = (),
    dataset: Mapping[str, str] | None = None,
    jobs: int = 1,
    device: str | None = None,
    threads: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    db: str | os.PathLike[str] | Location | None = None,
    malloc_tuning: bool = True,
    watch: Callable[[Any], object] | None = None,
) -> StudyPlanOutcome:
    """What `study` would take: runs, those that are stored, time and memory. This is `vr study plan`; nothing is
    recorded.

    Args:
        name: see `study`, as all others.

    Raises:
        UsageError: the study has a fault, or cannot be carried out.
    """
    from vrcli.plan_outcomes import StudyPlanOutcome
    from vrcli.study.files.run import plan_study as planned
    from vrcli.study.follow import follow as carry_out

    place = _place(db, data_dir, jobs, threads, malloc_tuning, "off", None)
    found = scaled_study(name, scale, only=only, dataset=dataset, device=device, threads=threads)
    result = carry_out(lambda stop: planned(found, place, should_stop=stop), watch or (lambda event: None))
    return StudyPlanOutcome(place.database, result)


def read_study(
    name: str | os.PathLike[str], *, scale: str | None = None, db: str | os.PathLike[str] | Location | None = None
) -> StudyOutcome:
    """What is stored of a study, and what that says. This is `vr study report`.

    Args:
        name: see `study`.
        scale: that of which most runs are stored, by default.
        db: see `study`.

    Raises:
        UsageError: the study has a fault.
        StoreError: there is no such database, or it cannot be read.
    """
    from vrcli.db.store import Store
    from vrcli.outcomes import StudyOutcome
    from vrcli.study.files.check import sound
    from vrcli.study.files.read import find
    from vrcli.study.files.run import read_study as read
    from vrcli.study.files.scaled import scaled

    location, written = Location.given(db), sound(find(os.fspath(name)))
    with Store.open(location, mode="read") as store:
        names = [scale] if scale is not None else list(written.study.scale_names)
        results = [read(scaled(written, one), store) for one in names]
    most = max(results[::-1], key=lambda one: sum(found.done for found in one.found.values()))  # the full one wins ties
    return StudyOutcome(location, most)


def scaled_study(
    name: str | os.PathLike[str], scale: str = "full", *, only: str | Sequence[str] = (),
    dataset: Mapping[str, str] | None = None, device: str | None = None, threads: int | None = None,
) -> Scaled:  # fmt: skip
    """A study at a scale, checked.

    Raises:
        UsageError: it has a fault, or no such scale, part or data set.
    """
    from vrcli.execute.lookup import device_of
    from vrcli.study.files.check import sound
    from vrcli.study.files.read import find
    from vrcli.study.files.scaled import scaled

    parts = [only] if isinstance(only, str) else only
    where = device_of(device or "auto")
    return scaled(sound(find(os.fspath(name))), scale, only=parts, device=where, threads=threads, datasets=dataset)


def _place(
    db: str | os.PathLike[str] | Location | None, data_dir: str | os.PathLike[str] | None, jobs: int,
    threads: int | None, tune: bool, checkpoint_every: str, checkpoint_dir: str | os.PathLike[str] | None,
) -> Place:  # fmt: skip
    from vrcli.execute.place import Place

    return Place.of(db, data_dir, jobs, threads, tune, checkpoint_every, checkpoint_dir)
