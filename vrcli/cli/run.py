"""`vr run`: train a task with an optimizer and store the run."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import request as req
from vrcli.cli.settings import META, Choice, SettingsCommand
from vrcli.db.location import Location
from vrcli.errors import UsageError

if TYPE_CHECKING:
    from vrcli.cli.request import Request
    from vrcli.db.records import RunRecord


class RunCommand(SettingsCommand):
    """`vr run TASK --opt NAME` with every setting of both as an option."""

    def _dynamic(self, choice: Choice) -> list[Any]:
        if len(choice.optimizers) > 1:
            raise UsageError(
                f"--opt is given {len(choice.optimizers)} times; a run has one optimizer, vr compare takes several"
            )
        return super()._dynamic(choice)


def run(
    ctx: typer.Context,
    task: str | None = req.TASK,
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
    malloc_tuning: bool = req.MALLOC,
    debug: bool = req.DEBUG,
) -> None:
    """Train a task with an optimizer; configuration and loss curves go to the database.

    `vr run cnn --opt sgd --help` lists the settings of that task and that optimizer.
    """
    req.check_format(format)
    asked = req.request(
        task, opt=opt, preset=preset, seed=seed, seeds=seeds, device=device, threads=threads, tag=tag, config=config,
        flags=ctx.meta[META],
    )  # fmt: skip
    records = train_all(
        asked, database, data_dir, quiet=quiet or format == "json", tune=malloc_tuning, text=format == "text"
    )
    if format == "json":
        from vrcli.results.flat import as_json

        bodies = [as_json(record) for record in records]
        print(json.dumps(bodies[0] if len(asked.seeds) == 1 else bodies))
    raise typer.Exit(exit_code(records))


def train_all(
    asked: Request, database: Location, data_dir: Path | None, *, quiet: bool, tune: bool, text: bool
) -> list[RunRecord]:
    """One stored run per seed, in order; stops early when interrupted."""
    from vrcli.engine.allocator import keep_freed_memory

    tuned = tune and keep_freed_memory()  # before torch allocates anything

    from vrcli.cli.console import RunDisplay, notice
    from vrcli.engine.prepare import DataCache
    from vrcli.execute.job import Lineage
    from vrcli.execute.run import execute, stop_requests

    task, specs = asked.resolve()
    group = f"{asked.task}-{asked.optimizer}-{secrets.token_hex(3)}" if len(specs) > 1 else None
    cache, records = DataCache(), []
    with stop_requests() as should_stop, req.open_store(database) as store:
        for resolved in specs:
            display = RunDisplay(resolved.origins, quiet=quiet, summary=text)
            record = execute(
                resolved.spec, task, store, watcher=display, data_dir=data_dir, cache=cache, malloc_tuned=tuned,
                notice=notice, should_stop=should_stop, lineage=Lineage(asked.tag, group),
            )  # fmt: skip
            records.append(record)
            if record.status == "interrupted":
                break
    return records


def exit_code(records: list[RunRecord]) -> int:
    """0 when every run completed, 130 after an interruption, 1 otherwise."""
    statuses = {record.status for record in records}
    if "interrupted" in statuses:
        return 130
    return 0 if statuses == {"completed"} else 1
