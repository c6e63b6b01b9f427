"""What `vr runs list` says about runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from vrcli.report import wording
from vrcli.results.groups import shown_settings
from vrcli.results.types import Known, ListedRun, NamedRun, Run, axes_of, repeatable, shown_columns

#: The columns of text.
LEFT = ("when", "task", "dataset", "optimizer", "settings", "status")


def list_rows(runs: Sequence[ListedRun], known: Known) -> list[dict[str, Any]]:
    """One line for each run."""
    own = shown_columns(runs, known)
    rows = []
    for run, settings in zip(runs, settings_texts(runs), strict=True):
        found = run.results
        rows.append({
            "id": run.id, "when": ago(run.created_at), "task": run.task, "dataset": run.dataset,
            "optimizer": run.optimizer, "settings": settings, "seed": run.seed, "status": wording.status(run),
            "best val": wording.value(found.get(run.objective)), "test": wording.value(found.get("test_loss")),
            **{one.title: wording.value(found.get(one.key), percent=one.percent) for one in own},
            "time": wording.duration(found["wall_s"]) if "wall_s" in found else "-",
        })  # fmt: skip
    return rows


def title(run: NamedRun) -> str:
    """What was run, in a line."""
    parts = [run.task, run.dataset, run.preset, run.optimizer, f"seed {run.seed}", run.status]
    return " · ".join(part for part in parts if part)


def ago(then: datetime, now: datetime | None = None) -> str:
    """ "2 min ago", as seen from now."""
    return wording.ago(then, now or datetime.now(UTC))


def settings_texts(runs: Sequence[Run]) -> list[str]:
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
            texts[index] = wording.settings({**named, **row, **_unrepeatable(runs[index])})
    return texts


def _unrepeatable(run: Run) -> dict[str, Any]:
    """The end of a run that no repetition meets again, which is said whatever other runs have."""
    return {} if repeatable(run.settings) else {"until": f"{run.settings['until']} (not repeatable)"}
