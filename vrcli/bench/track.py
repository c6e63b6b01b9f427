"""What recording a loop of one's own costs per step, beside other trackers that write to this machine's disk."""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

from vrcli.record.begin import track

METRICS = 10
Log: TypeAlias = Callable[[int, Mapping[str, Any]], object]


def rows(folder: Path, *, steps: int, rounds: int) -> list[dict[str, Any]]:
    """Microseconds per step of ten tensors of one number each; trackers that are not installed are left out.

    Each round opens a run, records all steps and closes it; the close, which may write what waits, counts. The trackers
    take turns, so that what else the machine does meets all of them.

    Args:
        folder: empty; everything is written below it.
        steps: of one round.
        rounds: values behind each median.
    """
    import torch

    values = [{f"metric_{i}": torch.tensor(1.0 / (step + i + 1)) for i in range(METRICS)} for step in range(steps)]
    trackers = _trackers()
    seconds: dict[str, list[float]] = {name: [] for name in trackers}
    for turn in range(rounds):
        for name, opened in trackers.items():
            place = folder / f"{name.replace(' ', '-')}-{turn}"
            place.mkdir()
            with ExitStack() as stack:
                log = opened(place, stack)
                begun = time.perf_counter()
                for step, own in enumerate(values, 1):
                    log(step, own)
            seconds[name].append(time.perf_counter() - begun)
    ours = seconds["vr"]
    return [
        {
            "tracker": name,
            "us/step": 1e6 * statistics.median(own) / steps,
            "worst": 1e6 * max(own) / steps,
            "share of a 10 ms step": f"{100 * statistics.median(own) / steps / 0.01:.2f}%",
            "times vr": statistics.median(other / mine for other, mine in zip(own, ours, strict=True)),
        }
        for name, own in seconds.items()
    ]


def _trackers() -> dict[str, Callable[[Path, ExitStack], Log]]:
    others = {
        "tensorboard": ("tensorboard", _tensorboard),
        "mlflow": ("mlflow", _mlflow),
        "wandb offline": ("wandb", _wandb),
    }
    there = {name: opened for name, (module, opened) in others.items() if importlib.util.find_spec(module)}
    return {"vr": _vr, **there}


def _vr(place: Path, stack: ExitStack) -> Log:
    run = track("bench", metrics={"loss": "min"}, db=place / "vr.db")
    stack.enter_context(run)
    stack.callback(lambda: run.evaluate(10**9, loss=0.0))  # or the run would be told that nothing can rank it
    return lambda step, values: run.log(step, **values)


def _tensorboard(place: Path, stack: ExitStack) -> Log:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(place))
    stack.callback(writer.close)

    def log(step: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return log


def _mlflow(place: Path, stack: ExitStack) -> Log:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")
    stack.enter_context(mlflow.start_run())
    return lambda step, values: mlflow.log_metrics({n: float(v) for n, v in values.items()}, step=step)


def _wandb(place: Path, stack: ExitStack) -> Log:
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")
    run = wandb.init(mode="offline", dir=str(place))
    stack.callback(run.finish)
    return lambda step, values: run.log({n: float(v) for n, v in values.items()}, step=step)
