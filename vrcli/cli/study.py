"""`vr study`: whole experiments that are written down in files, those of the papers among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vrcli import studies
from vrcli.cli import request as req
from vrcli.cli import screen
from vrcli.cli.console import err, put, say
from vrcli.cli.lazy import noun
from vrcli.cli.scaffold.study import write_study
from vrcli.cli.study_display import StudyDisplay
from vrcli.db.location import Location
from vrcli.errors import UsageError
from vrcli.report.study.blocks import Rows
from vrcli.report.wording import counted
from vrcli.study.files import check as checks
from vrcli.study.files.read import find, own, shipped

if TYPE_CHECKING:
    from vrcli.outcomes import StudyOutcome
    from vrcli.plan_outcomes import StudyPlanOutcome

app = noun("Run a whole experiment that a file describes.")

NAME = typer.Argument(help="of a study that ships with vr (vr study list), or a file")
SCALE = typer.Option("full", "--scale", help="named reduction in the file; full runs it as it is written")
ONLY = typer.Option([], "--only", metavar="PART", help="only this part; repeatable")
DATASET = typer.Option([], "--dataset", metavar="NAME=FOLDER", help="read this folder instead of a data set")
JOBS = typer.Option(1, "--jobs", "-j", help="runs at the same time; the threads are divided among them")


@app.command("list")
def list_studies(format: str = req.FORMAT, debug: bool = req.DEBUG) -> None:
    """List the studies that ship with vr, and those of the working folder."""
    req.check_format(format)
    rows: list[dict[str, Any]] = []
    for name, path in {**shipped(), **own()}.items():
        try:
            study = find(str(path)).study
        except UsageError as error:
            rows.append({"study": name, "scales": [], "title": f"has a fault: {error}"})
            continue
        rows.append({"study": name, "scales": list(study.scale_names), "title": study.title})
    if format == "json":
        put_json(rows)
        return
    shown = [{**row, "scales": " ".join(row["scales"])} for row in rows]
    screen.show_rows(Rows(["study", "scales", "title"], shown, wrap=["scales", "title"]))
    name = shown[0]["study"]
    screen.suggest((f"vr study show {name}", "what it runs"), (f"vr study plan {name}", "what that would take"))


@app.command("show")
def show(
    name: str = NAME,
    scale: str = SCALE,
    only: list[str] = ONLY,
    debug: bool = req.DEBUG,
) -> None:
    """Show what a study runs at a scale, and where each number comes from."""
    from vrcli.report.study.plan import show_blocks

    screen.show(show_blocks(studies.scaled_study(name, scale, only=only)))
    at = "" if scale == "full" else f" --scale {scale}"
    screen.suggest((f"vr study plan {name}{at}", "what it would take"), (f"vr study run {name}{at}", "run it"))


@app.command("plan")
def plan(
    name: str = NAME,
    scale: str = SCALE,
    only: list[str] = ONLY,
    dataset: list[str] = DATASET,
    jobs: int = JOBS,
    device: str | None = req.DEVICE,
    threads: int | None = req.THREADS,
    data_dir: Path | None = req.DATA_DIR,
    database: Location = req.DB,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Show what a study would take: runs, hours, memory, data. Nothing is stored.

    A few steps of every optimizer are timed.
    """
    req.check_format(format)
    found = studies.plan_study(
        name, scale=scale, only=only, dataset=folders(dataset), jobs=jobs, device=device, threads=threads,
        data_dir=data_dir, db=database,
    )  # fmt: skip
    _shown(found, format)


@app.command("run")
def run(
    name: str = NAME,
    scale: str = SCALE,
    only: list[str] = ONLY,
    dataset: list[str] = DATASET,
    jobs: int = JOBS,
    device: str | None = req.DEVICE,
    threads: int | None = req.THREADS,
    data_dir: Path | None = req.DATA_DIR,
    database: Location = req.DB,
    format: str = req.FORMAT,
    quiet: bool = req.QUIET,
    checkpoint_every: str = req.CHECKPOINT_EVERY,
    checkpoint_dir: Path | None = req.CHECKPOINT_DIR,
    malloc_tuning: bool = req.MALLOC,
    debug: bool = req.DEBUG,
) -> None:
    """Run a study, or go on with it. Every part is tuned, confirmed and compared as vr compare does it.

    The same command again goes on where it was interrupted, and runs nothing twice.
    """
    req.check_format(format)
    with StudyDisplay(quiet=quiet or format == "json", summary=False) as display:
        found = studies.study(
            name, scale=scale, only=only, dataset=folders(dataset), jobs=jobs, device=device, threads=threads,
            data_dir=data_dir, db=database, checkpoint_every=checkpoint_every, checkpoint_dir=checkpoint_dir,
            malloc_tuning=malloc_tuning, watch=display.show,
        )  # fmt: skip
    _shown(found, format)
    raise typer.Exit(int(bool(found.failed)))


@app.command("report")
def report(
    name: str = NAME,
    scale: str | None = typer.Option(
        None, "--scale", help="of this scale [default: the one with most runs]", show_default=False
    ),
    output: Path | None = typer.Option(
        None,
        "--output",
        metavar="FOLDER",
        help="write page.md, figures and the runs to this folder",
        show_default=False,
    ),
    force: bool = req.FORCE,
    database: Location = req.DB,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Show a study's numbers beside the source's, and its verdicts."""
    req.check_format(format)
    with req.open_existing(database):
        pass
    found = studies.read_study(name, scale=scale, db=database)
    if output is None:
        _shown(found, format)
        return
    count = found.write(output, force=force)
    say(f"wrote {output}: the page, its figures and {counted(count, 'run')}", to=err())


@app.command("new")
def new(name: str = typer.Argument(help="of the study; it is written to NAME.toml"), debug: bool = req.DEBUG) -> None:
    """Write a study of your own, with comments, to be changed."""
    path = write_study(name)
    say(f"wrote {path}", to=err())
    steps = [(f"vr study check {path}", "is it in order?"), (f"vr study plan {path}", "what it would take")]
    screen.show_next([*steps, (f"vr study run {path}", "run it")], to=err())


@app.command("check")
def check(name: str = NAME, debug: bool = req.DEBUG) -> None:
    """Check a study file; every fault is a line, and the exit code is 2."""
    faults = checks.faults_of(name)
    for line in faults:
        say(f"vr: {line}", to=err(), prose=True)
    if faults:
        raise typer.Exit(2)
    say(f"{name} has no fault")
    screen.suggest((f"vr study plan {name}", "what it would take"), (f"vr study run {name}", "run it"))


def _shown(found: StudyOutcome | StudyPlanOutcome, format: str) -> None:
    """Print what a study has come to, or what it would take."""
    if format == "json":
        put_json(found.as_json())
        return
    screen.show(found.blocks())


def put_json(body: Any) -> None:
    """Print plain values as one line of JSON."""
    put(json.dumps(body) + "\n", exact=True)


def folders(given: list[str]) -> dict[str, str]:
    """What --dataset NAME=FOLDER says.

    Raises:
        UsageError: it says nothing of that kind, or there is no such folder.
    """
    found = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals or not name or not folder:
            raise UsageError(f"--dataset {text}: write NAME=FOLDER, as in --dataset cifar10=data/cifar10")
        if not Path(folder).expanduser().is_dir():
            raise UsageError(f"--dataset {text}: there is no folder {folder}")
        found[name] = folder
    return found
