"""A run that a script trains with a loop of its own, recorded as it happens."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vrcli.db.location import Location
from vrcli.direction import Direction, better
from vrcli.engine.points import Columns, Points, measured_once, named
from vrcli.errors import UsageError, first_line
from vrcli.record import described, resuming
from vrcli.record.described import UNKNOWN, spec_of
from vrcli.record.usual import USUAL
from vrcli.spec import digest_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.execute.lease import Lease


@dataclass(frozen=True)
class Measured:
    """A metric that a script records, as `vrcli.db.facts.Metric` describes it."""

    name: str
    direction: Direction
    unit: str = ""
    percent: bool = False
    shown: bool = False


class Tracked:
    """The run of one `with vrcli.track(...)` block.

    Attributes:
        diverged: the training loss or the objective was not finite.
        since_best: evaluations since the best one.
    """

    def __init__(
        self, spec: Mapping[str, Any], metrics: Sequence[Measured], location: Location, *, tag: str | None,
        group: str | None, patience: int | None, quiet: bool, device: torch.device | None, parameters: int | None,
        announced: bool = True,
    ) -> None:  # fmt: skip
        self._spec, self._metrics, self._location = spec, list(metrics), location
        self._tag, self._group, self._patience, self._quiet = tag, group, patience, quiet
        self._device, self._parameters, self._announced = device, parameters, announced
        self._store: Store | None = None
        self._record: RunRecord | None = None
        self._points = Points()
        self._began = time.perf_counter()
        self._best: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._test: dict[str, float] = {}
        self._step = 0
        self._lease: Lease | None = None
        self._restored: Mapping[str, Any] | None = None
        self.diverged = ""
        self.since_best = 0

    def describe(
        self,
        *,
        optimizer: torch.optim.Optimizer | str | None = None,
        seed: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what was not known when `track` was called, as it takes it; what was said there stays.

        Raises:
            UsageError: something is recorded already.
        """
        if self._quiet:
            return
        if self._record is not None:
            raise UsageError("describe a run before its first log or evaluate")
        known = self._spec
        found = spec_of(known["task"], known["dataset"] or "", optimizer, settings or {}, {}, seed)
        first = {name: found[name] for name in ("optimizer", "seed") if known[name] in (None, UNKNOWN)}
        parts = {name: {**found[name], **known[name]} for name in ("task_settings", "optimizer_settings")}
        self._spec = {**known, **first, **parts}
        if own := described.parameters_of(optimizer):
            self._device, self._parameters = own[0].device, sum(p.numel() for p in own)

    # -- what a script calls ------------------------------------------------------------------------------------------

    def log(self, step: int, **values: Tensor | float) -> None:
        """Record values of one step, counted as you like but increasing: `run.log(step, train_loss=loss)`.

        Numbers, or tensors of one number, which stay on their device until a block of them is written.

        Raises:
            UsageError: the step was recorded already, or a value is not a number.
        """
        if self._quiet:
            return
        self._points.put(step, values)
        self._step = max(self._step, step)
        if self._points.due:
            self._flush()

    def evaluate(self, step: int, **values: Tensor | float) -> bool:
        """Record values of the validation split: `run.evaluate(step, val_loss=v, val_accuracy=a)`.

        The first metric declared, or else the first one given here, is the objective: its best value chooses the
        weights that a test should use.

        Returns:
            Whether the objective is the best so far.

        Raises:
            UsageError: as `log`; or nobody declared whether less or more of the objective is better.
        """
        if self._quiet:
            return False
        read = named("val", values)
        self._declare(read)
        objective = self._metrics[0]
        self.log(step, **read, wall_s=time.perf_counter() - self._began)
        self._last.update(read)
        value = read.get(f"val_{objective.name}")
        best = value is not None and better(value, self._best.get(f"best_val_{objective.name}"), objective.direction)
        if best:
            self._best = {**read, f"best_val_{objective.name}": value, "best_step": step}  # type: ignore[dict-item]
        elif value is not None:
            self.since_best += 1
        if value is not None and not math.isfinite(value):
            self.diverged = self.diverged or f"val_{objective.name} {value:g} after step {step}"
        self.since_best = 0 if best else self.since_best
        self._flush()
        return best

    def test(self, **values: Tensor | float) -> None:
        """Record values of the test split, measured once, with the weights of the best evaluation.

        Raises:
            UsageError: the test was recorded already: whoever measures it twice chooses by it.
        """
        if self._quiet:
            return
        self._test.update(measured_once(self._test, values))

    def should_stop(self) -> bool:
        """Whether to leave the loop: the run diverged, or `patience` evaluations brought nothing better."""
        return bool(self.diverged) or (self._patience is not None and self.since_best >= self._patience)

    def save(self, **objects: Any) -> None:
        """Write the run down: `run.save(model=model, optimizer=optimizer)`, after a step.

        Objects with a `state_dict`, or plain values. Where the random generators and the curves are is kept too. The
        file is there in full or not at all, beside the database; it goes when the run has ended.

        Raises:
            UsageError: an object cannot be written down.
        """
        if not self._quiet:
            self._flush()
            resuming.save(self._opened_run(), self._step, self._state(objects))

    def restore(self, **objects: Any) -> int:
        """Go on with an interrupted run of the same script, settings and seed: put what `save` wrote back into the
        objects, before the first `log`.

        Returns:
            The step after which it was written; 0 where there is none, and the run begins.

        Raises:
            UsageError: other objects were saved, or something is recorded already.
        """
        if self._record is not None or self._step:
            raise UsageError("restore a run before its first log or evaluate")
        state = self._stored_state()
        if state is None:
            return 0
        self._restored = state
        resuming.put_back(objects, state, self._device)
        self._step, self._best, self._last, self._test = state["step"], *map(dict, state["results"])
        self.since_best = state["since_best"]
        self._began -= state["wall_s"]
        self._points = Points(state["points"])
        return self._step

    def restored(self, name: str) -> Any:
        """A plain value that `save` wrote; None where `restore` found nothing."""
        return resuming.plain(self._restored, name)

    @property
    def id(self) -> int:
        """The run's number in the database; -1 where this process does not record (a rank above 0)."""
        return -1 if self._quiet else self._open().id

    def finish(self, status: str | None = None, error: str | None = None) -> None:
        """End the run; leaving the block does it.

        Args:
            status: completed, diverged, failed or interrupted; by default completed, or diverged where it did.
        """
        if self._quiet or (self._record is not None and self._record.status != "running"):
            return
        self._open()
        self._flush()
        if status is None:
            status, error = ("diverged", self.diverged) if self.diverged else ("completed", None)
        store = self._opened
        self._record = store.runs.finish(self._open().id, status, results=self._results(), error=error)
        if self._lease is not None:
            self._lease.__exit__(None, None, None)
        if status in ("completed", "diverged"):
            resuming.remove(store, self._record)
        store.close()
        self._store = None
        if self._announced:
            see = f"vr runs show {self._record.id}{self._location.option}"
            sys.stderr.write(f"run {self._record.id} · {self._record.name} {status}; {see}\n")
        if status == "completed" and not self._best:
            name = self._metrics[0].name if self._metrics else "loss"
            words = f"run {self._record.id} recorded no val_{name}: no table can rank it (run.evaluate records one)"
            warnings.warn(words, stacklevel=2)

    # -- a block ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or (isinstance(error, SystemExit) and not error.code):
            self.finish()
        elif isinstance(error, KeyboardInterrupt | GeneratorExit):
            self.finish("interrupted")
        else:
            self.finish("failed", first_line(error))

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _opened(self) -> Store:
        assert self._store is not None
        return self._store

    def _open(self) -> RunRecord:
        """The run's row, begun at the first call."""
        if self._record is None:
            import torch

            from vrcli.db.store import Store
            from vrcli.engine import provenance

            device = self._device or torch.device("cpu")
            origin = provenance.collect(device, torch.get_num_threads(), malloc_tuned=False)
            self._store = Store.open(self._location, mode="create")
            self._record = self._store.runs.begin(
                dict(self._spec), spec_id=digest_of(self._spec, self._spec["dataset"]), provenance=origin,
                tag=self._tag, group=self._group, metrics=self._metrics,
            )  # fmt: skip
            self._hold()
        return self._record

    def _hold(self) -> None:
        """Say every so often that this process is alive, however long a step takes."""
        from vrcli.execute.lease import Lease

        assert self._record is not None
        self._lease = Lease(self._opened, self._record.id)
        self._lease.__enter__()

    def _opened_run(self) -> tuple[Store, RunRecord]:
        record = self._open()
        return self._opened, record

    def _state(self, objects: Mapping[str, Any]) -> dict[str, Any]:
        """What the steps to come depend on."""
        return {
            "step": self._step, "results": [self._best, self._last, self._test], "since_best": self.since_best,
            "points": self._points.last, "wall_s": time.perf_counter() - self._began,
            **resuming.captured(objects, self._device),
        }  # fmt: skip

    def _stored_state(self) -> Mapping[str, Any] | None:
        """What the newest interrupted run of this spec wrote; it is taken up."""
        spec_id = digest_of(self._spec, self._spec["dataset"])
        if self._quiet:  # another rank records, and this one begins at the same step
            return resuming.look_up(self._location, spec_id, self._tag)
        found = resuming.take_up(self._location, spec_id, self._tag)
        if found is None:
            return None
        self._store, self._record, state = found
        self._hold()
        return state

    def _flush(self) -> None:
        columns = self._taken()
        _, losses = columns.get("train_loss", ([], []))
        if losses:
            self._last["train_loss"] = losses[-1]
        if columns:
            record = self._open()
            self._opened.curves.add(record.id, columns)

    def _taken(self) -> Columns:
        """What waited to be written; a training loss in it that is not finite is noted."""
        columns = self._points.take()
        for step, loss in zip(*columns.get("train_loss", ([], [])), strict=True):
            if not math.isfinite(loss):
                self.diverged = self.diverged or f"train_loss not finite at step {step}"
        return columns

    def _declare(self, read: Mapping[str, float]) -> None:
        """Metrics by their first use; the first is the objective.

        Raises:
            UsageError: nobody knows which way the objective is better.
        """
        known = {metric.name for metric in self._metrics}
        new = [name.removeprefix("val_") for name in read if name.removeprefix("val_") not in known]
        if not new:
            return
        if not self._metrics and new[0] not in USUAL:
            raise UsageError(
                f'is less or more of {new[0]} better? Say so: vrcli.track(..., metrics={{"{new[0]}": "min"}})'
            )
        self._metrics += [Measured(name, USUAL[name]) for name in new if name in USUAL]
        record = self._open()
        self._record = self._opened.runs.declare(record.id, self._metrics)

    def _results(self) -> dict[str, float]:
        found: dict[str, float] = {"steps": self._step, "wall_s": time.perf_counter() - self._began, **self._best}
        found |= {f"final_{name}": value for name, value in self._last.items()}
        if self._parameters is not None:
            found["parameters"] = self._parameters
        if self._device is not None:
            from vrcli.engine.prepare import peak_memory_bytes

            found["peak_memory_bytes"] = peak_memory_bytes(self._device)
        return found | self._test
