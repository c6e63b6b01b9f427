"""`vr bench`: how fast things are, measured side by side on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from vrcli.cli import request as req

app = typer.Typer(help="Measure speed, side by side.", no_args_is_help=True, rich_markup_mode=None)

ROUNDS = typer.Option(15, "--rounds", min=1, help="values behind each median")


@app.command("optim")
def optim(
    lists: list[str] = typer.Argument(None, help="cnn, resnet32, transformer, unet, gpt2", show_default="all"),
    rounds: int = ROUNDS,
    threads: int | None = req.THREADS,
    device: str | None = req.DEVICE,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Time one step of VRAdam against torch's AdamW on the parameter shapes of five networks."""
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
    note = f"medians of {rounds} alternating rounds, {found[0].threads} threads; x fused: against torch's fused AdamW"
    _print(rows, note, format)


def _print(rows: Sequence[Mapping[str, Any]], note: str, format: str) -> None:
    from vrcli.cli.console import say
    from vrcli.cli.grid import grid
    from vrcli.engine.provenance import cpu_name

    if format == "json":
        print(json.dumps({"machine": cpu_name(), "note": note, "rows": list(rows)}))
        return
    columns = list(rows[0])
    text = [c for c in columns if not str(rows[0][c])[:1].isdigit()]
    for line in grid(columns, rows, right=[c for c in columns if c not in text]):
        say(line)
    say(f"{note}; {cpu_name()}")
