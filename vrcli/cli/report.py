"""`vr report`: tables of what was stored."""

from __future__ import annotations

import typer

from vrcli.cli import request as req
from vrcli.errors import UsageError, nearest


def report(
    tasks: list[str] = typer.Argument(None, help="only these tasks", show_default=False),
    opt: list[str] = typer.Option([], "--opt", help="only these optimizers"),
    preset: str | None = typer.Option(None, "--preset", help="only this preset"),
    tag: str | None = typer.Option(None, "--tag", help="only runs with this tag"),
    database: str = req.DB,
    format: str = typer.Option(
        "markdown", "--format", help="markdown, csv, json, latex, html, ... (as tabulate has them)"
    ),
    debug: bool = req.DEBUG,
) -> None:
    """Print task x optimizer: best validation loss, test loss, seeds and budget."""
    import sys

    from vrcli.cli.console import notice
    from vrcli.cli.runs import open_existing
    from vrcli.report.tables import formats, render, summarise

    if format not in formats():
        raise UsageError(f"--format {format} is not known{nearest(format, formats()) or '; ' + ', '.join(formats())}")
    with open_existing(database) as store:
        found = store.runs(task=tasks or None, optimizer=opt or None, preset=preset, tag=tag)
    finished = [run for run in found if run.status in ("completed", "diverged")]
    if not finished and format not in ("csv", "json"):
        notice("no finished runs yet, or none that match; start with: vr run cnn --opt vradam")
        return
    left_out = len(found) - len(finished)
    if left_out:
        notice(f"{left_out} run{'s' * (left_out != 1)} still running, failed or interrupted: not in the table")
    sys.stdout.write(render(summarise(finished), format).rstrip("\n") + "\n")
