"""`vr compare`: the whole protocol, from equal budgets to a verdict."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from vrcli import api
from vrcli.cli import request as req
from vrcli.cli.console import say
from vrcli.cli.lazy import verb
from vrcli.cli.sweep import INITIAL, SEARCH, SEARCH_SEED, SweepCommand
from vrcli.db.location import Location


class CompareCommand(SweepCommand):
    """`vr compare TASK --opt A --opt B` with the settings of task and training as options."""


def compare(
    ctx: typer.Context,
    task: str | None = req.TASK,
    opt: list[str] = typer.Option([], "--opt", help="optimizer; give two or more"),
    trials: int = typer.Option(0, "--trials", help="trials of each search; 0 takes the preset's settings"),
    searches: int | None = typer.Option(
        None, "--searches", help="independent searches of each optimizer [default: 5]", show_default=False
    ),
    seeds: int | None = typer.Option(
        None,
        "--seeds",
        help="fresh seeds for each search, the same for all [default: 3; 5 without a search]",
        show_default=False,
    ),
    seed: int | None = typer.Option(
        None, "--seed", help="first seed; another one repeats the whole protocol [default: 0]", show_default=False
    ),
    preset: str | None = req.PRESET,
    space: list[str] = typer.Option([], "--space", help="axis of the search: lr=log:1e-5:1e-1"),
    fix: list[str] = typer.Option([], "--fix", help="setting of the optimizers kept at a value: weight_decay=1e-5"),
    search: str = SEARCH,
    initial: int | None = INITIAL,
    search_seed: int = SEARCH_SEED,
    vary_split: bool = typer.Option(False, "--vary-split", help="another split of the data for each search"),
    metric: str | None = typer.Option(
        None,
        "--metric",
        help="result to compare: best_val_loss, test_accuracy, ... [default: test loss]",
        show_default=False,
    ),
    against: str | None = typer.Option(None, "--against", help="compare all with this optimizer, not every pair"),
    primary: str | None = typer.Option(None, "--primary", help="the pair that counts: vradam,adamw"),
    margin: str | None = typer.Option(None, "--margin", help="what counts as equal: 0.005, or 2%"),
    looks: int = typer.Option(1, "--looks", help="looks at the result while searches are added; may stop early"),
    level: float = typer.Option(0.95, "--level", help="of the intervals; 1 - level is the verdict's error rate"),
    target: float | None = typer.Option(None, "--target", help="also steps and seconds to this validation loss"),
    power: bool = typer.Option(False, "--power", help="also what more seeds could show"),
    jobs: int = typer.Option(1, "--jobs", "-j", help="runs at the same time; the threads are divided among them"),
    device: str | None = req.DEVICE,
    threads: int | None = req.THREADS,
    config: Path | None = req.CONFIG,
    data_dir: Path | None = req.DATA_DIR,
    tag: str | None = req.TAG,
    database: Location = req.DB,
    format: str = req.FORMAT,
    quiet: bool = req.QUIET,
    malloc_tuning: bool = req.MALLOC,
    debug: bool = req.DEBUG,
) -> None:
    """Compare optimizers: tune each with the same budget, run fresh seeds, and say what can be claimed.

    The runs pair by seed: the same initial weights and the same order of the data. The same command again goes on
    where it was interrupted, and runs nothing twice.
    """
    req.check_format(format)
    from vrcli.cli.compare_display import CompareDisplay

    with CompareDisplay(metric, quiet=quiet or format == "json", summary=False) as display:
        found = api.compare(**req.words(ctx), watch=display.show)
    if format == "json":
        print(json.dumps(found.as_json()))
    elif quiet:
        for line in found.verdicts:
            say(line)
    else:
        say()
        for line in str(found).splitlines():
            say(line, prose=True)


app = verb(compare, CompareCommand)
