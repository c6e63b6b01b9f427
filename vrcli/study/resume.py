"""Going on with a stored run that was interrupted, under its own number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vrcli.errors import UsageError
from vrcli.execute import again as execute_again
from vrcli.execute.checkpoints import Checkpoints
from vrcli.search.definition import code_changes
from vrcli.study.again import check_ended, requested

if TYPE_CHECKING:
    from vrcli.execute.again import StoredRun
    from vrcli.execute.run import Watcher
    from vrcli.search.record import Store


def resume(
    store: Store,
    ref: str | None,
    *,
    checkpoints: Checkpoints,
    watcher: Callable[[Mapping[str, str]], Watcher],
    notice: Callable[[str], object],
    data_dir: Path | None = None,
) -> StoredRun:
    """Go on with a run from its last checkpoint.

    Args:
        ref: its number or name; None for the newest one that was interrupted.
        watcher: makes what sees the run, of the origins of its optimizer's settings.

    Returns:
        The closed row.

    Raises:
        UsageError: it has come to its end, goes on, or began with other code or data; or there is none.
        StoreError: another process was quicker.
        UnknownTask: its task is not installed.
    """
    stored = _newest(store) if ref is None else store.runs.get(ref)
    _check(store, stored)
    tuned = execute_again.tune_memory(stored)  # before torch is imported

    from vrcli.execute.run import execute
    from vrcli.execute.stopping import stop_requests

    task, request, origins = requested(store, stored)
    if found := code_changes(stored.spec.get("code") or {}, request.code):
        raise UsageError(
            f"run {stored.id} began with other code: {', '.join(found)}; vr runs retry {stored.id} begins it again"
        )
    for line in execute_again.machine_changes(stored, request.device):
        notice(line)
    with stop_requests() as should_stop:
        run: StoredRun = execute(
            request, task, store, watcher=watcher(origins), data_dir=data_dir, malloc_tuned=tuned, notice=notice,
            should_stop=should_stop, checkpoints=checkpoints, resume=stored,
        )  # fmt: skip
    return run


def _newest(store: Store) -> StoredRun:
    for run in store.runs.select(status="interrupted", results=()):
        if not _pruned(store, run):
            return run
    raise UsageError(f"{store.label} has no interrupted run; vr runs list shows what it has")


def _pruned(store: Store, run: StoredRun) -> bool:
    return run.trial_id is not None and store.searches.trial(run.trial_id).state == "pruned"


def _check(store: Store, run: StoredRun) -> None:
    """Refuse a run that has come to its end, or goes on."""
    check_ended(run, finished=False)
    if _pruned(store, run):
        raise UsageError(f"run {run.id} was stopped early by its sweep; vr runs retry {run.id} trains it to its end")
