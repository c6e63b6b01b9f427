"""What `vr runs list` says about runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from vrcli.report import wording
from vrcli.results.groups import shown_settings
from vrcli.results.types import (
    Known,
    ListedRun,
    NamedRun,
    Run,
    axes_of,
    outcome,
    repeatable,
    section_of,
    shown_columns,
    test_value,
)

#: The columns of text.
LEFT = ("when", "task", "dataset", "optimizer", "settings", "status")
#: The columns that a narrow screen leaves out, the least important first.
LEAST = ("time", "when", "dataset", "seed", "task", "test")


def list_rows(runs: Sequence[ListedRun], known: Known, *, rounded: bool = False) -> list[dict[str, Any]]:
    """One line for each run.

    Args:
        rounded: settings that a search chose have as many digits as mean something.
    """
    own = shown_columns(runs, known)
    rows = []
    for run, settings in zip(runs, settings_texts(runs, rounded=rounded), strict=True):
        found = run.results
        rows.append({
            "id": run.id, "when": ago(run.created_at), "task": run.task, "dataset": run.dataset,
            "optimizer": run.optimizer, "settings": settings, "seed": run.seed, "status": wording.status(run),
            "best val": wording.value(found.get(run.objective)), "test": wording.value(test_value(run)),
            **{one.title: wording.value(found.get(one.key), percent=one.percent) for one in own},
            "time": wording.duration(found["wall_s"]) if "wall_s" in found else "-",
        })  # fmt: skip
    return rows


def best_places(runs: Sequence[ListedRun], known: Known) -> set[int]:
    """Which runs are the best of their task, data and preset by their objective; nothing where there is one run."""
    found: dict[Any, list[tuple[float, int]]] = defaultdict(list)
    for place, run in enumerate(runs):
        value = outcome(run, run.objective)
        if value is not None and math.isfinite(value):
            declared = known.get(run.objective)
            upwards = declared is not None and declared.direction == "max"
            found[section_of(run)].append((-value if upwards else value, place))
    return {min(own)[1] for own in found.values() if len(own) > 1}


def title(run: NamedRun) -> str:
    """What was run, in a line."""
    parts = [run.task, run.dataset, run.preset, run.optimizer, f"seed {run.seed}", run.status]
    return " · ".join(part for part in parts if part)


def ago(then: datetime, now: datetime | None = None) -> str:
    """ "2 min ago", as seen from now."""
    return wording.ago(then, now or datetime.now(UTC))


def settings_texts(runs: Sequence[Run], *, rounded: bool = False) -> list[str]:
    """One text per run: the settings that `groups.shown_settings` chooses among the runs of its task.

    Where there are several presets, the preset stands for all that it sets. The seed, the data set and the optimizer
    have columns of their own.
    """
    presets: dict[str, set[str | None]] = defaultdict(set)
    comparable: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for index, run in enumerate(runs):
        presets[run.task].add(run.preset)
        comparable[run.task, run.preset].append(index)
    texts = [""] * len(runs)
    for (task, preset), indices in comparable.items():
        here = [runs[i] for i in indices]
        settings, optimizers = [run.settings for run in here], [run.optimizer for run in here]
        own = shown_settings(settings, optimizers, [axes_of(run) for run in here])
        named = {"preset": preset} if len(presets[task]) > 1 else {}
        for index, row in zip(indices, own, strict=True):
            texts[index] = wording.settings(
                {**named, **row, **_unrepeatable(runs[index])}, searched=axes_of(runs[index]) if rounded else ()
            )
    return texts


def _unrepeatable(run: Run) -> dict[str, Any]:
    """The end of a run that no repetition meets again, which is said whatever other runs have."""
    return {} if repeatable(run.settings) else {"until": f"{run.settings['until']} (not repeatable)"}
