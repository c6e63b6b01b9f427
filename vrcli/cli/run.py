"""`vr run`: train a task with an optimizer and store the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vrcli import api
from vrcli.cli import request as req
from vrcli.cli.config_file import Choice
from vrcli.cli.lazy import verb
from vrcli.cli.run_display import RunDisplay
from vrcli.cli.settings import SettingsCommand
from vrcli.cli.waiting import waiting
from vrcli.db.location import Location
from vrcli.errors import UsageError

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord


class RunCommand(SettingsCommand):
    """`vr run TASK --opt NAME` with every setting of both as an option."""

    def _dynamic(self, choice: Choice) -> list[Any]:
        if len(choice.optimizers) > 1:
            raise UsageError(
                f"--opt is given {len(choice.optimizers)} times; a run has one optimizer, vr compare takes several"
            )
        with waiting("importing torch, reading the task"):
            return super()._dynamic(choice)


def run(
    ctx: typer.Context,
    task: str | None = req.TASK,
    command: str | None = req.COMMAND,
    metric: str | None = req.OBJECTIVE,
    opt: str | None = typer.Option(
        None, "--opt", help="optimizer [default: vradam] (vr opts list)", show_default=False
    ),
    preset: str | None = req.PRESET,
    seed: int | None = req.SEED,
    seeds: int | None = typer.Option(None, "--seeds", help="train with this many seeds", show_default=False),
    device: str | None = req.DEVICE,
    threads: int | None = req.THREADS,
    config: Path | None = req.CONFIG,
    data_dir: Path | None = req.DATA_DIR,
    tag: str | None = req.TAG,
    database: Location = req.DB,
    format: str = req.FORMAT,
    quiet: bool = req.QUIET,
    lr_from: str | None = typer.Option(
        None,
        "--lr-from",
        metavar="RUN",
        show_default=False,
        help="replay this run's effective learning rates step for step, in place of --lr and --schedule",
    ),
    keep_weights: str | None = req.KEEP_WEIGHTS,
    new: bool = typer.Option(False, "--new", help="start a new run, even if one like it was interrupted"),
    probe: list[str] = req.PROBE,
    probe_every: str | None = req.PROBE_EVERY,
    checkpoint_every: str = req.CHECKPOINT_EVERY,
    checkpoint_dir: Path | None = req.CHECKPOINT_DIR,
    malloc_tuning: bool = req.MALLOC,
    debug: bool = req.DEBUG,
) -> None:
    """Train a task with an optimizer, and store the run.

    A run that was interrupted goes on when the same command is given again.

    `vr run cnn --opt sgd --help` lists the settings of that task and that optimizer.
    """
    req.check_format(format)
    with RunDisplay({}, quiet=quiet or format == "json", summary=format == "text", database=database) as display:
        found = api.run(**req.words(ctx), watch=display.show)
    if format == "json":
        print(json.dumps(found.as_json()))
    raise typer.Exit(exit_code(found.runs))


app = verb(run, RunCommand)


def exit_code(records: Sequence[RunRecord]) -> int:
    """0 when every run completed, 130 after an interruption, 1 otherwise."""
    statuses = {record.status for record in records}
    if "interrupted" in statuses:
        return 130
    return 0 if statuses == {"completed"} else 1
