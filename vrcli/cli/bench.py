"""`vr bench`: how fast things are, measured side by side on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import request as req
from vrcli.cli.console import notice, say
from vrcli.cli.lazy import noun
from vrcli.cli.screen import show_rows
from vrcli.errors import UsageError
from vrcli.report.study.blocks import Rows
from vrcli.report.wording import counted

if TYPE_CHECKING:
    from vrcli.bench.tasks import TaskBench
    from vrcli.bench.timing import Timings

app = noun("Measure speed, side by side.")

ROUNDS = typer.Option(15, "--rounds", min=1, help="values behind each median")
#: Points of each write that is timed beside MLflow's.
SIDE_POINTS = 10_000


@app.command("optim")
def optim(
    lists: list[str] = typer.Argument(None, help="cnn, resnet32, transformer, unet, gpt2", show_default="all"),
    rounds: int = ROUNDS,
    threads: int | None = req.THREADS,
    device: str | None = req.DEVICE,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Time one step of VRAdam beside torch's AdamW. The parameter shapes are those of five networks."""
    req.check_format(format)
    from vrcli.bench.optim import bench_optim
    from vrcli.engine.allocator import keep_freed_memory
    from vrcli.engine.prepare import pick_device

    keep_freed_memory()
    found = bench_optim(lists or None, rounds=rounds, threads=threads, device=pick_device(device or "auto"))
    rows = [
        {"list": r.list_name, "tensors": r.tensors, "parameters": f"{r.parameters / 1e6:.1f}M", "optimizer": r.variant,
         "ms/step": f"{r.step_ms:.3f}", "x fused": f"{r.ratio:.2f}",
         "quartiles": f"{r.ratio_low:.2f}-{r.ratio_high:.2f}"}
        for r in found
    ]  # fmt: skip
    how = f"medians of {rounds} alternating rounds, {counted(found[0].threads, 'thread')}"
    _print(rows, f"{how}; x fused: against torch's fused AdamW", format)


@app.command("task")
def task(
    names: list[str] = typer.Argument(help="tasks: cnn, transformer, gflownet, diffusion"),
    preset: str = typer.Option("quick", "--preset", help="named configuration of the task"),
    dataset: str | None = typer.Option(None, "--dataset", help="another data set, as in vr run", show_default=False),
    batch_size: int | None = typer.Option(None, "--batch-size", min=1, help="samples per step", show_default=False),
    precision: str = typer.Option("fp32", "--precision", help="of vr's side: fp32, bf16 or auto"),
    plain_precision: str = typer.Option("fp32", "--plain-precision", help="of the plain loop: fp32 or bf16"),
    rounds: int = typer.Option(7, "--rounds", min=1, help="values behind each median"),
    seconds: float = typer.Option(1.0, "--seconds", min=0.01, help="length of one measurement"),
    threads: int | None = req.THREADS,
    data_dir: Path | None = req.DATA_DIR,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Train a task with vr's engine and with a plain PyTorch loop. Both have the same data, model and batch."""
    req.check_format(format)
    from vrcli.bench.tasks import bench_task
    from vrcli.engine.allocator import keep_freed_memory

    keep_freed_memory()  # both sides run in this process
    settings = {k: v for k, v in (("dataset", dataset), ("batch_size", batch_size)) if v is not None}
    found = [
        bench_task(name, preset=preset, settings=settings, precision=precision, plain_precision=plain_precision,
                   rounds=rounds, block_s=seconds, threads=threads, data_dir=data_dir, notice=notice)
        for name in names
    ]  # fmt: skip
    note = (
        f"medians of {rounds} alternating rounds of {seconds:g} s, {counted(found[0].threads, 'thread')}; "
        "precision: vr/plain; loop and store: what measuring and recording add"
    )
    _print([task_row(one) for one in found], note, format)


def task_row(r: TaskBench) -> dict[str, Any]:
    """A line of `vr bench task`."""
    return {
        "task": r.task, "data": r.dataset, "batch": r.batch_size, "precision": f"{r.precision}/{r.plain_precision}",
        "plain steps/s": f"{r.plain_steps_per_s:.1f}", "vr steps/s": f"{r.steps_per_s:.1f}",
        "speed-up": f"{r.speedup:.2f}", "quartiles": f"{r.speedup_low:.2f}-{r.speedup_high:.2f}",
        "loop": f"{100 * r.loop_cost:.1f}%", "store": f"{100 * r.store_cost:.1f}%",
    }  # fmt: skip


@app.command("sweep")
def sweep(
    sizes: list[int] = typer.Option([40, 200], "--told", min=1, help="trials told before the timed ask"),
    rounds: int = typer.Option(7, "--rounds", min=1, help="values behind each median"),
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Time what a search costs per trial. A trial costs one ask and one tell, here after so many trials."""
    req.check_format(format)
    from vrcli.bench.sweep import rows

    _print(rows(sizes=sizes, rounds=rounds), f"medians of {rounds}; 5 axes as in vradam's space", format)


@app.command("store")
def store(
    runs: int = typer.Option(10_000, "--runs", min=1, help="runs of the generated database"),
    points: int = typer.Option(1000, "--points", min=1, help="points of each run's curve"),
    rounds: int = typer.Option(5, "--rounds", min=1, help="values behind each median"),
    mlflow: bool = typer.Option(False, "--mlflow", help="also write the same points to MLflow's SQLite backend"),
    folder: Path | None = typer.Option(None, "--folder", help="where it is generated, and kept", show_default=False),
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Time writing points, and reading a database of many runs. It reads lists, reports and envelopes."""
    req.check_format(format)
    from vrcli.bench.store import against_mlflow, bench_store
    from vrcli.leftovers import scratch_folder

    if folder is not None and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--folder {folder} must be an empty folder")
    with scratch_folder() if folder is None else nullcontext(folder) as place:
        side = against_mlflow(place, points=SIDE_POINTS, rounds=max(5, rounds)) if mlflow else None
        found = bench_store(place, runs=runs, points=points, rounds=rounds, notice=notice)
    rows: list[dict[str, Any]] = [
        {"value": f.value, "unit": f.unit, "worst": f.worst, "n": f.n, "what": f.what} for f in found
    ]
    note = f"{runs:,} runs of {points:,} points; medians of n"
    if side is not None:
        more, compared = side_rows(*side)
        rows, note = rows + more, note + compared
    _print(rows, note, format)


@app.command("stats")
def stats(
    rounds: int = typer.Option(5, "--rounds", min=1, help="values behind each median"),
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Time vr compare where every run is stored. 4 optimizers have 5 searches of 8 trials and 3 fresh seeds each."""
    req.check_format(format)
    from vrcli.bench.stats import bench_stats
    from vrcli.leftovers import scratch_folder

    with scratch_folder() as place:
        found = bench_stats(place, rounds=rounds)
    rows = [{"value": f.value, "unit": f.unit, "worst": f.worst, "n": f.n, "what": f.what} for f in found]
    _print(rows, "medians of n, without imports; made-up results, stored by the protocol itself", format)


@app.command("track")
def track(
    steps: int = typer.Option(500, "--steps", min=1, help="steps of one round, of ten metrics each"),
    rounds: int = typer.Option(5, "--rounds", min=1, help="values behind each median"),
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Time what vrcli.track costs a training script per step. Other trackers that are installed are timed beside it."""
    req.check_format(format)
    from vrcli.bench.track import METRICS, rows
    from vrcli.leftovers import scratch_folder

    with scratch_folder() as place:
        found = rows(place, steps=steps, rounds=rounds)
    _print(found, f"medians of {rounds} rounds of {steps} steps, {METRICS} tensors each, closing included", format)


def side_rows(timings: Timings, version: str) -> tuple[list[dict[str, Any]], str]:
    """The rows of what was written to both stores, and how their times compare."""
    rows = []
    for name in ("vr", "mlflow"):
        seconds = timings.seconds[name]
        rows.append({
            "value": SIDE_POINTS / timings.median_s(name), "unit": "points/s", "worst": SIDE_POINTS / max(seconds),
            "n": len(seconds), "what": f"write blocks of 1,000 points: {name}",
        })  # fmt: skip
    low, high = timings.ratio_range("mlflow", "vr")
    return rows, f"; MLflow {version} takes {timings.ratio('mlflow', 'vr'):.1f} x as long ({low:.1f}-{high:.1f})"


def _print(rows: Sequence[Mapping[str, Any]], note: str, format: str) -> None:
    from vrcli.engine.provenance import cpu_name

    if format == "json":
        print(json.dumps({"machine": cpu_name(), "note": note, "rows": list(rows)}))
        return
    rows = [{name: _number(v) if isinstance(v, float) else v for name, v in row.items()} for row in rows]
    columns = list(rows[0])
    text = [c for c in columns if not str(rows[0][c])[:1].isdigit()]
    show_rows(Rows(columns, rows, [c for c in columns if c not in text], [c for c in ("what",) if c in columns]))
    say(f"{note}; {cpu_name()}", prose=True)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
