"""`vr sweep`: search the settings of one or more optimizers under equal budgets."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vrcli import api
from vrcli.cli import request as req
from vrcli.cli.config_file import Choice
from vrcli.cli.console import say
from vrcli.cli.lazy import verb
from vrcli.cli.settings import SettingsCommand, load_task
from vrcli.cli.waiting import waiting
from vrcli.db.location import Location
from vrcli.passwords import masked_line
from vrcli.study.asked import DEFAULT_OPTIMIZER

if TYPE_CHECKING:
    from vrcli.plan_outcomes import PlanOutcome
    from vrcli.study.results import SweepResult


class SweepCommand(SettingsCommand):
    """`vr sweep TASK` with the settings of task and training as options; those of the optimizer are searched."""

    with_optimizer = False

    def _dynamic(self, choice: Choice) -> list[Any]:
        from vrcli.settings import settings_of
        from vrcli.study.define import no_shared_setting

        with waiting("importing torch, reading the task"):
            params = super()._dynamic(choice)
        optimizer = choice.optimizers[0] if choice.optimizers else DEFAULT_OPTIMIZER
        self._unknown = partial(no_shared_setting, settings_of(load_task(choice.task or ""), optimizer))
        return params


TRIALS = typer.Option(40, "--trials", help="trials of each optimizer in all; a larger number extends a sweep")
INITIAL = typer.Option(
    None, "--initial", show_default=False,
    help="points of a Sobol sequence before the search learns [default: a third of the trials, 3 to 8]",
)  # fmt: skip
EQUAL = typer.Option(
    None, "--equal", metavar="NAMES", show_default=False,
    help="search these settings of every optimizer and no others, lr or lr,weight_decay; the others stay as stated",
)  # fmt: skip
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
    command: str | None = req.COMMAND,
    metric: str | None = req.OBJECTIVE,
    opt: list[str] = typer.Option([], "--opt", help="optimizer; repeat for several [default: vradam]"),
    trials: int = TRIALS,
    searches: int = typer.Option(1, "--searches", help="independent searches of each optimizer"),
    preset: str | None = req.PRESET,
    space: list[str] = typer.Option(
        [], "--space", help="axis: lr=log:1e-5:1e-1, lr_cutoff=int:5:30, normgrad=true,false"
    ),
    fix: list[str] = typer.Option([], "--fix", help="setting of the optimizer kept at a value: weight_decay=1e-5"),
    equal: str | None = EQUAL,
    search: str = SEARCH,
    initial: int | None = INITIAL,
    search_seed: int = SEARCH_SEED,
    prune: str = typer.Option("none", "--prune", help="stop hopeless trials early: median or halving"),
    seed: int | None = req.SEED,
    seeds: int | None = typer.Option(
        None, "--seeds", help="runs of each trial, averaged [default: 1]", show_default=False
    ),
    confirm_seeds: int = typer.Option(0, "--confirm-seeds", help="run the best settings on this many fresh seeds"),
    jobs: int = JOBS,
    plan: bool = PLAN,
    new: bool = typer.Option(
        False, "--new", help="start another sweep beside an unfinished one that has other settings"
    ),
    device: str | None = req.DEVICE,
    threads: int | None = req.THREADS,
    config: Path | None = req.CONFIG,
    data_dir: Path | None = req.DATA_DIR,
    database: Location = req.DB,
    format: str = req.FORMAT,
    quiet: bool = req.QUIET,
    probe: list[str] = req.PROBE,
    probe_every: str | None = req.PROBE_EVERY,
    checkpoint_every: str = req.CHECKPOINT_EVERY,
    checkpoint_dir: Path | None = req.CHECKPOINT_DIR,
    malloc_tuning: bool = req.MALLOC,
    debug: bool = req.DEBUG,
) -> None:
    """Search settings; every optimizer gets the same budget.

    The same command again goes on where it was interrupted; a larger --trials extends it.
    """
    req.check_format(format)
    with waiting("starting"):
        from vrcli.cli.sweep_display import SweepDisplay

    with SweepDisplay(quiet=quiet or format == "json", plan=plan, database=database) as display:
        if plan:
            planned = api.plan(**req.words(ctx), watch=display.show)
            print_plan(planned, format, quiet)
            return
        found = api.sweep(**req.words(ctx), watch=display.show)
    raise typer.Exit(print_outcome(found.result, format, quiet))


def print_plan(planned: PlanOutcome, format: str, quiet: bool) -> None:
    """What stdout gets of a plan beside the display."""
    from vrcli.report.study.sweep import plan_line

    if format == "json":
        print(json.dumps(planned.as_json()))
    elif quiet:
        say(plan_line(planned.result))


def print_outcome(found: SweepResult, format: str, quiet: bool) -> int:
    """What stdout gets beside the display.

    Returns:
        The exit code: 0 when every search found settings, 1 when no trial of one completed.
    """
    from vrcli.report.study.sweep import outcome_lines, sweep_json

    if format == "json":
        print(json.dumps(sweep_json(found)))
    elif quiet:
        for line in outcome_lines(found):
            say(masked_line(line))
    return int(any(one.best is None for one in found.searches))


app = verb(sweep, SweepCommand)
