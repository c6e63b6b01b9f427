"""Training speed of each task against a plain PyTorch script of the same task, side by side in one process.

The plain side of task NAME is the module `vrcli.bench.plain_NAME`, which has one function:

    def plain(task: Task, splits: Splits, batch_size: int, seed: int) -> Iterator[float]

a generator that does one training step per `next()`, without end, and yields its loss as a Python float. It trains the
task's own model on the CPU with `torch.optim.AdamW(lr=1e-3)`, written the way people write it: `DataLoader` or a loop
over samples, the loss read back in every step, torch's default memory layout, no tricks. It is advanced under
`torch.autocast` where reduced precision is asked of it, and must not set global state besides the random seed.

Our side is the engine's loop as `vr run` uses it, with what it records; beside it runs a bare loop over the task's own
methods that records nothing, which tells what recording costs.
"""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.bench.timing import Timings
from vrcli.errors import UsageError
from vrcli.leftovers import scratch_folder

if TYPE_CHECKING:
    import torch

    from vrcli.engine.prepare import Prepared

#: What both sides train with.
_OPTIMIZER, _SETTINGS = "adamw", {"lr": 1e-3, "weight_decay": 1e-2}
#: Nothing may end the engine's run or change its rate while it is measured.
_ENDLESS = {
    "epochs": 10**6,
    "max_steps": None,
    "patience": None,
    "stop_loss": None,
    "stop_accuracy": None,
    "schedule": "constant",
}


@dataclass(frozen=True)
class TaskBench:
    """Training speed of one task, from medians over rounds.

    Args:
        dataset: what was trained on, in words.
        precision: of our side; the plain side's is `plain_precision`.
        plain_steps_per_s: steps of the plain loop per second.
        steps_per_s: steps of the engine's loop per second, evaluation not counted.
        speedup: median over rounds of the engine's speed over that of the plain loop measured next to it.
        speedup_low: lower quartile of the same ratio.
        speedup_high: upper quartile.
        loop_cost: what measuring and the loop around it add to a bare loop's step, as a share of it; noise makes it
            negative at times.
        store_cost: time spent writing to the store, as a share of training time.
        rounds: values behind each median.
        threads: intra-operation threads of torch.
    """

    task: str
    dataset: str
    preset: str
    precision: str
    plain_precision: str
    batch_size: int
    plain_steps_per_s: float
    steps_per_s: float
    speedup: float
    speedup_low: float
    speedup_high: float
    loop_cost: float
    store_cost: float
    rounds: int
    threads: int


def bench_task(
    name: str,
    *,
    preset: str = "quick",
    settings: Mapping[str, Any] | None = None,
    precision: str = "fp32",
    plain_precision: str = "fp32",
    rounds: int = 7,
    block_s: float = 1.0,
    threads: int | None = None,
    data_dir: Path | None = None,
    notice: Callable[[str], object] = lambda text: None,
) -> TaskBench:
    """Measure one task on the CPU.

    Args:
        settings: of task or training loop, over the preset's ("dataset", "batch_size").
        precision: "fp32", "bf16" or "auto", for our side.
        rounds: values behind each median; each round measures every side for `block_s` seconds.
        threads: as many as torch chooses where `None`.

    Raises:
        UsageError: no such task, preset or setting, or nothing to compare the task with.
        TaskError: the data cannot be had.
    """
    import torch

    from vrcli import settings as words
    from vrcli.engine.prepare import DataCache, prepare
    from vrcli.tasks import registry

    try:
        task_class = registry.load(name)
        counterpart = importlib.import_module(f"vrcli.bench.plain_{name}")
    except registry.UnknownTask as error:
        raise UsageError(str(error)) from error
    except ModuleNotFoundError as error:
        raise UsageError(f"task {name!r} has no plain counterpart to be measured against") from error
    flags = {**(settings or {}), **_ENDLESS, **_SETTINGS, "precision": precision}
    threads = threads or torch.get_num_threads()
    resolved = words.resolve(task_class, _OPTIMIZER, preset=preset, flags=flags, threads=threads)
    data = DataCache()
    ours, bare = (
        prepare(resolved.request, task_class, data_dir=data_dir, cache=data, notice=tell)
        for tell in (notice, _say_nothing)
    )
    batch_size = ours.spec.training.batch_size
    losses = counterpart.plain(ours.task, ours.data, batch_size, ours.spec.seed)
    with scratch_folder() as folder:
        engine = _Engine(ours, folder / "bench.db")
        sides = {
            "vr": engine.block,
            "bare": _stepper(_bare_steps(bare)),
            "plain": _stepper(_under(plain_precision, losses)),
        }
        timings = _alternate(sides, rounds, block_s)
        engine.close()
    low, high = timings.ratio_range("plain", "vr")
    return TaskBench(
        task=name,
        dataset=", ".join(part for part in (ours.data.dataset, ours.data.about) if part),
        preset=preset,
        precision=precision,
        plain_precision=plain_precision,
        batch_size=batch_size,
        plain_steps_per_s=1 / timings.median_s("plain"),
        steps_per_s=1 / timings.median_s("vr"),
        speedup=timings.ratio("plain", "vr"),
        speedup_low=low,
        speedup_high=high,
        loop_cost=timings.ratio("vr", "bare") - 1,
        store_cost=engine.store_s / engine.train_s,
        rounds=rounds,
        threads=threads,
    )


def _say_nothing(_: str) -> None:
    """The second preparation has nothing to add to the first one's notices."""


def _alternate(sides: Mapping[str, Callable[[float], float]], rounds: int, block_s: float) -> Timings:
    """Seconds per step of each side, side by side; each round starts with another one."""
    names = list(sides)
    for name in names:
        sides[name](block_s / 2)  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(sides[name](block_s))
    return Timings(seconds)


def _stepper(steps: Iterator[object]) -> Callable[[float], float]:
    """Advances an iterator for some seconds and returns the seconds per item."""

    def block(seconds: float) -> float:
        start = time.perf_counter()
        for count in itertools.count(1):
            next(steps)
            spent = time.perf_counter() - start
            if spent >= seconds:
                return spent / count
        raise AssertionError("unreachable")

    return block


def _under(precision: str, losses: Iterator[float]) -> Iterator[float]:
    """The plain loop, advanced under autocast."""
    import torch

    while True:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = next(losses)
        yield loss


def _bare_steps(prepared: Prepared) -> Iterator[torch.Tensor]:
    """The task's own batches, loss and model without anything measured or recorded."""
    import torch

    task, model, optimizer, data = prepared.task, prepared.model.train(), prepared.optimizer, prepared.data.train
    dtype = prepared.autocast
    generator = torch.Generator().manual_seed(0)
    while True:
        for index in torch.randperm(len(data), generator=generator).split(prepared.spec.training.batch_size):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
                loss = task.loss(model, task.train_batch(data, index, generator))
            loss.backward()
            optimizer.step()
            yield loss.detach()


class _Engine:
    """An endless run of the engine, its events written to a store."""

    def __init__(self, prepared: Prepared, db: Path) -> None:
        from vrcli.db.store import Store
        from vrcli.engine.loop import train
        from vrcli.execute.writer import Writer

        self.store = Store.open(db)
        spec = prepared.spec
        run = self.store.runs.begin(spec.model_dump(mode="json"), spec_id=spec.spec_id, provenance={})
        self.writer = Writer(self.store, run.id)
        self.events = train(prepared)
        self.train_s, self.steps, self.store_s = 0.0, 0, 0.0

    def block(self, seconds: float) -> float:
        """Train for that long and return the seconds per step."""
        from vrcli.engine.events import Steps

        start_s, start_steps = self.train_s, self.steps
        while self.train_s - start_s < seconds:
            event = next(self.events)
            before = time.perf_counter()
            if isinstance(event, Steps):
                self.train_s, self.steps = event.train_s, event.steps[-1]
            for _ in self.writer.write(event):  # the database is away: it tries again by itself
                pass
            self.store_s += time.perf_counter() - before
        return (self.train_s - start_s) / (self.steps - start_steps)

    def close(self) -> None:
        self.store.close()
