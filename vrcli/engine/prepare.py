"""From a request to its spec and things in memory: device, data, model, optimizer. Refuses what cannot be had."""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vrcli.engine.seeding import derive, generator, seed_python
from vrcli.errors import UsageError
from vrcli.optim import registry
from vrcli.spec import Request, RunSpec, Training
from vrcli.tasks.base import Split, Splits, Stream, Task, TaskError


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start."""

    spec: RunSpec
    task: Task[Any]
    data: Splits
    model: nn.Module
    optimizer: torch.optim.Optimizer
    capabilities: frozenset[str]
    device: torch.device
    autocast: torch.dtype | None

    @property
    def samples(self) -> int:
        """In one epoch."""
        return samples_of(self.task, self.data.train, self.spec.training)


def pick_device(name: str) -> str:
    """The device behind --device: "auto" takes CUDA, then Apple's GPU, then the CPU.

    Raises:
        UsageError: the device is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    kind, _, index = name.partition(":")
    if kind not in there or (index and not index.isdigit()):
        raise UsageError(f"--device must be auto, cpu, cuda or mps, got {name}")
    if not there[kind] or (kind == "cuda" and index and int(index) >= torch.cuda.device_count()):
        have = ", ".join(k for k, ok in there.items() if ok)
        raise UsageError(f"--device {name} is not there; this machine has {have}")
    return name


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """bfloat16 where asked for, or where "auto" finds hardware for it; None for fp32."""
    if precision == "bf16":
        return torch.bfloat16
    if precision == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
        if device.type == "cpu" and _cpu_has_bf16():
            return torch.bfloat16
    return None


def _cpu_has_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


class DataCache:
    """The splits of the last data set, so that the runs of one process load it once."""

    def __init__(self) -> None:
        self._key: object = None
        self._splits: Splits | None = None
        self._fingerprint = ""

    def get(self, key: object, load: Callable[[], Splits]) -> tuple[Splits, str]:
        if self._splits is None or key != self._key:
            self._splits = load()
            self._key, self._fingerprint = key, self._splits.fingerprint()
        return self._splits, self._fingerprint


def prepare(
    request: Request,
    task_class: type[Task[Any]],
    *,
    data_dir: Path | None = None,
    cache: DataCache | None = None,
    notice: Callable[[str], object] = lambda text: None,
) -> Prepared:
    """Load the data, then build the model from the run's seed, then the optimizer.

    Args:
        cache: shared between runs of one process.
        notice: told, in one line, about anything that was changed on the user's behalf.

    Raises:
        UsageError, TaskError: the request cannot be carried out.
    """
    if request.training.stop_accuracy is not None and "accuracy" not in [m.name for m in task_class.metrics]:
        raise UsageError(f"--stop-accuracy: {request.task} has no metric called accuracy")
    torch.set_num_threads(request.threads)
    device = torch.device(request.device)
    be_deterministic(device)
    task = task_class(task_class.Config(**request.task_settings), data_dir=data_dir)

    def load() -> Splits:
        try:
            found = task.data(generator(task.config.split_seed, "split"))
        except OSError as error:
            raise _unreadable(request.task, error) from error
        if (share := request.training.subset) is not None:
            found = found.subset(share, generator(task.config.split_seed, "subset"))
        return found.to(device, request.training.workers)

    key = (request.task, task.config, data_dir, request.device, request.training.workers, request.training.subset)
    data, fingerprint = (cache or DataCache()).get(key, load)
    asked, samples = request.training.batch_size, samples_of(task, data.train, request.training)
    if request.training.workers and not data.streamed:
        notice(f"--workers {request.training.workers}: the data of {request.task} are in memory; no worker reads them")
    if asked > samples:
        notice(f"--batch-size {asked} is above the {samples} training samples; taking those")
        request = request.with_training(batch_size=samples)
    if request.training.precision == "bf16" and device.type == "cpu" and not _cpu_has_bf16():
        notice("--precision bf16: this processor has no instructions for it and emulates them; fp32 is faster here")
    spec = request.on(data.dataset, fingerprint)

    torch.manual_seed(derive(spec.seed, "model"))
    seed_python(derive(spec.seed, "model"))
    model = task.model(data).to(device)
    row = registry.find(spec.optimizer)
    if "closure" in row.capabilities and task.no_closure:
        raise UsageError(f"--opt {spec.optimizer} needs a closure, which {spec.task} cannot give: {task.no_closure}")
    if "closure" in row.capabilities and spec.training.accumulate_gradients:
        raise UsageError(f"--opt {spec.optimizer} needs a closure, which --accumulate-gradients cannot give")
    if row.origin not in ("torch", "vr") or "closure" in row.capabilities:
        # Many optimizers flatten with view(), which a channels-last weight refuses; its gradient follows its layout.
        model = model.to(memory_format=torch.contiguous_format)
    _, steps = planned_steps(spec.training, samples, row.capabilities)
    _check_rates(spec, steps)
    optimizer = registry.construct(spec.optimizer, model, spec.optimizer_settings, steps=steps)
    autocast = autocast_dtype(spec.training.precision, device)
    return Prepared(spec, task, data, model, optimizer, row.capabilities, device, autocast)


def _check_rates(spec: RunSpec, steps: int | None) -> None:
    """Refuse a run that may have more steps than the rates that it replays, or other rates than its spec says."""
    if spec.training.lr_digest != (spec.rates.digest if spec.rates else None):
        raise UsageError(": the learning rates that are kept are not those of the spec", "--lr-from")
    if spec.rates is not None and (steps is None or steps > len(spec.rates.values)):
        known = len(spec.rates.values)
        asked = "nobody knows beforehand how many this run takes" if steps is None else f"this run takes {steps:,}"
        raise UsageError(
            f"{spec.rates.run}: it has the learning rates of {known:,} steps, and {asked}; --until steps:{known} fits",
            "--lr-from",
        )


def _unreadable(task: str, error: OSError) -> TaskError:
    """The refusal of data that the task's own code cannot read."""
    file = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    what = f"{file}: {error.strerror}" if file else (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    where = "" if os.path.isabs(file) else f" (relative paths begin at {Path.cwd()})"
    return TaskError(f"the data of {task} cannot be read: {what}{where}")


def samples_of(task: Task[Any], train: Split, training: Training) -> int:
    """Samples in one epoch: the training set's, or so many batches as the task's config says in `steps_per_epoch`.

    Raises:
        TaskError: of a stream, it cannot be told.
        UsageError: something is asked for that needs a training set with an end.
    """
    steps = getattr(task.config, "steps_per_epoch", None) if isinstance(train, Stream) else None
    if not isinstance(train, Stream) or (train.known and steps is None):
        return len(train)
    if steps is None:
        raise TaskError(f"task {task.name}: the length of its training data is not known, so its Config needs a field "
                        "steps_per_epoch")  # fmt: skip
    if training.stop_accuracy is not None and not train.known:
        raise UsageError(f"--stop-accuracy: the training data of {task.name} have no known end to measure it over")
    samples: int = steps * training.batch_size
    if train.known and samples - training.batch_size >= len(train):
        raise UsageError(f"--steps-per-epoch {steps} of {training.batch_size} samples is more than the {len(train)} of "
                         f"{task.name}")  # fmt: skip
    return samples


def planned_steps(training: Training, samples: int, capabilities: frozenset[str]) -> tuple[int, int | None]:
    """Steps per epoch, and of a run that nothing ends early, over a training set of `samples`.

    How many steps a number of gradients buys is known of an optimizer that evaluates one in each step, and how many
    some seconds buy of none: there it is None.
    """
    per_epoch, end = math.ceil(samples / training.batch_size), training.end
    if end.unit == "epochs":
        planned = training.epochs * per_epoch
        return per_epoch, min(planned, training.max_steps or planned)
    known = end.unit == "steps" or (end.unit == "gradients" and "closure" not in capabilities)
    return per_epoch, int(end.amount) if known else None


def be_deterministic(device: torch.device) -> None:
    """Ask the device for the same bits every time, where it has a choice."""
    # The CPU's kernels used here give the same bits as they are; CUDA has faster ones that do not.
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a module property
        torch.backends.cudnn.benchmark = False


def peak_memory_bytes(device: torch.device) -> int:
    """Largest memory so far: allocated on a CUDA device, or resident for the whole process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
