"""A run that a script trains with a loop of its own, recorded as it happens."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from vrcli.db.location import Location
from vrcli.engine.points import Points, number
from vrcli.errors import UsageError, first_line
from vrcli.record.described import UNKNOWN, spec_of
from vrcli.spec import digest_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store

Direction = Literal["min", "max"]
#: Metrics whose better direction everybody agrees on; any other objective has to be declared.
USUAL: Mapping[str, Direction] = {
    **dict.fromkeys(("loss", "nll", "perplexity", "error", "mse", "rmse", "mae", "bits_per_byte"), "min"),
    **dict.fromkeys(("accuracy", "acc", "f1", "auc", "bleu", "reward", "return", "score"), "max"),
}


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
    ) -> None:  # fmt: skip
        self._spec, self._metrics, self._location = spec, list(metrics), location
        self._tag, self._group, self._patience, self._quiet = tag, group, patience, quiet
        self._device, self._parameters = device, parameters
        self._store: Store | None = None
        self._record: RunRecord | None = None
        self._points = Points()
        self._began = time.perf_counter()
        self._best: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._test: dict[str, float] = {}
        self._step, self._evaluations = 0, 0
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
        if own := parameters_of(optimizer):
            self._device, self._parameters = own[0].device, sum(p.numel() for p in own)

    # -- what a script calls ------------------------------------------------------------------------------------------

    def log(self, step: int, **values: Tensor | float) -> None:
        """Record values of one step, counted as you like but increasing: `run.log(step, train_loss=loss)`.

        Numbers, or tensors of one number, which stay on their device until a block of them is written.

        Raises:
            UsageError: the step was recorded already, or a value is no number.
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
        read = {_named("val", name): number(name, value) for name, value in values.items()}
        self._declare(read)
        objective = self._metrics[0]
        self.log(step, **read, wall_s=time.perf_counter() - self._began)
        self._last.update(read)
        value = read.get(f"val_{objective.name}")
        best = value is not None and self._better(value, objective.direction)
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
        read = {_named("test", name): number(name, value) for name, value in values.items()}
        if twice := sorted(self._test.keys() & read.keys()):
            raise UsageError(f"{twice[0]} is recorded already; the test is measured once")
        self._test.update(read)

    def should_stop(self) -> bool:
        """Whether to leave the loop: the run diverged, or `patience` evaluations brought nothing better."""
        return bool(self.diverged) or (self._patience is not None and self.since_best >= self._patience)

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
        store.close()
        self._store = None
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
        return self._record

    def _flush(self) -> None:
        columns = self._points.take()
        steps, losses = columns.get("train_loss", ([], []))
        if not self.diverged:
            at = next((step for step, loss in zip(steps, losses, strict=True) if not math.isfinite(loss)), None)
            self.diverged = "" if at is None else f"train_loss not finite at step {at}"
        if losses:
            self._last["train_loss"] = losses[-1]
        if columns:
            record = self._open()
            self._opened.curves.add(record.id, columns)

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

    def _better(self, value: float, direction: Direction) -> bool:
        best = self._best.get(f"best_val_{self._metrics[0].name}")
        if not math.isfinite(value):
            return False
        return best is None or (value < best if direction == "min" else value > best)

    def _results(self) -> dict[str, float]:
        found: dict[str, float] = {"steps": self._step, "wall_s": time.perf_counter() - self._began, **self._best}
        found |= {f"final_{name}": value for name, value in self._last.items()}
        if self._parameters is not None:
            found["parameters"] = self._parameters
        if self._device is not None:
            from vrcli.engine.prepare import peak_memory_bytes

            found["peak_memory_bytes"] = peak_memory_bytes(self._device)
        return found | self._test


def track(
    task: str,
    *,
    dataset: str = "",
    optimizer: torch.optim.Optimizer | str | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    optimizer_settings: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Direction] | None = None,
    patience: int | None = None,
    tag: str | None = None,
    group: str | None = None,
    db: str | os.PathLike[str] | Location | None = None,
) -> Tracked:
    """Record a run that your own script trains.

        with vrcli.track("my-gpt", optimizer=optimizer, seed=seed, settings=vars(args)) as run:
            for step in range(1, 1001):
                ...
                run.log(step, train_loss=loss)
                if step % 100 == 0:
                    run.evaluate(step, val_loss=measure(model))
            run.test(loss=measure_test(model))

    The run is *completed* at the end of the block, *failed* after an exception, *interrupted* after Ctrl-C, *diverged*
    where the training loss or the objective was not finite. Under torchrun rank 0 records and the others do nothing.
    Runs that differ in nothing but the seed repeat each other; an edit of the script begins another configuration.

    Args:
        task: what is trained; runs of one task stand together in tables.
        dataset: what it is trained on.
        optimizer: its name and hyperparameters are read off it; or a name.
        seed: what tells repeated runs apart; by default the setting of that name.
        settings: everything else that decides the curve: `vars(args)`.
        optimizer_settings: hyperparameters, where `optimizer` is a name or hides them.
        metrics: what is measured and which way is better, the objective first: `{"reward": "max"}`. By default what
            `run.evaluate` gets, if everybody knows which way is better: loss, accuracy, perplexity and so on.
        patience: `run.should_stop()` says so after this many evaluations without a better one.
        tag: a word to find the runs by.
        group: what the runs of one experiment share.
        db: a database file, an SQLAlchemy URL or a `Location`; VR_DB or vr.db by default.

    Raises:
        UsageError: a value is not accepted; nothing was recorded.
    """
    for name, direction in (metrics or {}).items():
        if direction not in ("min", "max"):
            raise UsageError(f"metrics[{name!r}] must be min or max, got {direction!r}")
    if patience is not None and patience < 1:
        raise UsageError(f"patience must be >= 1, got {patience}")
    spec = spec_of(task, dataset, optimizer, settings or {}, optimizer_settings or {}, seed)
    parameters = parameters_of(optimizer)
    declared = [Measured(name.removeprefix("val_"), direction) for name, direction in (metrics or {}).items()]
    return Tracked(
        spec, declared, Location.given(db), tag=tag,
        group=group, patience=patience, quiet=_rank() > 0, device=parameters[0].device if parameters else None,
        parameters=sum(p.numel() for p in parameters) if parameters else None,
    )  # fmt: skip


def parameters_of(optimizer: Any) -> list[Tensor]:
    if optimizer is None or isinstance(optimizer, str):
        return []
    return [p for group in optimizer.param_groups for p in group["params"]]


def _rank() -> int:
    """Of this process among those of torchrun; 0 where there is one process."""
    text = os.environ.get("RANK", "")
    return int(text) if text.isdecimal() else 0


def _named(split: str, name: str) -> str:
    return name if name.startswith((f"{split}_", "train_")) else f"{split}_{name}"
