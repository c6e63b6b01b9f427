"""The learning rates of a stored run, replayed step for step by a run of another optimizer."""

from __future__ import annotations

from array import array
from math import isfinite
from typing import TYPE_CHECKING, Any

from vrcli.db.store import Store, StoreError
from vrcli.errors import UsageError
from vrcli.execute.lookup import curves_of
from vrcli.spec import Rates, Request, RunSpec
from vrcli.tasks.loop import LoopTask

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.tasks.base import Task

#: The curve that is replayed, and the file that keeps it with the run that replays it.
CURVE, FILE = "lr_effective", "lr_from.f64"
#: Under which a run's provenance names the run whose rates it replays.
ORIGIN = "lr_from"
#: Settings of the training that both runs must share, beside the seed, the data and the task's settings. Where a run
#: ends and what it measures may differ, as far as there are rates.
_SHARED = ("batch_size", "grad_clip", "precision", "accumulate_gradients")
_OPTION = "--lr-from"


def source_of(store: Store, ref: int | str, task: type[Task[Any]]) -> tuple[RunRecord, Rates]:
    """A run, and the effective learning rate of each of its steps.

    Raises:
        UsageError: it has not such rates, or this task's steps are not vr's.
    """
    if not isinstance(ref, int | str) or isinstance(ref, bool) or not str(ref).strip():
        raise UsageError(f"must be the number or name of a run, got {ref!r}", _OPTION)
    if issubclass(task, LoopTask):
        raise UsageError(f"{ref}: {task.name} trains in a loop of its own, whose steps vr does not take", _OPTION)
    try:
        run = store.runs.get(ref)
    except StoreError as error:
        raise UsageError(f"{ref}: {error}", _OPTION) from None
    if run.status != "completed":
        raise UsageError(f"{ref}: run {run.id} is {run.status}; give a run that completed", _OPTION)
    if run.settings.get("norm_scope") == "tensor":
        raise UsageError(
            f"{ref}: run {run.id} has a learning rate for each tensor (norm_scope tensor); give a run with one for all",
            _OPTION,
        )
    curve = store.curves.read([run.id], CURVE).get((run.id, CURVE))
    if curve is None or curve.steps != array("q", range(1, len(curve.steps) + 1)):
        raise UsageError(
            f"{ref}: run {run.id} has no learning rate for every step (the curve {CURVE}); give a run that vr trained",
            _OPTION,
        )
    if not all(map(isfinite, curve.values)):
        raise UsageError(f"{ref}: run {run.id} has learning rates that are no finite numbers", _OPTION)
    return run, Rates(run.name, tuple(curve.values))


def replayed(request: Request, run: RunRecord, rates: Rates) -> Request:
    """The request with a run's rates in the place of its own and of its schedule.

    Its `lr` is that of the run, as everywhere the largest rate.

    Raises:
        UsageError: one of the optimizers has no such setting, or the one that follows has a gate of its own.
    """
    if "gate" in (curves_of(request.optimizer) or ()):
        raise UsageError(
            f"{run.id}: {request.optimizer} would lower the rates once more, by its own velocity; give an optimizer "
            "that takes them as they are, such as adamw", _OPTION,
        )  # fmt: skip
    lr = run.spec.get("optimizer_settings", {}).get("lr")
    if lr is None or "lr" not in request.optimizer_settings:
        name = request.optimizer if lr is not None else f"{run.optimizer} of run {run.id}"
        raise UsageError(f"{run.id}: {name} has no setting lr", _OPTION)
    asked = request.with_training(lr_from=f"{run.optimizer}:{run.configuration}", lr_digest=rates.digest)
    return asked.model_copy(update={"optimizer_settings": {**request.optimizer_settings, "lr": lr}, "rates": rates})


def check_same(spec: RunSpec, run: RunRecord) -> None:
    """Refuse a run that differs from the one whose rates it replays in more than the optimizer.

    Raises:
        UsageError: names the first difference.
    """
    where = f"as in run {run.id}"
    if spec.task != run.task:
        raise UsageError(f"{run.id}: run {run.id} is of task {run.task}, not {spec.task}", _OPTION)
    mine, theirs = spec.model_dump(mode="json"), run.spec
    kind, wanted_kind = (str(one.get("device", "cpu")).partition(":")[0] for one in (mine, theirs))
    pairs: list[tuple[str, Any, Any]] = [("seed", mine["seed"], run.seed), ("device", kind, wanted_kind)]
    for section, names in (("task_settings", mine["task_settings"]), ("training", _SHARED)):
        other = theirs.get(section, {})
        pairs += [(name, mine[section][name], other[name]) for name in names if name in other and name != "dataset"]
    for name, own, wanted in pairs:
        if own != wanted:
            flag, (said, got) = name.replace("_", "-"), ("none" if one is None else one for one in (wanted, own))
            more = " (a run of several seeds takes one source each)" if name == "seed" else ""
            raise UsageError(f"{run.id}: --{flag} must be {said}, {where}, got {got}{more}", _OPTION)
    if spec.dataset_fingerprint != run.dataset_fingerprint:
        data = f"{spec.dataset} {spec.dataset_fingerprint}"
        raise UsageError(
            f"{run.id}: the data must be {run.dataset} {run.dataset_fingerprint}, {where}, got {data}", _OPTION
        )


def differing(request: Request, run: RunRecord) -> list[str]:
    """Settings that both optimizers have, with another value in the run whose rates are replayed; not refused."""
    mine, theirs = request.model_dump(mode="json")["optimizer_settings"], run.spec.get("optimizer_settings", {})
    return [name for name in mine if name != "lr" and name in theirs and mine[name] != theirs[name]]


def with_rates(request: Request, store: Store, run: RunRecord) -> Request:
    """What asks for a stored run again, with the rates that it keeps where it replayed any.

    Raises:
        StoreError: it does not keep them.
    """
    if request.training.lr_digest is None:
        return request
    rates = Rates.decoded(run.provenance.get(ORIGIN, ""), store.artifacts.read(run.id, FILE))
    return request.model_copy(update={"rates": rates})
