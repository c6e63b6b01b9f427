"""Training a stored run's spec once more, and comparing what comes of it with what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError
from vrcli.execute import again as execute_again
from vrcli.execute.job import Lineage
from vrcli.results.diff import RunDifference, compare
from vrcli.results.groups import FINISHED
from vrcli.results.single import curves_of
from vrcli.search.definition import code_changes

if TYPE_CHECKING:
    from vrcli.execute.again import StoredRun
    from vrcli.execute.run import Watcher
    from vrcli.search.record import Store
    from vrcli.spec import Request

#: What the spec of a run must say to be trained again; those of old versions may not.
NEEDED = ("task_settings", "training", "optimizer_settings", "device", "threads")


@dataclass(frozen=True)
class Again:
    """A run that was trained again.

    Args:
        difference: of the new run from the stored one.
    """

    stored: StoredRun
    run: StoredRun
    difference: RunDifference

    @property
    def compares(self) -> bool:
        """Whether the stored run had any curve to compare with."""
        return any(curve.points[0] for curve in self.difference.computed())


def again(
    store: Store,
    ref: str,
    *,
    retry: bool,
    watcher: Callable[[Mapping[str, str]], Watcher],
    notice: Callable[[str], object],
    data_dir: Path | None = None,
) -> Again:
    """Train a stored run's spec once more, as a new run with the same tag.

    Args:
        retry: it failed or was interrupted; the new run has its group, too.
        watcher: makes what sees the run, of the origins of its optimizer's settings.

    Raises:
        UsageError: the run goes on, or has come to its end, or this version or machine cannot train it.
        UnknownTask: its task is not installed.
    """
    stored = store.runs.get(ref)
    check_ended(stored, finished=not retry)
    tuned = execute_again.tune_memory(stored)  # before torch is imported

    from vrcli.execute.run import execute
    from vrcli.execute.stopping import stop_requests
    from vrcli.probing import Probing

    task, request, origins = requested(store, stored)
    for line in [*_code_changes(stored, request.code), *execute_again.machine_changes(stored, request.device)]:
        notice(line)
    if not request.training.end.repeatable:
        notice(f"run {stored.id} ended after a time (--until {request.training.until}): this ends at another step")
    with stop_requests() as should_stop:
        run = execute(
            request, task, store, watcher=watcher(origins), data_dir=data_dir, malloc_tuned=tuned, notice=notice,
            should_stop=should_stop, lineage=Lineage(stored.tag, stored.group if retry else None),
            probing=Probing.stored(stored.provenance),
        )  # fmt: skip
    if run.dataset_fingerprint != stored.dataset_fingerprint:
        notice(f"the data differ: {run.dataset_fingerprint} instead of {stored.dataset_fingerprint}")
    return Again(stored, run, compare(stored, run, curves_of(store, stored), curves_of(store, run)))


def by_script(spec: Mapping[str, Any]) -> bool:
    """Whether a script recorded the run, whose loop it has."""
    return "script" in spec.get("code", {}) or spec.get("training", {}).get("until") == "scripts:1"


def lacking(spec: Mapping[str, Any]) -> list[str]:
    """What the spec of an old version does not say, and training it again needs."""
    return [name for name in NEEDED if name not in spec]


def requested(store: Store, stored: StoredRun) -> tuple[type[Any], Request, dict[str, str]]:
    """What trains a stored run: its task, what is asked for, and the origins of its optimizer's settings.

    Raises:
        UsageError: this version or machine cannot train it.
        UnknownTask: its task is not installed.
    """
    from vrcli.execute.replay import with_rates
    from vrcli.settings import differing_settings, request_again

    if by_script(stored.spec):
        raise UsageError(f"a script recorded run {stored.id}; run the script again (run.restore() continues it)")
    if missing := lacking(stored.spec):
        raise UsageError(f"run {stored.id} cannot be trained by this version: {', '.join(missing)} not recorded")
    task, device = execute_again.task_of_run(stored), execute_again.device_of_run(stored)
    request = request_again(stored.spec, task, device, f"run {stored.id}")
    return task, with_rates(request, store, stored), dict.fromkeys(differing_settings(request, task), "stored")


def check_ended(record: StoredRun, *, finished: bool) -> None:
    """Refuse a run that goes on.

    Args:
        finished: one that has come to its end will do.
    """
    if record.status == "running":
        raise UsageError(f"run {record.id} is still running (pid {record.pid} on {record.host})")
    if not finished and record.status in FINISHED:
        raise UsageError(f"run {record.id} {record.status}; vr runs rerun {record.id} trains it again")


def _code_changes(stored: StoredRun, now: Mapping[str, str]) -> list[str]:
    code = stored.spec.get("code")
    if not code:
        return [f"run {stored.id} does not say which code it ran; this may be other code"]
    found = code_changes(code, now)
    return [f"{', '.join(found)}: other code may give other numbers"] if found else []
