"""`vr report`: tables of what was stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import typer

from vrcli.cli import request as req
from vrcli.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from db.store import Store
    from vrcli.report.types import Known


def report(
    tasks: list[str] = typer.Argument(None, help="only these tasks", show_default=False),
    opt: list[str] = typer.Option([], "--opt", help="only these optimizers"),
    preset: str | None = typer.Option(None, "--preset", help="only this preset"),
    tag: str | None = typer.Option(None, "--tag", help="only runs with this tag"),
    metric: list[str] = typer.Option([], "--metric", help="results to show, the first orders the rows: best_val_loss"),
    every_trial: bool = typer.Option(False, "--trials", help="also every trial of a sweep, as a row of its own"),
    best_only: bool = typer.Option(False, "--best", help="one row per optimizer: its best settings"),
    database: str = req.DB,
    format: str = typer.Option(
        "markdown", "--format", help="markdown, csv, json, latex, html, ... (as tabulate has them)"
    ),
    debug: bool = req.DEBUG,
) -> None:
    """Print task x optimizer: best validation loss, test loss, seeds and budget (trials x epochs).

    Of a sweep stand the runs on fresh seeds (--confirm-seeds), or its best trial where there are none.
    """
    import sys

    from vrcli.cli.console import notice
    from vrcli.cli.runs import open_existing
    from vrcli.report.groups import FINISHED
    from vrcli.report.selection import Selection, quotable
    from vrcli.report.tables import default_columns, formats, render, summarise
    from vrcli.report.types import Column

    if format not in formats():
        raise UsageError(f"--format {format} is not known{nearest(format, formats()) or '; ' + ', '.join(formats())}")
    with open_existing(database) as store:
        found = store.runs(task=tasks or None, optimizer=opt or None, preset=preset, tag=tag)
        counts = trial_counts(store)
        stopped = stopped_early(store, {run.sweep_id for run in found if run.sweep_id is not None})
    finished = [run for run in found if run.status in FINISHED]
    if not finished and format not in ("csv", "json"):
        notice("no finished runs yet, or none that match; start with: vr run cnn --opt vradam")
        return
    results = {name for run in finished for name in run.results}
    for name in metric:
        if name not in results:
            raise UsageError(f"--metric {name} is no result of these runs{nearest(name, results)}")
    selection = quotable(finished, counts)
    if every_trial:
        own = {run.id: counts[run.sweep_id] for run in finished if run.sweep_id in counts}
        selection = Selection(finished, own, 0, 0)
    early = {trial for trials in stopped.values() for trial in trials}
    if early:
        notice(f"{len(early)} trials of {len(stopped)} sweep(s) were stopped early (--prune)")
    unfinished = [r for r in found if r.status not in FINISHED and r.trial_id not in early]
    if unfinished:
        notice(f"{len(unfinished)} runs still running, failed or interrupted: not in the table")
    if selection.searched:
        notice(f"{selection.searched} runs of sweeps' trials: not in the table (--trials shows them)")
    if selection.flattered:
        notice("some rows show the best trial of a sweep on the search's own seed; --confirm-seeds gives fresh ones")
    known = declared(run.task for run in selection.runs)
    columns = [Column.of(name, known) for name in metric] or default_columns(selection.runs, known)
    if best_only and columns[0].direction is None:
        raise UsageError(f"--best: whether less or more {columns[0].key} is better is not known; order by a --metric")
    pruned = {run.id for run in selection.runs if run.sweep_id in stopped}
    table = summarise(selection.runs, columns, trials=selection.trials, pruned=pruned, one_per_optimizer=best_only)
    sys.stdout.write(render(table, format).rstrip("\n") + "\n")
    if format in ("tsv", "csv"):
        for note in table.notes:
            notice(note)


def declared(tasks: Iterable[str]) -> Known:
    """What the tasks say of their metrics, by result name; nothing of a task that is not available here."""
    from tasks.registry import UnknownTask, load

    found: dict[str, tuple[Literal["min", "max"] | None, bool]] = {}
    for task in sorted(set(tasks)):
        try:
            metrics = load(task).metrics
        except UnknownTask:
            continue
        for metric in metrics:
            for prefix in ("best_val", "final_val", "val", "test"):
                key = f"{prefix}_{metric.name}"
                direction, percent = found.get(key, (metric.direction, metric.percent))
                found[key] = (direction if direction == metric.direction else None, percent and metric.percent)
    return found


def stopped_early(store: Store, sweeps: Iterable[int]) -> dict[int, set[int]]:
    """The trials that were pruned, by sweep; of sweeps that have some."""
    found = {sweep: {trial.id for trial in store.trials(sweep, state="pruned")} for sweep in sweeps}
    return {sweep: trials for sweep, trials in found.items() if trials}


def trial_counts(store: Store) -> dict[int, int]:
    """Ended trials by sweep."""
    counts = {}
    for sweep in store.sweeps():
        trials = store.trials(sweep.id)
        counts[sweep.id] = sum(trial.state not in ("pending", "running", "interrupted") for trial in trials)
    return counts
