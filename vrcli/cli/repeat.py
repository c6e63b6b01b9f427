"""Commands to copy: what trains a stored run again, or a search's settings on a fresh seed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vrcli.errors import VrError
from vrcli.report import wording
from vrcli.report.study.command import options, run_command
from vrcli.search.definition import Definition
from vrcli.study.again import by_script, lacking
from vrcli.study.naming import words_of_run

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord, SearchRecord


def command_of(record: RunRecord) -> str:
    """The `vr run` command with the settings that differ from its preset's.

    Where the task is no longer installed, or an old version recorded less, it is the stored command line.
    """
    from vrcli.execute.again import task_of_run
    from vrcli.settings import resolve, settings_of
    from vrcli.spec import REPLACED
    from vrcli.tasks.registry import UnknownTask

    spec, preset = record.spec, record.preset or "quick"
    stored = wording.command(record.provenance.get("argv", []))
    if by_script(spec):
        return wording.script(record.provenance.get("argv", []))
    if lacking(spec):
        return stored
    try:
        task = task_of_run(record)
        base = resolve(task, spec["optimizer"], preset=preset).request
        settings = settings_of(task, spec["optimizer"])
    except (UnknownTask, VrError):
        return stored
    given = {"task": spec["task_settings"], "training": spec["training"], "optimizer": spec["optimizer_settings"]}
    usual = {
        "task": base.task_settings,
        "training": base.training.model_dump(mode="json"),
        "optimizer": json.loads(json.dumps(base.optimizer_settings)),  # as they are stored: tuples are lists
    }
    source = record.provenance.get("lr_from")  # the run that the rates are of
    own = {
        name: given[one.section].get(one.key)
        for name, one in settings.by_name.items()
        if not (source and one.key in ("lr", *REPLACED) and one.section != "task")
        and given[one.section].get(one.key) != usual[one.section].get(one.key)
    }
    named = words_of_run(task, record.provenance.get("task", record.task), spec["optimizer"])
    if not hasattr(task, "command"):
        named += ["--preset", preset]
    words = ["vr", "run", *named, *(["--lr-from", source] if source else []), "--seed", str(record.seed)]
    words += ["--device", spec["device"], "--threads", str(spec["threads"]), *options(own)]
    return shlex.join([*words, *_beside(record.provenance)])


def _beside(provenance: Mapping[str, Any]) -> list[str]:
    """What the run did beside training: its probes, and the weights that it kept."""
    from vrcli.probing import Probing, options_of

    probing = Probing.stored(provenance)
    words = [word for name in probing.given for word in ("--probe", name)]
    words += ["--probe-every", probing.every] if words else []
    for name, own in probing.given.items():
        words += options({f"{options_of(name)}{key}": value for key, value in own.items()})
    keep = provenance.get("keep_weights")
    return [*words, *(["--keep-weights", keep] if keep else [])]


def best_command(search: SearchRecord, params: Mapping[str, Any]) -> str:
    """The same for a stored search; empty for one of a version with other fields."""
    try:
        return run_command(Definition.of(search.settings), params)
    except (KeyError, TypeError):
        return ""
