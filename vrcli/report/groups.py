"""Which runs belong together: equal in everything but the seed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from vrcli.report.types import Run, Section

#: Parts of a spec that have a column of their own, or are what runs of one group differ in.
IDENTITY = frozenset(("task", "preset", "dataset", "dataset_fingerprint", "optimizer", "seed"))
Key: TypeAlias = tuple[str | None, ...]
FINISHED = ("completed", "diverged")


@dataclass(frozen=True)
class Group:
    """Runs of one configuration, one for each seed, in the order of their seeds.

    Args:
        repeats: finished runs left out because their seed is there already: the same seed gives the same bits, so
            counting it twice would invent precision.
    """

    runs: tuple[Run, ...]
    settings: Mapping[str, Any]
    repeats: int

    @property
    def section(self) -> Section:
        first = self.runs[0]
        return first.task, first.dataset or "", first.dataset_fingerprint or "", first.preset or ""

    @property
    def optimizer(self) -> str:
        return self.runs[0].optimizer


def flat_settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of a spec by its own name; where two sections share a name, the later has its section's before it.

    A data set's path is left out once its content is known: the same data elsewhere are the same data.
    """
    known_data = bool(spec.get("dataset_fingerprint"))
    found: dict[str, Any] = {}
    for key, value in spec.items():
        if key in IDENTITY:
            continue
        if not isinstance(value, Mapping):
            found[key] = value
            continue
        for name, inner in value.items():
            if name == "dataset" and known_data:
                continue
            found[name if name not in found else f"{key.removesuffix('_settings')}.{name}"] = inner
    return found


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Group finished runs by their complete spec without the seed, in order of first appearance.

    Of several finished runs of one seed the newest counts.
    """
    members: dict[Key, list[Run]] = defaultdict(list)
    settings: dict[Key, dict[str, Any]] = {}
    for run in runs:
        if run.status not in FINISHED:
            continue
        flat = flat_settings(run.spec)
        body = json.dumps(flat, sort_keys=True, default=str)
        key: Key = (run.task, run.dataset, run.dataset_fingerprint, run.preset, run.optimizer, body)
        members[key].append(run)
        settings.setdefault(key, flat)
    groups = []
    for key, found in members.items():
        newest: dict[int | None, Run] = {}
        for run in sorted(found, key=lambda r: (r.created_at, r.id)):
            newest[run.seed] = run
        ordered = sorted(newest.values(), key=lambda r: (r.seed is None, r.seed or 0))
        groups.append(Group(tuple(ordered), settings[key], len(found) - len(ordered)))
    return groups


def differing(
    settings: Sequence[Mapping[str, Any]], optimizers: Sequence[str], ignore: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Of each row's settings, those that another row has too but with another value.

    A setting that only one optimizer has is no difference between optimizers; that one of its rows has and another
    lacks (recorded by another version) is.

    Args:
        optimizers: one per row.
    """
    own: dict[str, set[str]] = defaultdict(set)
    for row, optimizer in zip(settings, optimizers, strict=True):
        own[optimizer].update(row)
    values: dict[str, set[str]] = defaultdict(set)
    for row, optimizer in zip(settings, optimizers, strict=True):
        for name in own[optimizer]:
            values[name].add(repr(row[name]) if name in row else "")
    names = {name for name, seen in values.items() if len(seen) > 1} - set(ignore)
    return [{name: value for name, value in row.items() if name in names} for row in settings]
