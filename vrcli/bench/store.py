"""What the store costs: writing points, their size on disk, and the reads that people wait for.

The database is generated: as many runs as a year's work leaves behind, each with a curve of its own. Commands are timed
as whole processes, as their users wait for them.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.bench.timing import Timings, alternate
from vrcli.errors import UsageError

if TYPE_CHECKING:
    from vrcli.db.store import Store

OPTIMIZERS = ("vradam", "adamw", "sgd", "rmsprop")
LEARNING_RATES = 25
#: Runs and points of the envelope that is timed: a comparison's seeds, and the steps of a short training.
ENVELOPE = (40, 2500)
#: Points of one write: what MLflow takes at most in one batch, and about an epoch of a small task.
BLOCK = 1000


@dataclass(frozen=True)
class Found:
    """One measurement.

    Args:
        value: median where n > 1.
        worst: of the n.
    """

    what: str
    value: float
    unit: str
    n: int
    worst: float


def fill(store: Store, runs: int, points: int, notice: Callable[[str], object] = lambda text: None) -> float:
    """Write finished runs with their curves; returns points per second, all that belongs to a run included.

    Args:
        runs: spread over the optimizers, learning rates and seeds.
        points: of each run, in one curve.
    """
    steps, values = _curve(points)
    begun = time.perf_counter()
    for index in range(runs):
        _run(store, index, steps, values)
        if (index + 1) % 1000 == 0:
            notice(f"{index + 1:,} of {runs:,} runs written")
    return runs * points / (time.perf_counter() - begun)


def fill_envelope(store: Store) -> list[int]:
    """Write the runs whose envelope is timed: one configuration, one run per seed."""
    count, points = ENVELOPE
    steps, values = _curve(points)
    stride = len(OPTIMIZERS) * LEARNING_RATES
    return [_run(store, seed * stride, steps, values, preset="long") for seed in range(count)]


def _curve(points: int) -> tuple[array[int], array[float]]:
    return (
        array("q", range(1, points + 1)),
        array("d", (2.3 * math.exp(-3 * i / points) + 0.05 * math.sin(i) for i in range(points))),
    )


def _run(store: Store, index: int, steps: array[int], values: array[float], preset: str = "quick") -> int:
    """Begin, fill and finish one run; its index says which optimizer, learning rate and seed it has."""
    optimizer = OPTIMIZERS[index % len(OPTIMIZERS)]
    choice = index // len(OPTIMIZERS)
    lr, seed = 1e-4 * 1.3 ** (choice % LEARNING_RATES), choice // LEARNING_RATES
    spec = {
        "task": "cnn", "preset": preset, "dataset": "digits", "dataset_fingerprint": "generated", "seed": seed,
        "task_settings": {"dataset": "digits", "model": "cnn", "width": 16}, "optimizer": optimizer,
        "optimizer_settings": {"lr": lr, "weight_decay": 1e-5, "betas": [0.9, 0.999], "eps": 1e-8},
        "training": {"epochs": 30, "batch_size": 64, "max_steps": None, "precision": "fp32", "schedule": "constant"},
        "device": "cpu", "threads": 1, "code": {"engine": "generated"},
    }  # fmt: skip
    provenance = {"device": "cpu", "cpu": "generated", "threads": 1, "argv": ["vr", "run", "cnn"]}
    run = store.runs.begin(spec, spec_id=f"{preset}-{index}", provenance=provenance)
    for start in range(0, len(steps), BLOCK):
        store.curves.add(run.id, {"train_loss": (steps[start : start + BLOCK], values[start : start + BLOCK])})
    loss = 0.05 + abs(math.log10(lr) + 2.5) * 0.1 + 0.01 * math.sin(37 * index)
    results = {
        "best_val_loss": loss, "test_loss": 1.1 * loss, "val_accuracy": 1 - loss, "test_accuracy": 1 - 1.1 * loss,
        "final_val_loss": 1.2 * loss, "final_train_loss": loss / 2, "wall_s": 2.0, "train_s": 1.8, "step_ms": 1.5,
        "steps": float(len(steps)), "epochs": 30.0, "samples_per_s": 1e4, "peak_memory_bytes": 3e8, "best_epoch": 28.0,
    }  # fmt: skip
    store.runs.finish(run.id, "completed", results=results)
    return run.id


def bench_store(
    folder: Path, *, runs: int, points: int, rounds: int, notice: Callable[[str], object] = lambda text: None
) -> list[Found]:
    """Generate a database in `folder` and time what people do with one.

    Args:
        runs: generated, beside those of the envelope.
        points: of each run.
        rounds: values behind each median.
    """
    from vrcli.db.store import Store

    path = folder / "bench.db"
    with Store.open(path) as store:
        rate = fill(store, runs, points, notice)
    each = _size(path) / (runs * points)  # closed: what was in the write-ahead log is in the file
    with Store.open(path) as store:
        envelope_runs = fill_envelope(store)
    found = [
        Found("write, points per second", rate, "", 1, rate),
        Found("bytes per point, runs and all else included", each, "B", 1, each),
        Found("database", _size(path) / 1e6, "MB", 1, _size(path) / 1e6),
    ]
    commands = {"vr runs list": ["runs", "list"], "vr report": ["report"], "vr report --best": ["report", "--best"]}
    found += [_median(name, command_s(words, path, rounds)) for name, words in commands.items()]
    with Store.open(path, mode="read") as store:
        seconds = [envelope_s(store, envelope_runs) for _ in range(rounds + 1)][1:]
    count, length = ENVELOPE
    return [*found, _median(f"envelope of {count} runs x {length:,} points", seconds)]


def _size(path: Path) -> int:
    return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))


def _median(what: str, seconds: list[float]) -> Found:
    return Found(what, statistics.median(seconds), "s", len(seconds), max(seconds))


def command_s(words: list[str], database: Path, rounds: int) -> list[float]:
    """Seconds of a whole `vr` process, once files and bytecode are warm."""
    seconds = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "vrcli", *words, "--db", str(database)], check=True, capture_output=True)
        seconds.append(time.perf_counter() - begun)
    return seconds[1:]


def envelope_s(store: Store, run_ids: list[int]) -> float:
    """Seconds to read the curves of these runs and to compute their mean and band."""
    from vrcli.stats.curves import envelope

    begun = time.perf_counter()
    curves = store.curves.read(run_ids, "train_loss")
    envelope([(curve.steps, curve.values) for curve in curves.values()])
    return time.perf_counter() - begun


def against_mlflow(folder: Path, *, points: int, rounds: int) -> tuple[Timings, str]:
    """Write the same points to this store and to MLflow's SQLite backend, in blocks of the same size, alternating.

    Returns:
        Seconds by side ("vr", "mlflow") for `points` points, and MLflow's version.

    Raises:
        UsageError: MLflow is not installed.
    """
    try:
        import mlflow
        from mlflow.entities import Metric
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise UsageError("--mlflow needs MLflow: pip install 'vrcli[mlflow]'") from None
    from vrcli.db.store import Store

    steps, values = _curve(points)
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("bench", artifact_location=(folder / "artifacts").as_uri())
    store = Store.open(folder / "side.db")
    index = 0

    def ours() -> None:
        nonlocal index
        _run(store, index, steps, values)
        index += 1

    def theirs() -> None:
        run = client.create_run(experiment).info.run_id
        now = int(time.time() * 1000)
        for start in range(0, points, BLOCK):
            block = zip(steps[start : start + BLOCK], values[start : start + BLOCK], strict=True)
            client.log_batch(run, metrics=[Metric("train_loss", value, now, step) for step, value in block])
        client.set_terminated(run)

    variants: Mapping[str, Callable[[], Any]] = {"vr": ours, "mlflow": theirs}
    with store:
        return alternate(variants, rounds=rounds, warmup=1), mlflow.__version__
