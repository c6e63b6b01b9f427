"""`vr compare`: the whole protocol, from equal budgets to a verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from vrcli.cli import request as req
from vrcli.cli.settings import META
from vrcli.cli.sweep import INITIAL, SEARCH, SEARCH_SEED, SweepCommand, place_of, sweep_request
from vrcli.db.location import Location
from vrcli.errors import UsageError


class CompareCommand(SweepCommand):
    """`vr compare TASK --opt A --opt B` with the settings of task and training as options."""


def compare(
    ctx: typer.Context,
    task: str | None = req.TASK,
    opt: list[str] = typer.Option([], "--opt", help="optimizer; give two or more"),
    trials: int = typer.Option(0, "--trials", help="trials to tune each optimizer with; 0 takes the preset's settings"),
    seeds: int = typer.Option(5, "--seeds", help="fresh seeds for each optimizer, the same for all"),
    preset: str | None = req.PRESET,
    space: list[str] = typer.Option([], "--space", help="axis of the search: lr=log:1e-5:1e-1"),
    fix: list[str] = typer.Option([], "--fix", help="setting of the optimizers kept at a value: weight_decay=1e-5"),
    search: str = SEARCH,
    initial: int = INITIAL,
    search_seed: int = SEARCH_SEED,
    metric: str = typer.Option("best_val_loss", "--metric", help="result to compare: best_val_loss, test_loss, ..."),
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
    for flag, value, least in (("--trials", trials, 0), ("--seeds", seeds, 2), ("--jobs", jobs, 1)):
        if value < least:
            raise UsageError(f"{flag} must be >= {least}, got {value}")
    if not 0.5 <= level < 1:
        raise UsageError(f"--level must be in [0.5, 1), got {level:g}")
    if trials == 0:
        refuse_search(space, search, initial, search_seed)
    asked = req.request(
        task, opt=opt[0] if opt else None, preset=preset, seed=None, seeds=None, device=device, threads=threads,
        tag=tag, config=config, flags=ctx.meta[META],
    )  # fmt: skip
    if len(opt) < 2:
        raise UsageError("--opt must be given at least twice: vr compare cnn --opt vradam --opt adamw")
    from vrcli.cli.compare_display import CompareDisplay
    from vrcli.cli.compare_output import compare_json, compare_lines
    from vrcli.cli.console import say
    from vrcli.cli.watching import watch
    from vrcli.report.verdicts import verdict
    from vrcli.study import compare as study

    tuning = sweep_request(asked, opt, fix, space, search, initial, search_seed, "none", trials)
    request = study.CompareRequest(tuning, seeds, metric, level, target, asked.tag)
    place = place_of(database, data_dir, jobs, asked.threads, malloc_tuning)
    display = CompareDisplay(metric, tuning.device, quiet=quiet or format == "json")
    found = watch(lambda stop: study.compare(request, place, should_stop=stop), display)
    if format == "json":
        print(json.dumps(compare_json(found)))
    elif quiet:
        print("\n".join(map(verdict, found.comparisons)))
    else:
        for line in compare_lines(found, power=power):
            say(line, prose=True)


def refuse_search(space: Sequence[str], search: str, initial: int, search_seed: int) -> None:
    """Refuse what would say how to search, where nothing is searched.

    Raises:
        UsageError: one of them is not at its default.
    """
    for flag, given, default in (
        ("--space", list(space), []),
        ("--search", search, SEARCH.default),
        ("--initial", initial, INITIAL.default),
        ("--search-seed", search_seed, SEARCH_SEED.default),
    ):
        if given != default:
            raise UsageError(f"{flag} is for a search, and --trials 0 makes none; give --trials 20, say")
