"""Commands to copy: what trains a stored run again, or a search's settings on a fresh seed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vrcli.errors import VrError
from vrcli.report import wording
from vrcli.search.definition import Definition
from vrcli.study.again import lacking
from vrcli.study.confirm import fresh_seeds

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord, SearchRecord


def command_of(record: RunRecord) -> str:
    """The `vr run` command with the settings that differ from its preset's.

    Where the task is no longer installed, or an old version recorded less, it is the stored command line.
    """
    from vrcli.settings import resolve, settings_of
    from vrcli.tasks.registry import UnknownTask, load

    spec, preset = record.spec, record.preset or "quick"
    stored = wording.command(record.provenance.get("argv", []))
    if lacking(spec):
        return stored
    try:
        task = load(record.task)
        base = resolve(task, record.optimizer, preset=preset).request
        settings = settings_of(task, record.optimizer)
    except (UnknownTask, VrError):
        return stored
    given = {"task": spec["task_settings"], "training": spec["training"], "optimizer": spec["optimizer_settings"]}
    usual = {
        "task": base.task_settings,
        "training": base.training.model_dump(mode="json"),
        "optimizer": json.loads(json.dumps(base.optimizer_settings)),  # as they are stored: tuples are lists
    }
    own = {
        name: given[one.section].get(one.key)
        for name, one in settings.by_name.items()
        if given[one.section].get(one.key) != usual[one.section].get(one.key)
    }
    words = ["vr", "run", record.task, "--opt", record.optimizer, "--preset", preset, "--seed", str(record.seed)]
    return shlex.join([*words, "--device", spec["device"], "--threads", str(spec["threads"]), *_options(own)])


def run_command(definition: Definition, params: Mapping[str, Any]) -> str:
    """The `vr run` that trains with a trial's settings, on a seed that did not choose them."""
    words = ["vr", "run", definition.task, "--opt", definition.optimizer]
    if definition.preset != "quick":
        words += ["--preset", definition.preset]
    words += ["--seed", str(fresh_seeds(definition.seeds, 1)[0])]
    return shlex.join([*words, *_options({**definition.explicit, **params})])


def best_command(search: SearchRecord, params: Mapping[str, Any]) -> str:
    """The same for a stored search; empty for one of a version with other fields."""
    try:
        return run_command(Definition.of(search.settings), params)
    except (KeyError, TypeError):
        return ""


def _options(values: Mapping[str, Any]) -> list[str]:
    """Settings as they are typed."""
    words = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list | tuple):
            words += [f"--{flag}", ",".join(map(str, value))]
        else:
            words += [f"--{flag}", "none" if value is None else str(value)]
    return words
