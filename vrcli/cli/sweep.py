"""`vr sweep`: search the settings of one or more optimizers under equal budgets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import request as req
from vrcli.cli.settings import META, Choice, SettingsCommand
from vrcli.db.location import Location
from vrcli.errors import UsageError

if TYPE_CHECKING:
    from vrcli.execute.place import Place
    from vrcli.study.define import SweepRequest
    from vrcli.study.events import SweepResult


class SweepCommand(SettingsCommand):
    """`vr sweep TASK` with the settings of task and training as options; those of the optimizer are searched."""

    with_optimizer = False

    def _dynamic(self, choice: Choice) -> list[Any]:
        from vrcli.cli.settings import DEFAULT_OPTIMIZER, load_task
        from vrcli.spec import settings_of

        params = super()._dynamic(choice)
        optimizer = choice.optimizers[0] if choice.optimizers else DEFAULT_OPTIMIZER
        settings = settings_of(load_task(choice.task or ""), optimizer)

        def unknown(name: str) -> UsageError:
            name = name.replace("-", "_")
            setting = settings.by_name.get(name)
            if setting is not None and setting.section == "optimizer":
                return UsageError(
                    f"{setting.flag} is a setting of {optimizer}: --fix {name}=VALUE fixes it, --space {name}=LOW:HIGH "
                    f"searches it"
                )
            return settings.unknown(name)

        self._unknown = unknown
        return params


TRIALS = typer.Option(40, "--trials", help="trials of each optimizer in all; a larger number extends a sweep")
INITIAL = typer.Option(8, "--initial", help="points of a Sobol sequence before the search learns")
SEARCH = typer.Option("gp", "--search", help="gp, forest, random or sobol")
SEARCH_SEED = typer.Option(0, "--search-seed", help="seed of the search")
JOBS = typer.Option(
    1, "--jobs", "-j",
    help="trials that run at the same time; the threads are divided among them, and what is tried next depends on "
    "which of them ends first",
)  # fmt: skip
PLAN = typer.Option(
    False, "--plan", help="show spaces, budget, what is stored and an estimate of the time; run nothing"
)


def sweep(
    ctx: typer.Context,
    task: str | None = req.TASK,
    opt: list[str] = typer.Option([], "--opt", help="optimizer; repeat for several [default: vradam]"),
    trials: int = TRIALS,
    preset: str | None = req.PRESET,
    space: list[str] = typer.Option(
        [], "--space", help="axis: lr=log:1e-5:1e-1, lr_cutoff=int:5:30, normgrad=true,false"
    ),
    fix: list[str] = typer.Option([], "--fix", help="setting of the optimizer kept at a value: weight_decay=1e-5"),
    search: str = SEARCH,
    initial: int = INITIAL,
    search_seed: int = SEARCH_SEED,
    prune: str = typer.Option("none", "--prune", help="stop hopeless trials early: median or halving"),
    seed: int | None = req.SEED,
    seeds: int | None = typer.Option(
        None, "--seeds", help="runs of each trial, averaged [default: 1]", show_default=False
    ),
    confirm_seeds: int = typer.Option(0, "--confirm-seeds", help="run the best settings on this many fresh seeds"),
    jobs: int = JOBS,
    plan: bool = PLAN,
    new: bool = typer.Option(False, "--new", help="begin another sweep beside an unfinished one with other settings"),
    device: str | None = req.DEVICE,
    threads: int | None = req.THREADS,
    config: Path | None = req.CONFIG,
    data_dir: Path | None = req.DATA_DIR,
    database: Location = req.DB,
    format: str = req.FORMAT,
    quiet: bool = req.QUIET,
    malloc_tuning: bool = req.MALLOC,
    debug: bool = req.DEBUG,
) -> None:
    """Search an optimizer's settings for the best validation loss; every optimizer gets the same budget.

    The same command again goes on where it was interrupted; a larger --trials extends it.
    """
    req.check_format(format)
    for flag, value, least in (("--trials", trials, 1), ("--jobs", jobs, 1), ("--confirm-seeds", confirm_seeds, 0)):
        if value < least:
            raise UsageError(f"{flag} must be >= {least}, got {value}")
    asked = req.request(
        task, opt=opt[0] if opt else None, preset=preset, seed=seed, seeds=seeds, device=device, threads=threads,
        tag=None, config=config, flags=ctx.meta[META],
    )  # fmt: skip
    from vrcli.cli.sweep_display import SweepDisplay
    from vrcli.cli.sweep_output import plan_json, plan_line
    from vrcli.cli.watching import watch
    from vrcli.study import sweep as study

    request = sweep_request(asked, opt, fix, space, search, initial, search_seed, prune, trials)
    request = replace(request, new=new, confirm_seeds=confirm_seeds)
    place = place_of(database, data_dir, jobs, asked.threads, malloc_tuning)
    display = SweepDisplay(quiet=quiet or format == "json", plan=plan)
    if plan:
        planned = watch(lambda _: study.plan(request, place), display)
        if format == "json" or quiet:
            print(json.dumps(plan_json(planned)) if format == "json" else plan_line(planned))
        raise typer.Exit(0)
    found = watch(lambda stop: study.sweep(request, place, should_stop=stop), display)
    raise typer.Exit(print_outcome(found, format, quiet))


def print_outcome(found: SweepResult, format: str, quiet: bool) -> int:
    """What stdout gets beside the display.

    Returns:
        The exit code: 0 when every search found settings, 1 when no trial of one completed.
    """
    from vrcli.cli.sweep_output import outcome_lines, sweep_json

    if format == "json":
        print(json.dumps(sweep_json(found)))
    elif quiet:
        print("\n".join(outcome_lines(found)))
    return int(any(one.best is None for one in found.searches))


def place_of(database: Location, data_dir: Path | None, jobs: int, threads: int | None, tune: bool) -> Place:
    """Where the command's runs run."""
    from vrcli.execute.place import Place

    return Place(database, data_dir, jobs, threads, tune)


def sweep_request(
    asked: req.Request, opt: Sequence[str], fix: Sequence[str], space: Sequence[str], search: str, initial: int,
    search_seed: int, prune: str, trials: int,
) -> SweepRequest:  # fmt: skip
    """The request in the sweep's terms."""
    from vrcli.engine.prepare import pick_device
    from vrcli.study.define import SweepRequest

    return SweepRequest(
        task=asked.task, optimizers=list(opt) or [asked.optimizer], preset=asked.preset, config=asked.config,
        flags=asked.flags, fixed=fix, spaces=space, seeds=asked.seeds, device=pick_device(asked.device),
        search=search, initial=initial, search_seed=search_seed, prune=prune, trials=trials,
    )  # fmt: skip
