"""`vr runs show`: one run in full."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import request as req
from vrcli.cli.console import err, say
from vrcli.cli.screen import facts, show_command, suggest
from vrcli.db.location import Location
from vrcli.output import Target
from vrcli.report.study.runs import outcome_lines
from vrcli.report.tables.runs import title
from vrcli.report.wording import NOT_ANSWERING, counted, replay, setting, status
from vrcli.results.single import check_metrics, curves_of, in_full, newest_picture
from vrcli.results.types import repeatable
from vrcli.study.naming import by_command

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.tasks.base import Metric


def show(
    ref: str = typer.Argument(metavar="RUN", help="number or name of a run"),
    metric: list[str] = typer.Option([], "--metric", help="curves to plot [default: training and validation loss]"),
    samples: Path | None = typer.Option(None, "--samples", help="write the run's newest picture to this file"),
    force: bool = req.FORCE,
    database: Location = req.DB,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Show a run: outcome, settings, origin, curves, how to repeat it."""
    req.check_format(format)
    target = None if samples is None else Target(samples, "--samples", database, force)
    if target is not None:
        target.check()
    with req.open_existing(database) as store:
        record = store.runs.get(ref)
        check_metrics(store, [record], metric)
        if target is not None:
            picture = newest_picture(store, record)
            with target.part() as part:
                part.write_bytes(picture)
            say(f"wrote {target.path}", to=err())
        if format == "json":
            print(json.dumps(in_full(record, curves_of(store, record, metric))))
            return
        print_run(store, record, metric)
    suggest(*next_of(record), database=database)


def next_of(record: RunRecord) -> list[tuple[str, str]]:
    """How a run goes on that has not ended well."""
    after = {"interrupted": ("resume", "goes on with it"), "failed": ("retry", "trains it again from the beginning")}
    if record.status not in after:
        return []
    verb, why = after[record.status]
    return [(f"vr runs {verb} {record.id}", why)]


def print_run(store: Store, record: RunRecord, metrics: list[str]) -> None:
    """Everything `vr runs show` prints of a run as it is."""
    from vrcli.cli.repeat import command_of  # numpy is slow to import
    from vrcli.report.text_plot import plot
    from vrcli.tasks.base import headline

    lines = [title(record)]
    lines += outcome_lines(record, headline(task_metrics(record)))
    if status(record) == NOT_ANSWERING:
        lines.append(
            f"  not answering: its process (pid {record.pid} on {record.host}) is gone; "
            "the next command that writes to the database marks it as interrupted"
        )
    if not repeatable(record.settings):
        lines.append(f"  not repeatable: it ended after a time (until {record.settings['until']}), at any step")
    if (source := record.provenance.get("lr_from")) is not None:
        lines.append(f"  {replay(source, record.settings['lr_from'])}")
    for line in lines:
        say(line, prose=True)
    for heading, pairs in (("settings", settings_facts(record)), ("provenance", provenance_facts(record))):
        say()
        say(heading, style="bold")
        facts(pairs)
    lines = []
    curves = curves_of(store, record, metrics or ("train_loss", record.objective.removeprefix("best_")))
    if curves:
        series: dict[str, tuple[Any, Any]] = {name: (curve.steps, curve.values) for name, curve in curves.items()}
        lines += ["", *plot(series, x_label="step").splitlines()]
    for artifact in store.artifacts.select(record.id):
        hint = "   --samples FILE writes the newest" if artifact.media_type.startswith("image/") else ""
        at = "" if artifact.step is None else f", step {artifact.step}"
        lines.append(f"file {artifact.name} ({artifact.size:,} bytes{at}){hint}")
        if artifact.name.endswith(".txt"):
            lines += store.artifacts.read(record.id, artifact.name, step=artifact.step).decode().splitlines()
    for line in [*lines, ""]:
        say(line)
    say("repeat it with", style="bold")
    show_command(command_of(record))


def settings_facts(record: RunRecord) -> list[tuple[str, str]]:
    """Settings by section, as far as a spec has them: one of an old version may not."""
    sections = {
        name.split("_")[0]: record.spec.get(name) for name in ("task_settings", "training", "optimizer_settings")
    }
    if None in sections.values():
        sections = {"all": record.settings}
    elif by_command(record.spec):  # no setting of the training reaches it
        del sections["training"]
    found = []
    for section, settings in sections.items():
        values = {k: v for k, v in (settings or {}).items() if v is not None and v != ""}
        if values:
            found.append((section, "  ".join(f"{k}={setting(v)}" for k, v in values.items())))
    return found


def provenance_facts(record: RunRecord) -> list[tuple[str, str]]:
    """Machine, versions, repository and data of a run."""
    from vrcli.tasks.loop import DECLARED

    p = record.provenance
    libraries = "  ".join(f"{name} {version}" for name, version in p.get("libraries", {}).items())
    git = p.get("git")
    state = f"commit {git['commit'][:12]}{' (uncommitted changes)' if git['dirty'] else ''}" if git else "none"
    looked_at = record.dataset_fingerprint not in (None, DECLARED)
    fingerprint = record.dataset_fingerprint if looked_at else "(content not checked)"
    code = "  ".join(f"{name} {identity}" for name, identity in record.spec.get("code", {}).items())
    told = p.get("declared_data")
    cpu = p.get("cpu", "-") + (f" ({p['instructions']})" if "instructions" in p else "")
    declared = f", by what the task declares: {told}" if told else ""
    return [
        ("started", f"{record.created_at:%Y-%m-%d %H:%M:%S} UTC on {record.host}"),
        ("machine", f"{p.get('device', '-')}, {cpu}, {counted(p.get('threads', 0), 'thread')}"),
        ("versions", f"vr {p.get('vr', '-')}  python {p.get('python', '-')}  {libraries}"),
        ("code", code or "not recorded"),
        ("repository", f"{state} in {p.get('directory', '-')}"),
        ("data", f"{record.dataset or 'unknown'} {fingerprint}{declared}"),
        ("spec", record.spec_id),
    ]


def task_metrics(record: RunRecord) -> list[Metric]:
    """The task's metrics, or just the objective where the task is no longer installed."""
    from vrcli.tasks.base import Metric
    from vrcli.tasks.registry import UnknownTask, load

    try:
        return list(load(record.task).metrics)
    except UnknownTask:
        return [Metric(record.objective.removeprefix("best_val_"), "min")]
