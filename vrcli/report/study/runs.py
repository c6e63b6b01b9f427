"""What runs have come to, in words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from vrcli.report.study.blocks import Rows, Step
from vrcli.report.wording import counted, duration, value
from vrcli.results.types import NamedRun
from vrcli.study.naming import takes_optimizer, usual_dataset, words_of_run


def other(optimizer: str) -> str:
    """An optimizer to compare this one with."""
    return "sgd" if optimizer == "adamw" else "adamw"


def run_steps(record: NamedRun, task: Any, known: Sequence[str] = ()) -> list[Step]:
    """What to type after a run of this class of task.

    Args:
        known: other optimizers with which it has run. A command is compared with no others: `vr` cannot know what
            words its `{opt}` takes.
    """
    steps = [Step(f"vr runs show {record.id}", "curves and settings")]
    if record.status == "interrupted":
        steps.insert(0, Step(f"vr runs resume {record.id}", "continues it, as the same command does"))
        return steps
    rival = next(iter(known), "") if hasattr(task, "command") else other(record.optimizer)
    if record.status == "completed" and rival and takes_optimizer(task):
        reference = record.provenance.get("task", record.task)
        words = ["vr", "compare", *words_of_run(task, reference, record.optimizer), "--opt", rival]
        if dataset := record.spec.get("task_settings", {}).get("dataset"):
            words += [] if dataset == usual_dataset(task, record.preset) else ["--dataset", dataset]
        for name in task.varied() if hasattr(task, "command") else ():
            words += ["--fix", f"{name}={record.spec['optimizer_settings'][name]}"]
        if subset := record.spec.get("training", {}).get("subset"):
            words += ["--subset", str(subset)]
        words += ["--preset", record.preset] if record.preset and record.preset != "quick" else []
        steps.append(Step(shlex.join(words), f"is it better than {rival}?"))
    return steps


def outcome_lines(record: NamedRun, metrics: Sequence[Any]) -> list[str]:
    """The lines that close a run: what it reached, or how it ended.

    Args:
        metrics: those that are shown, the objective first.
    """
    r = record.results
    label = f"run {record.id} · {record.name}"
    reached = r.get(record.objective)
    best = ""
    if reached is not None:
        at = r.get("best_epoch")
        epoch = "" if at is None else f" (epoch {at:.{0 if at == round(at) else 1}f})"
        best = f"best val {metrics[0].name} {value(reached, percent=metrics[0].percent)}{epoch}"
    if record.status == "completed":
        parts = [best]
        parts += [
            f"test {m.name} {value(r[f'test_{m.name}'], percent=m.percent)}" for m in metrics if f"test_{m.name}" in r
        ]
        if "wall_s" in r:
            parts.append(duration(r["wall_s"]))
        if "samples_per_s" in r:
            parts.append(f"{r['samples_per_s']:,.0f} samples/s")
        if "probe_s" in r:
            cost = f", {counted(int(r['probe_gradients']), 'gradient evaluation')}" if r["probe_gradients"] else ""
            took = f"probes took {duration(r['probe_s'])} more{cost}"
            parts.append(took if r["probe_s"] else "probes measured nothing: the run ended before --probe-every")
        lines = [f"{label}   " + "   ".join(p for p in parts if p)]
    else:
        reason = f" ({record.error})" if record.error and record.error != record.status else ""
        lines = [f"{label}   {record.status}{reason}" + (f"   before: {best}" if best else "")]
    return lines


def run_rows(runs: Sequence[NamedRun], metrics: Sequence[Any]) -> Rows:
    """One row per run."""
    rows = [
        {
            "run": run.id, "name": run.name, "task": run.task, "data": run.dataset, "optimizer": run.optimizer,
            "seed": run.seed, "status": run.status,
            f"best val {metrics[0].name}": value(run.results.get(run.objective), percent=metrics[0].percent),
            **{f"test {m.name}": value(run.results.get(f"test_{m.name}"), percent=m.percent) for m in metrics},
            "why": run.error or "",
        }
        for run in runs
    ]  # fmt: skip
    return Rows.of(rows, left=5)
