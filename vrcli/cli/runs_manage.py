"""`vr runs rm`, `tag`, `rerun` and `retry`: what can be done with stored runs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vrcli.cli import request as req
from vrcli.db.location import Location
from vrcli.errors import UsageError

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.execute.job import Lineage
    from vrcli.spec import Request
    from vrcli.tasks.base import Task

_ENDED_WELL = ("completed", "diverged")


def rm(
    refs: list[str] = typer.Argument(metavar="RUN", help="numbers or names of runs"),
    yes: bool = typer.Option(False, "--yes", "-y", help="do not ask"),
    database: Location = req.DB,
    debug: bool = req.DEBUG,
) -> None:
    """Remove runs with their curves, results and files; asks first."""
    from vrcli.cli.console import err, say
    from vrcli.cli.request import open_existing

    with open_existing(database, mode="write") as store:
        records = chosen(store, refs)
        running = [record for record in records if record.status == "running"]
        if running:
            first = running[0]
            raise UsageError(f"run {first.id} is still running (pid {first.pid} on {first.host}); nothing was removed")
        for line in losses(store, records):
            say(line, to=err())
        if not yes:
            confirm(f"remove {len(records)} run{'s' * (len(records) != 1)} for good?")
        store.runs.delete([record.id for record in records])
    say(f"removed run{'s' * (len(records) != 1)} {', '.join(str(record.id) for record in records)}")


def tag(
    ref: str = typer.Argument(metavar="RUN", help="number or name of a run"),
    word: str | None = typer.Argument(None, metavar="[WORD]", help="the tag; without one it is taken away"),
    database: Location = req.DB,
    debug: bool = req.DEBUG,
) -> None:
    """Change the word that a run is found by (--tag)."""
    from vrcli.cli.console import say
    from vrcli.cli.request import open_existing

    wanted = None if word is None else word.strip()
    if wanted is not None and not 0 < len(wanted) <= 255:
        raise UsageError("a tag is a word of 1 to 255 letters")
    with open_existing(database, mode="write") as store:
        before = store.runs.get(ref)
        after = store.runs.tag(before.id, wanted)
    say(f"run {after.id}: tag {before.tag or 'none'} -> {after.tag or 'none'}")


def rerun(
    ref: str = typer.Argument(metavar="RUN", help="number or name of a run"),
    data_dir: Path | None = req.DATA_DIR,
    database: Location = req.DB,
    format: str = req.FORMAT,
    quiet: bool = req.QUIET,
    debug: bool = req.DEBUG,
) -> None:
    """Train the same again and compare it bit for bit.

    The stored settings and seed are trained as a new run with the same tag; the last line says whether its curves are
    those of the stored run, or at which step they part.
    """
    again(ref, database, data_dir, format=format, quiet=quiet, retry=False)


def retry(
    ref: str = typer.Argument(metavar="RUN", help="number or name of a run that failed or was interrupted"),
    data_dir: Path | None = req.DATA_DIR,
    database: Location = req.DB,
    format: str = req.FORMAT,
    quiet: bool = req.QUIET,
    debug: bool = req.DEBUG,
) -> None:
    """Train a failed or interrupted run again.

    It starts from the beginning, as a new run with the same tag and group; what the stored run recorded stays, and the
    curves are compared as far as it went.
    """
    again(ref, database, data_dir, format=format, quiet=quiet, retry=True)


def again(ref: str, database: Location, data_dir: Path | None, *, format: str, quiet: bool, retry: bool) -> None:
    """Train a stored run's spec once more; compare its curves with the stored ones."""
    req.check_format(format)
    from vrcli.cli.console import say
    from vrcli.cli.request import open_existing
    from vrcli.cli.run import exit_code
    from vrcli.cli.runs_diff import curves_of
    from vrcli.execute.job import Lineage
    from vrcli.results.diff import compare, verdict
    from vrcli.results.flat import as_json

    with open_existing(database, mode="write") as store:
        stored = store.runs.get(ref)
        check_status(stored, retry)
        lineage = Lineage(stored.tag, stored.group if retry else None)
        record = train(stored, store, data_dir, quiet=quiet or format == "json", text=format == "text", lineage=lineage)
        found = compare(stored, record, curves_of(store, stored), curves_of(store, record))
    text = verdict(found, f"run {stored.id}", f"run {record.id}")
    if format == "json":
        print(json.dumps({**as_json(record), "again": stored.id, "bit_identical": found.same_curves, "verdict": text}))
    elif curves_known(found):
        say(f"same curves as run {stored.id}, bit for bit" if found.same_curves else text)
    raise typer.Exit(exit_code([record]))


def curves_known(found: Any) -> bool:
    """Whether the stored run had any curve to compare with."""
    return any(curve.points[0] for curve in found.computed())


def check_status(record: RunRecord, retry: bool) -> None:
    """Refuse a run that goes on, and to retry one that has come to its end.

    Raises:
        UsageError: says which it is.
    """
    if record.status == "running":
        raise UsageError(f"run {record.id} is still running (pid {record.pid} on {record.host})")
    if retry and record.status in _ENDED_WELL:
        raise UsageError(f"run {record.id} {record.status}; vr runs rerun {record.id} trains it again")


def train(
    stored: RunRecord, store: Store, data_dir: Path | None, *, quiet: bool, text: bool, lineage: Lineage
) -> RunRecord:
    """Run a stored run's spec."""
    from vrcli.engine.allocator import keep_freed_memory

    tuned = bool(stored.provenance.get("malloc_tuned", True)) and keep_freed_memory()

    from vrcli.cli.console import RunDisplay, notice
    from vrcli.execute.run import execute, stop_requests
    from vrcli.optim import registry

    task = task_of(stored)
    request = request_of(stored, task)
    for line in made_otherwise(stored, request):
        notice(line)
    usual = registry.settings_model(request.optimizer)().model_dump()
    origins = {name: "stored" for name, value in request.optimizer_settings.items() if value != usual[name]}
    display = RunDisplay(origins, quiet=quiet, summary=text)
    with stop_requests() as should_stop:
        record = execute(
            request, task, store, watcher=display, data_dir=data_dir, malloc_tuned=tuned, notice=notice,
            should_stop=should_stop, lineage=lineage,
        )  # fmt: skip
    if record.dataset_fingerprint != stored.dataset_fingerprint:
        notice(f"the data differ: {record.dataset_fingerprint} instead of {stored.dataset_fingerprint}")
    return record


def made_otherwise(stored: RunRecord, request: Request) -> list[str]:
    """In what code and libraries training a stored run again differs from how it was made, a line each."""
    import torch

    from vrcli.engine.provenance import differences
    from vrcli.search.definition import code_changes

    code = stored.spec.get("code")
    lines = [] if code else [f"run {stored.id} does not say which code it ran; this may be other code"]
    if code and (found := code_changes(code, request.code)):
        lines.append(f"{', '.join(found)}: other code may give other numbers")
    made = differences(stored.provenance, torch.device(request.device))
    if made:
        texts = [f"{name} {text}" for name, text in made.items()]
        lines.append(f"run {stored.id} was made with {'; '.join(texts)}: that may give other bits")
    return lines


def task_of(stored: RunRecord) -> type[Task[Any]]:
    """A stored run's task; one that was given as module:Class is found by the command line it came from.

    Raises:
        UnknownTask: it is not installed.
    """
    from vrcli.tasks.registry import UnknownTask, load

    try:
        return load(stored.task)
    except UnknownTask:
        for word in stored.provenance.get("argv", []):
            with suppress(UnknownTask):
                if re.fullmatch(r"[\w.]+:\w+", word) and (found := load(word)).name == stored.task:
                    return found
        raise


def lacking(spec: Mapping[str, Any]) -> list[str]:
    """What the spec of an old version does not say, and training it again needs."""
    return [name for name in ("task_settings", "training", "optimizer_settings", "device", "threads")
            if name not in spec]  # fmt: skip


def request_of(stored: RunRecord, task: type[Task[Any]]) -> Request:
    """What a stored run was asked to do, as this version of vr reads it.

    Raises:
        UsageError: this machine or this version cannot train it.
    """
    import os

    from pydantic import ValidationError

    from vrcli.engine.prepare import pick_device
    from vrcli.identity import code_of
    from vrcli.optim import registry
    from vrcli.settings import explain
    from vrcli.spec import Request

    body, cores = dict(stored.spec), os.cpu_count() or 1
    for name in ("versions", "dataset", "dataset_fingerprint"):  # versions: of an earlier version, instead of the code
        body.pop(name, None)
    if missing := lacking(body):
        raise UsageError(f"run {stored.id} cannot be trained by this version: {', '.join(missing)} not recorded")
    if body["threads"] > cores:
        raise UsageError(f"run {stored.id} took {body['threads']} threads; this machine has {cores} cores")
    try:
        own = registry.settings_model(stored.optimizer)(**body["optimizer_settings"]).model_dump()
        settings = task.Config(**body["task_settings"]).model_dump(mode="json")
        changes = {"optimizer_settings": own, "task_settings": settings}
        changes |= {"code": code_of(task, stored.optimizer)}
        return Request(**{**body, **changes, "device": pick_device(body["device"])})
    except ValidationError as error:
        raise UsageError(f"run {stored.id} cannot be trained by this version: {explain(error, {})}") from None


def chosen(store: Store, refs: list[str]) -> list[RunRecord]:
    """The runs that were named, each once; none is touched where one is not there."""
    return list({record.id: record for record in map(store.runs.get, refs)}.values())


def losses(store: Store, records: list[RunRecord]) -> list[str]:
    """What removing runs destroys, one line each."""
    lines = []
    for record in records:
        files = store.artifacts.select(record.id)
        parts = [record.task, record.dataset, record.optimizer, f"seed {record.seed}", record.status]
        parts += [f"{store.curves.count(record.id):,} points"]
        parts += [f"{len(files)} file{'s' * (len(files) != 1)} ({sum(f.size for f in files):,} bytes)"] if files else []
        if record.sweep_id is not None:
            parts += [
                f"a {'trial' if record.trial_id else 'confirmation'} of sweep {store.sweeps.get(record.sweep_id).name}"
            ]
        lines.append(f"run {record.id} · {record.name} · " + " · ".join(part for part in parts if part))
    return lines


def confirm(question: str) -> None:
    """Ask on a terminal; elsewhere --yes must have been given.

    Raises:
        UsageError: nobody can be asked, or the answer is no.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{question} Nobody can be asked here: --yes says so; nothing was removed")
    if not typer.confirm(question, err=True):
        raise UsageError("nothing was removed")
