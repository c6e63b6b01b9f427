"""Where every number of a part comes from: the preset's provenance, the study file, the scale, or a search."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vrcli.execute.lookup import task_of
from vrcli.study.define import define, given_settings
from vrcli.study.files.scaled import ScaledPart
from vrcli.variants import base_of


def origins_of(part: ScaledPart) -> Iterator[tuple[str, Any, str]]:
    """Every setting that is not a default: name, value and origin; an optimizer's with its name before it."""
    from vrcli.settings import resolve, settings_of

    tuning = part.request.tuning
    task = task_of(tuning.task)
    searched = {one.optimizer: one for one in define(task, tuning)} if tuning.trials else {}
    for at, (name, given) in enumerate(given_settings(task, tuning).items()):
        found = resolve(task, base_of(name), preset=tuning.preset, flags=given)
        values = {**found.request.task_settings, **found.request.training.model_dump()}
        for key, one in settings_of(task, base_of(name)).by_name.items():
            origin = found.origins[key]
            if one.section == "optimizer":
                axis = searched[name].axes.get(key) if name in searched else None
                if axis is not None:
                    yield f"{name}.{key}", str(axis), f"searched: {axis.origin or 'the range of the task'}"
                elif origin != "default":
                    value = found.request.optimizer_settings[one.key]
                    yield f"{name}.{key}", value, _told(origin)
            elif at == 0 and origin != "default" and one.key in values:
                yield key, values[one.key], _told(origin)


def _told(origin: str) -> str:
    return "study file" if origin == "flag" else origin
