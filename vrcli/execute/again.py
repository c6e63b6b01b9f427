"""What a stored run needs to be trained once more on this machine."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vrcli.engine.allocator import keep_freed_memory
from vrcli.errors import UsageError
from vrcli.tasks.registry import UnknownTask, load

if TYPE_CHECKING:
    from typing import TypeAlias

    from vrcli.db.records import RunRecord
    from vrcli.tasks.base import Task

    StoredRun: TypeAlias = RunRecord


def tune_memory(stored: RunRecord) -> bool:
    """Keep freed memory where the stored run did; before torch is imported."""
    return bool(stored.provenance.get("malloc_tuned", True)) and keep_freed_memory()


def task_of_run(stored: RunRecord) -> type[Task[Any]]:
    """A stored run's task; one that was given as module:Class, or as a class, is found where it was then.

    An installed task may have the name of such a class: the run says where its own was.

    Raises:
        UnknownTask: it is not installed.
    """
    place = stored.provenance.get("task", "")
    installed = None
    with suppress(UnknownTask):
        installed = load(stored.task)
        if place in ("", f"{installed.__module__}:{installed.__qualname__}"):
            return installed
    for word in (place, *stored.provenance.get("argv", [])):
        with suppress(UnknownTask):
            if re.fullmatch(r"[\w.]+:\w+", word) and (found := load(word)).name == stored.task:
                return found
    return installed or load(stored.task)


def device_of_run(stored: RunRecord) -> str:
    """The device that the stored run names, where this machine has it.

    Raises:
        UsageError: it has not, or fewer cores than the run took threads.
    """
    from vrcli.engine.prepare import pick_device

    threads, cores = stored.spec["threads"], os.cpu_count() or 1
    if threads > cores:
        raise UsageError(f"run {stored.id} took {threads} threads; this machine has {cores} cores")
    return pick_device(stored.spec["device"])


def machine_changes(stored: RunRecord, device: str) -> list[str]:
    """In what machine and libraries the stored run differs from one that is made here, as a line."""
    import torch

    from vrcli.engine.provenance import differences

    texts = [f"{name} {text}" for name, text in differences(stored.provenance, torch.device(device)).items()]
    return [f"run {stored.id} was made with {'; '.join(texts)}: that may give other bits"] if texts else []
