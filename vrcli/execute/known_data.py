"""What data a request leads to, known without loading them: from files that have not changed since they were loaded.

What a data set turned out to be is kept in the user's cache folder, under a digest of all that decides it: the task
and its settings, the code, the libraries, and the path, size and time of every file that the task reads. A task that
does not say which files it reads is never known.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.leftovers import part_name, remove, remove_leftovers

if TYPE_CHECKING:
    from vrcli.engine.prepare import DataCache, Prepared
    from vrcli.spec import Request
    from vrcli.tasks.base import Task

#: Raised when what is kept, or what it is kept under, changes.
_FORMAT = 1


@dataclass(frozen=True)
class KnownData:
    """What a task's data turned out to be.

    Args:
        samples: of the training set.
        about: one phrase for people.
    """

    dataset: str
    fingerprint: str
    samples: int
    about: str = ""


def known_data(request: Request, task: type[Task[Any]], data_dir: Path | None = None) -> KnownData | None:
    """The data of a request, where they are known and unchanged."""
    place = _place(request, task, data_dir)
    if place is not None:
        with contextlib.suppress(OSError, ValueError, TypeError):  # absent, or of another version
            return KnownData(**json.loads(place.read_text()))
    return None


def prepare_known(
    request: Request,
    task: type[Task[Any]],
    *,
    data_dir: Path | None = None,
    cache: DataCache | None = None,
    notice: Callable[[str], object] = lambda text: None,
) -> Prepared:
    """`vrcli.engine.driven.prepare_any`, whose data are known afterwards."""
    from vrcli.engine.driven import prepare_any

    before = _place(request, task, data_dir)
    ready = prepare_any(request, task, data_dir=data_dir, cache=cache, notice=notice)
    # Files that changed while they were read have a place that says so, and nothing is kept; files that a download
    # made have one only now.
    place = _place(request, task, data_dir)
    if place is not None and (before is None or before == place) and not place.exists():
        data = ready.data
        _keep(place, KnownData(data.dataset, ready.spec.dataset_fingerprint, ready.samples, data.about))
    return ready


def _place(request: Request, task: type[Task[Any]], data_dir: Path | None) -> Path | None:
    """The file that the data of this request are kept in; None where nobody knows which files they are read from."""
    from vrcli.engine.provenance import library_versions
    from vrcli.tasks.images import cache_dir

    if not _speaks_of_its_data(task):
        return None
    files = task(task.Config(**request.task_settings), data_dir=data_dir).files()
    if files is None:
        return None
    code = {part: request.code.get(part) for part in ("engine", "task")}
    facts: list[Any] = [
        _FORMAT,
        request.task,
        request.task_settings,
        request.training.subset,
        code,
        sys.version,
        library_versions(),
        request.device,
    ]
    try:
        for file in files:
            about = file.stat()
            facts.append([str(file.absolute()), about.st_size, about.st_mtime_ns])
    except OSError:
        return None
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()
    return cache_dir() / "known" / f"{digest}.json"


def _speaks_of_its_data(task: type[Task[Any]]) -> bool:
    """Whether `files` belongs to `data`: a class that inherits the one and has another of its own does not."""
    order = {name: next(i for i, cls in enumerate(task.__mro__) if name in vars(cls)) for name in ("files", "data")}
    return order["files"] <= order["data"]


def _keep(place: Path, data: KnownData) -> None:
    """Put in place at once. It only saves time: a full disk or a read-only home must not stop a run."""
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(place.parent)
        part = place.with_name(part_name())
        try:
            part.write_text(json.dumps(asdict(data)))
            os.replace(part, place)
        finally:
            remove(part)
