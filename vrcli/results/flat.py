"""A run as one flat row: what tables, frames and exports have as columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vrcli.output import json_number
from vrcli.results.types import NamedRun, Run, repeatable

#: What a run is called by, in the order of the columns.
FIELDS = (
    *("id", "name", "task", "dataset", "preset", "optimizer", "seed", "status", "error", "tag", "group"),
    *("sweep_id", "trial_id", "created_at", "finished_at", "host", "dataset_fingerprint", "spec_id", "uuid"),
)


def rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row per run, all with the same columns: fields, settings, results.

    Returns:
        What `named` has of each, None where a run has no such setting or result.
    """
    columns, values = named(runs)
    blank = dict.fromkeys(columns)
    return [blank | own for own in values]


def named(runs: Sequence[Run]) -> tuple[list[str], Iterator[dict[str, Any]]]:
    """All that can be named of these runs, and what each has of it.

    A setting that is called like a field becomes `setting.NAME`, a result that is called like a field or a setting
    `result.NAME`, whichever of the runs has it: `epochs` is what was asked for and `result.epochs` what was done.

    Returns:
        The names: fields, settings, results; and by run its values, lists as text ("0.9,0.999").
    """
    settings = [run.settings for run in runs]
    by_setting = {name: f"setting.{name}" if name in FIELDS else name for own in settings for name in own}
    taken = {*FIELDS, *by_setting.values()}
    by_result = {name: f"result.{name}" if name in taken else name for run in runs for name in run.results}

    def values() -> Iterator[dict[str, Any]]:
        for run, own in zip(runs, settings, strict=True):
            found = {name: getattr(run, name, None) for name in FIELDS}
            found |= {by_setting[name]: plain(value) for name, value in own.items()}
            found |= {by_result[name]: value for name, value in run.results.items()}
            yield found

    return [*FIELDS, *by_setting.values(), *by_result.values()], values()


def plain(value: Any) -> Any:
    """A setting as one value of a table: lists as they are typed on the command line, mappings as text."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, Mapping) else value


def one_kind(values: Sequence[Any]) -> list[Any]:
    """A column whose values share a type, which typed files need: whole numbers among others become floats, anything
    else text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2:
        return list(values)
    to = float if kinds == {int, float} else str
    return [None if value is None else to(value) for value in values]


def as_json(run: NamedRun) -> dict[str, Any]:
    """A run as plain JSON values; what is not finite becomes a string, since JSON has no such number."""
    return {
        "id": run.id, "name": run.name, "status": run.status, "task": run.task, "preset": run.preset,
        "dataset": run.dataset, "optimizer": run.optimizer, "seed": run.seed, "spec_id": run.spec_id,
        "tag": run.tag, "group": run.group, "created_at": run.created_at.isoformat(), "error": run.error,
        "repeatable": repeatable(run.settings),
        "results": {name: json_number(value) for name, value in run.results.items()}, "spec": run.spec,
    }  # fmt: skip
