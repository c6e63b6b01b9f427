"""`vr runs`: what was run, and one run in full."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import filters, runs_diff, runs_export, runs_manage
from vrcli.cli import request as req
from vrcli.cli.lazy import noun
from vrcli.db.location import Location
from vrcli.errors import UsageError

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.output import Target
    from vrcli.tasks.base import Metric

app = noun("List, show, compare, export and repeat stored runs.")


@app.command("list")
def list_runs(
    task: list[str] = typer.Option([], "--task", metavar="NAME", help="only this task; repeat for several"),
    opt: list[str] = filters.OPT,
    status: str | None = typer.Option(None, "--status", help="running, completed, diverged, failed or interrupted"),
    preset: str | None = filters.PRESET,
    tag: str | None = filters.TAG,
    group: str | None = filters.GROUP,
    sweep: list[str] = filters.SWEEP,
    where: list[str] = filters.WHERE,
    since: str | None = filters.SINCE,
    limit: int = typer.Option(50, "--limit", "-n", min=1, help="at most this many, newest first"),
    database: Location = req.DB,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """List stored runs, newest first. Under settings stand lr, what a search chose, and what differs between them."""
    req.check_format(format)
    from vrcli.cli.console import notice, say
    from vrcli.cli.grid import fitted, terminal_width
    from vrcli.results.flat import as_json

    wanted = filters.Filter(task, opt, preset, tag, group, sweep, where, since, status)
    with req.open_existing(database) as store:
        found = wanted.select(store, limit=limit + 1)
    more, found = len(found) > limit, found[:limit]
    if format == "json":
        print(json.dumps([as_json(record) for record in found]))
        return
    if not found:
        say(f"no runs are {status}" if status else "no runs yet; start with: vr run cnn --opt vradam")
        return
    rows, left = list_rows(found), ["when", "task", "dataset", "optimizer", "settings", "status"]
    columns = list(rows[0])
    right = [name for name in columns if name not in left]
    for line in fitted(columns, rows, long="settings", width=terminal_width(), right=right):
        say(line)
    if more:
        notice(f"the newest {limit}; --limit shows more")


def list_rows(found: list[RunRecord]) -> list[dict[str, Any]]:
    """The lines of `vr runs list`."""
    from vrcli.cli.console import metric_value
    from vrcli.cli.report_table import declared_of
    from vrcli.report.tables.runs import ago, settings_texts
    from vrcli.report.wording import duration
    from vrcli.results.types import shown_columns

    own = shown_columns(found, declared_of(found))
    rows = []
    for record, settings in zip(found, settings_texts(found), strict=True):
        r = record.results
        best = record.best
        test = r.get("test_loss")
        rows.append({
            "id": record.id, "when": ago(record.created_at), "task": record.task, "dataset": record.dataset,
            "optimizer": record.optimizer, "settings": settings, "seed": record.seed, "status": status_text(record),
            "best val": "-" if best is None else f"{best:.4f}", "test": "-" if test is None else f"{test:.4f}",
            **{column.title: metric_value(column, r.get(column.key)) for column in own},
            "time": duration(r["wall_s"]) if "wall_s" in r else "-",
        })  # fmt: skip
    return rows


def status_text(record: RunRecord) -> str:
    """A run's status; what is recorded as running although its process is gone is not answering."""
    if record.status != "running":
        return record.status
    return record.status if record.answers else "not answering"


@app.command("show")
def show(
    ref: str = typer.Argument(metavar="RUN", help="number or name of a run"),
    metric: list[str] = typer.Option([], "--metric", help="curves to plot [default: training and validation loss]"),
    samples: Path | None = typer.Option(None, "--samples", help="write the run's newest picture to this file"),
    force: bool = req.FORCE,
    database: Location = req.DB,
    format: str = req.FORMAT,
    debug: bool = req.DEBUG,
) -> None:
    """Show a run: outcome, settings, provenance, curves, and the command that repeats it."""
    req.check_format(format)
    from vrcli.cli.console import err, say
    from vrcli.output import Target

    target = None if samples is None else Target(samples, "--samples", database, force)
    if target is not None:
        target.check()
    with req.open_existing(database) as store:
        record = store.runs.get(ref)
        runs_export.check_metrics(store, [record], metric)
        if target is not None:
            write_picture(store, record, target)
            say(f"wrote {target.path}", to=err())
        if format == "json":
            print(json.dumps(shown_json(store, record, metric)))
            return
        for line in show_lines(store, record, metric):
            say(line)


def shown_json(store: Store, record: RunRecord, metrics: list[str]) -> dict[str, Any]:
    """What `vr runs show --format json` prints, as plain JSON values."""
    from vrcli.results.flat import as_json, json_number

    curves = {
        name: {"steps": list(curve.steps), "values": [json_number(value) for value in curve.values]}
        for (_, name), curve in store.curves.read([record.id], metrics or None).items()
    }
    return {**as_json(record), "provenance": record.provenance, "curves": curves}


def show_lines(store: Store, record: RunRecord, metrics: list[str]) -> list[str]:
    """Everything `vr runs show` prints."""
    from vrcli.cli.console import outcome
    from vrcli.report.text_plot import plot

    lines = [
        " · ".join(filter(None, [record.task, record.dataset, record.preset, record.optimizer, f"seed {record.seed}"]))
    ]
    lines += outcome(record, task_metrics(record.task), hints=False)
    if status_text(record) == "not answering":
        lines.append(
            f"  not answering: its process (pid {record.pid} on {record.host}) is gone; "
            "the next command that writes to the database marks it as interrupted"
        )
    lines += ["", "settings"]
    lines += settings_lines(record)
    lines += ["", "provenance", *provenance_lines(record)]
    wanted = metrics or [m for m in ("train_loss", "val_loss") if m in store.curves.metrics(record.id)]
    curves = {name: curve for (_, name), curve in store.curves.read([record.id], wanted).items()}
    if curves:
        lines += [
            "",
            *plot({n: (list(c.steps), list(c.values)) for n, c in curves.items()}, x_label="step").splitlines(),
        ]
    for artifact in store.artifacts.select(record.id):
        hint = "   --samples FILE writes the newest" if artifact.media_type.startswith("image/") else ""
        lines.append(f"file {artifact.name} ({artifact.size:,} bytes, step {artifact.step}){hint}")
        if artifact.name.endswith(".txt"):
            lines += store.artifacts.read(record.id, artifact.name, step=artifact.step).decode().splitlines()
    lines += ["", "repeat it with", f"  {command_of(record)}"]
    return lines


def settings_lines(record: RunRecord) -> list[str]:
    """Settings by section, as far as a spec has them: one of an old version may not."""
    from vrcli.cli.console import short

    sections = {
        name.split("_")[0]: record.spec.get(name) for name in ("task_settings", "training", "optimizer_settings")
    }
    if None in sections.values():
        sections = {"all": record.settings}
    lines = []
    for section, settings in sections.items():
        values = {k: v for k, v in (settings or {}).items() if v is not None and v != ""}
        lines.append(f"  {section:10} " + "  ".join(f"{k}={short(v)}" for k, v in values.items()))
    return lines


def provenance_lines(record: RunRecord) -> list[str]:
    """Machine, versions, repository and data of a run."""
    p = record.provenance
    libraries = "  ".join(f"{name} {version}" for name, version in p.get("libraries", {}).items())
    git = p.get("git")
    state = f"commit {git['commit'][:12]}{' (uncommitted changes)' if git['dirty'] else ''}" if git else "none"
    code = "  ".join(f"{name} {identity}" for name, identity in record.spec.get("code", {}).items())
    return [
        f"  started    {record.created_at:%Y-%m-%d %H:%M:%S} UTC on {record.host}",
        f"  machine    {p.get('device', '-')}, {p.get('cpu', '-')}, {p.get('threads', '-')} threads",
        f"  versions   vr {p.get('vr', '-')}  python {p.get('python', '-')}  {libraries}",
        f"  code       {code or 'not recorded'}",
        f"  repository {state} in {p.get('directory', '-')}",
        f"  data       {record.dataset} {record.dataset_fingerprint}",
        f"  spec       {record.spec_id}",
    ]


def task_metrics(name: str) -> list[Metric]:
    """The task's metrics, or just the loss where the task is no longer installed."""
    from vrcli.tasks.base import Metric
    from vrcli.tasks.registry import UnknownTask, load

    try:
        return list(load(name).metrics)
    except UnknownTask:
        return [Metric("loss", "min")]


def command_of(record: RunRecord) -> str:
    """The `vr run` command with the settings that differ from its preset's.

    Where the task is no longer installed, or an old version recorded less, it is the stored command line.
    """
    import shlex

    from vrcli.errors import VrError
    from vrcli.report import wording
    from vrcli.settings import resolve, settings_of
    from vrcli.tasks.registry import UnknownTask, load

    spec, stored = record.spec, wording.command(record.provenance.get("argv", []))
    if runs_manage.lacking(spec):
        return stored
    words = ["vr", "run", record.task, "--opt", record.optimizer]
    words += ["--preset", record.preset or "quick", "--seed", str(record.seed)]
    words += ["--device", spec["device"], "--threads", str(spec["threads"])]
    given = {"task": spec["task_settings"], "training": spec["training"], "optimizer": spec["optimizer_settings"]}
    try:
        task = load(record.task)
        base = resolve(task, record.optimizer, preset=record.preset or "quick").request
        settings = settings_of(task, record.optimizer)
    except (UnknownTask, VrError):
        return stored
    usual = {
        "task": base.task_settings,
        "training": base.training.model_dump(mode="json"),
        "optimizer": _through_json(base.optimizer_settings),
    }
    for name, setting in settings.by_name.items():
        value = given[setting.section].get(setting.key)
        if value == usual[setting.section].get(setting.key):
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)
            words += [flag, text]
    return shlex.join(words)


def _through_json(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as they come back from JSON: tuples are lists."""
    back: dict[str, Any] = json.loads(json.dumps(settings))
    return back


def write_picture(store: Store, record: RunRecord, target: Target) -> None:
    """Write the run's newest picture.

    Raises:
        UsageError: the run has none.
    """
    pictures = [a for a in store.artifacts.select(record.id) if a.media_type.startswith("image/")]
    if not pictures:
        raise UsageError(f"--samples: run {record.id} ({record.task}) has no pictures")
    newest = max(pictures, key=lambda a: a.step or 0)
    with target.part() as part:
        part.write_bytes(store.artifacts.read(record.id, newest.name))


app.command("diff")(runs_diff.diff)
app.command("export")(runs_export.export)
app.command("rerun")(runs_manage.rerun)
app.command("retry")(runs_manage.retry)
app.command("tag")(runs_manage.tag)
app.command("rm")(runs_manage.rm)
