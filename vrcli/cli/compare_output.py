"""What a comparison has come to, in words and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vrcli.study.events import CompareResult


def compare_lines(result: CompareResult, *, power: bool = False) -> list[str]:
    """The whole outcome for people.

    Args:
        power: also what more seeds could show.
    """
    from vrcli.cli.grid import grid
    from vrcli.cli.sweep_output import best_of_k_lines
    from vrcli.report.tables.comparison import comparison_rows
    from vrcli.report.verdicts import detail, line, verdict
    from vrcli.tasks.base import headline

    first = next(iter(result.groups.values()))[0]
    epochs, objective = first.spec["training"]["epochs"], result.metrics[0]
    tuned = f"{result.trials} trials x {epochs} epochs each, then" if result.trials else f"{epochs} epochs,"
    head = [first.task, first.dataset or "", f"preset {first.preset}", f"{tuned} {result.seeds} fresh seeds paired"]
    columns = {f"best_val_{objective.name}": (f"best val {objective.name}", objective.percent)}
    columns |= {f"test_{m.name}": (f"test {m.name}", m.percent) for m in headline(result.metrics)}
    searches = {one.definition.optimizer: one.trials for one in result.tuned.searches} if result.tuned else {}
    budgets = {name: len(searches[name]) if searches else 1 for name in result.groups}
    rows = comparison_rows(result.groups, columns, budgets, level=result.level)
    lines = ["", " · ".join(head), "", *grid(list(rows[0]), rows, right=list(rows[0])[1:])]
    lines.append(f"± is a {100 * result.level:g}% interval of the mean")
    if result.trials:
        lines.append(f"the settings come from one search each (--search-seed {result.search_seed})")
    lines.append("")
    for one in result.comparisons:
        lines += [line(one), *(f"  {text}" for text in [detail(one)] if text), f"→ {verdict(one)}"]
    if power:
        lines += ["", *_power_lines(result)]
    if searches:
        ended = {name: [(trial.status, trial.value) for trial in trials] for name, trials in searches.items()}
        lines += ["", *best_of_k_lines(ended, objective.name)]
    if result.target is not None:
        lines += ["", *_target_lines(result)]
    return lines


def _power_lines(result: CompareResult) -> list[str]:
    from vrcli.report.wording import number

    lines = ["what more seeds could show (power 0.8, given the spread seen)"]
    for one in result.comparisons:
        seen = "no number of seeds" if one.seeds_needed is None else f"{one.seeds_needed} seeds"
        lines.append(
            f"  {one.a}, {one.b}: {one.n} seeds show a difference of {number(one.detectable, 2)}; "
            f"the one seen would take {seen}"
        )
    return lines


def _target_lines(result: CompareResult) -> list[str]:
    lines = [f"to val {result.metrics[0].name.replace('_', ' ')} {result.target:g}"]
    for optimizer, by_unit in result.reached.items():
        texts = [f"{found.median:.4g} {unit}" for unit, found in by_unit.items() if found.median is not None]
        median = f"median {'  '.join(texts)}   " if texts else ""
        last = by_unit["s"]
        lines.append(f"  {optimizer:12} {median}reached by {last.reached} of {last.n}")
    return lines


def compare_json(result: CompareResult) -> dict[str, Any]:
    """The outcome as plain JSON values."""
    from vrcli.cli.sweep_output import search_json
    from vrcli.report.verdicts import verdict

    pairs = [{**_plain(asdict(one)), "verdict": verdict(one), "better": one.better} for one in result.comparisons]
    return {
        "task": result.task, "preset": result.preset, "metric": result.metric, "level": result.level,
        "trials": result.trials, "sweeps": [search_json(one) for one in result.tuned.searches] if result.tuned else [],
        "comparisons": pairs,
        "optimizers": {
            name: {"values": _plain(result.values[name]), "runs": [run.id for run in runs],
                   "statuses": [run.status for run in runs]}
            for name, runs in result.groups.items()
        },
    }  # fmt: skip


def _plain(values: Mapping[Any, Any]) -> dict[str, Any]:
    """The same for JSON, which has no NaN and no infinities: those become their names."""
    from vrcli.output import json_number

    def one(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return [one(v) for v in value]
        return json_number(value) if isinstance(value, float) else value

    return {str(key): one(value) for key, value in values.items()}
