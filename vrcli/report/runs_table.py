"""What `vr runs list` says about runs besides their results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from vrcli.report import wording
from vrcli.report.groups import differing, flat_settings
from vrcli.report.types import Run


def ago(then: datetime, now: datetime | None = None) -> str:
    """ "2 min ago", as seen from now."""
    return wording.ago(then, now or datetime.now(UTC))


def differing_settings(runs: Sequence[Run]) -> list[str]:
    """One text per run: the settings in which it differs from another run of the same task, and nothing else.

    The preset counts as a setting here; the seed, the data set and the optimizer have columns of their own.
    """
    by_task: dict[str, list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        by_task[run.task].append(index)
    texts = [""] * len(runs)
    for indices in by_task.values():
        rows: list[dict[str, Any]] = []
        for index in indices:
            run = runs[index]
            rows.append({"preset": run.preset, **flat_settings(run.spec)})
        for index, row in zip(indices, _within_presets(rows), strict=True):
            texts[index] = wording.settings(row)
    return texts


def _within_presets(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Differences within each preset, and the preset itself where there are several: it stands for all it sets."""
    presets: dict[Any, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        presets[row["preset"]].append(index)
    found: list[dict[str, Any]] = [{} for _ in rows]
    for preset, indices in presets.items():
        for index, own in zip(indices, differing([rows[i] for i in indices]), strict=True):
            found[index] = {"preset": preset, **own} if len(presets) > 1 else own
    return found
