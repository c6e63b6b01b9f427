"""`vr compare`: the whole protocol, from equal budgets to a verdict."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from vrcli import api
from vrcli.cli import request as req
from vrcli.cli.config_file import Choice
from vrcli.cli.console import say
from vrcli.cli.lazy import verb
from vrcli.cli.screen import show, suggest
from vrcli.cli.settings import PREFIX, load_task
from vrcli.cli.sweep import EQUAL, INITIAL, SEARCH, SEARCH_SEED, SweepCommand
from vrcli.cli.waiting import waiting
from vrcli.db.location import Location
from vrcli.errors import UsageError
from vrcli.report.wording import command as command_line
from vrcli.study.asked import DEFAULT_OPTIMIZER


class CompareCommand(SweepCommand):
    """`vr compare TASK --opt A --opt B` with the settings of task and training as options; of several tasks those that
    all of them have."""

    def _dynamic(self, choice: Choice) -> list[Any]:
        params = super()._dynamic(choice)
        if len(choice.tasks) < 2:
            return params
        own = {name: _shared_names(name) for name in choice.tasks}
        unknown = self._unknown

        def refused(name: str) -> UsageError:
            having = [task for task, names in own.items() if name.replace("-", "_") in names]
            if not having:
                return unknown(name)
            lacking = ", ".join(task for task in own if task not in having)
            return UsageError(
                f"--{name} is not a setting of {lacking}: with several tasks, give only settings that all of them have"
            )

        self._unknown = refused
        return [p for p in params if all(p.name.removeprefix(PREFIX) in names for names in own.values())]


def _shared_names(task: str) -> set[str]:
    """The settings of a task and of its training, by name."""
    from vrcli.settings import settings_of

    settings = settings_of(load_task(task), DEFAULT_OPTIMIZER).by_name
    return {name for name, one in settings.items() if one.section != "optimizer"}


def compare(
    ctx: typer.Context,
    task: list[str] = typer.Argument(None, help="task to train, or several (vr tasks list)", show_default=False),
    command: str | None = req.COMMAND,
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
    equal: str | None = EQUAL,
    search: str = SEARCH,
    initial: int | None = INITIAL,
    search_seed: int = SEARCH_SEED,
    vary_split: bool = typer.Option(False, "--vary-split", help="another split of the data for each search, or seed"),
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
    explain: bool = typer.Option(
        False, "--explain", help="also each verdict with its numbers in a sentence, and what the lines mean"
    ),
    by_budget: bool = typer.Option(
        False, "--by-budget", help="also what each search had found after a part of its trials, which takes more runs"
    ),
    jobs: int = typer.Option(1, "--jobs", "-j", help="runs at the same time; the threads are divided among them"),
    plan: bool = typer.Option(
        False, "--plan", help="show what would run, what is stored of it and an estimate of the time; run nothing"
    ),
    device: str | None = req.DEVICE,
    threads: int | None = req.THREADS,
    config: Path | None = req.CONFIG,
    data_dir: Path | None = req.DATA_DIR,
    tag: str | None = req.TAG,
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
    """Tune optimizers alike, and say which can be called better.

    The runs pair by seed: the same initial weights and the same order of the data. The same command again goes on
    where it was interrupted, and runs nothing twice. Of several tasks each has the whole protocol, and what holds over
    them follows.
    """
    req.check_format(format)
    words = req.words(ctx)
    words["task"] = words["task"] if len(words["task"] or ()) > 1 else next(iter(words["task"] or ()), None)
    if plan:
        return print_plan(words, format)
    with waiting("starting"):
        from vrcli.cli.compare_display import CompareDisplay

    with CompareDisplay(quiet=quiet or format == "json", summary=False) as display:
        found = api.compare(**words, watch=display.show)
    print_outcome(found, format, quiet, database)
    raise typer.Exit(int(bool(getattr(found, "failed", ()))))


def print_outcome(found: Any, format: str, quiet: bool, database: Location) -> None:
    """What stdout gets of the comparison of one task or several."""
    if format == "json":
        print(json.dumps(found.as_json()))
    elif quiet:
        from vrcli.report.study.across import summary

        for line in summary(found.result):
            say(line, prose=True)
    else:
        say()
        show(found.blocks(), argv=sys.argv, database=database)


def print_plan(words: Mapping[str, Any], format: str) -> None:
    """What the command would do."""
    with waiting("reading data, timing a few steps"):
        found = api.compare(**words, plan=True, watch=lambda event: None)
    if format == "json":
        print(json.dumps(found.as_json()))
        return
    show(found.blocks())
    suggest((command_line([word for word in sys.argv if word != "--plan"]), "begin"))


app = verb(compare, CompareCommand)
