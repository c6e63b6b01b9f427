"""What a comparison has come to, in words and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vrcli.report.study.blocks import Block, Next, Rows, Step, Strong
from vrcli.report.study.claims import Claim, sentences
from vrcli.report.study.replicated import (
    best_first,
    by_until,
    claims,
    explained,
    new_seed,
    next_steps,
    replicated_blocks,
    replicated_rows,
)
from vrcli.report.study.replicated import verdicts as replicated_verdicts
from vrcli.report.study.sweep import equal_text, search_json
from vrcli.report.tables.comparison import comparison_rows
from vrcli.report.tables.notes import model_size_notes, same_values_notes, weight_decay_notes
from vrcli.report.verdicts import detail, line, verdict
from vrcli.report.wording import MINUS, best_over, counted, end_text, number, p_cell, settings, signed, with_half_width
from vrcli.results.groups import unsearched
from vrcli.results.types import Note, axes_of, repeatable
from vrcli.stats.inference import t_quantile
from vrcli.stats.luck import tipping_point
from vrcli.study.by_budget import incumbents
from vrcli.study.naming import is_command

#: More new seeds than this are not advice.
MOST_SEEDS = 200

if TYPE_CHECKING:
    from vrcli.stats.comparison import Comparison
    from vrcli.stats.replicates import Comparison as Replicated
    from vrcli.study.results import Arm, CompareResult


def compare_blocks(result: CompareResult, *, power: bool = False, explain: bool = False) -> list[Block]:
    """The whole outcome for people: the verdict, a row per optimizer, a row per pair, and what to do next.

    Args:
        power: also what more seeds could show.
        explain: also each verdict with its numbers in a sentence, and what the lines mean.
    """
    found: list[Block] = [_head(result), _budget(result), *([equal_text(result.equal)] if result.equal else []), ""]
    found += [Strong(line) for line in (verdict_of(result), *failures(result)) if line]
    found += [""]
    found += _of_settings(result) if result.replicated is None else replicated_blocks(result, result.replicated)
    if result.by_budget:
        found += ["", *_by_budget(result)]
    if result.target is not None:
        found += ["", *_target_lines(result)]
    if power and result.replicated is None:
        found += ["", *_power_lines(result)]
    if notes := _warnings(result):
        found += ["", *(note.text for note in notes)]
    if explain:
        found += ["", *_explained(result)]
    return [*found, "", Next(_steps(result, explain))]


def verdict_of(result: CompareResult) -> str:
    """What can be claimed of all pairs together, in a few words; of one search each it is about their settings."""
    found = result.replicated
    if found is not None:
        return sentences(claims(found), best_first(result))
    own = [Claim(one.a, one.b, one.better) for one in result.comparisons]
    if not result.trials:
        text = sentences(own, best_first(result))
        return f"With the preset's settings: {text}" if text else ""
    chosen = {arm.optimizer: arm.candidates[0].trial.params for arm in result.arms if arm.candidates}
    names = {name: f"{name} ({settings(params, searched=params)})" for name, params in chosen.items()}
    return sentences(own, best_first(result), names)


def _explained(result: CompareResult) -> list[str]:
    if result.replicated is not None:
        return explained(result, result.replicated)
    lines = [_of_these_settings(result, one) for one in result.comparisons]
    for one in result.comparisons:
        lines += ["", line(one), *(f"  {text}" for text in [detail(one)] if text)]
    return lines


def _steps(result: CompareResult, explain: bool) -> list[Step]:
    """What to do next; where something failed, the same command fails again."""
    steps: list[Step] = []
    pairs = [Step("vr plot difference", "the pairs as a picture")] if result.replicated or result.comparisons else []
    if result.failed:
        return [Step("vr runs list --status failed", "the runs that failed; vr runs show says more of each"), *pairs]
    if result.replicated is not None:
        steps += next_steps(result, result.replicated)
    else:
        if result.trials:
            steps.append(Step("vr compare", "the optimizers, not only these settings of one search", "--searches 5"))
        needed = [one.seeds_needed for one in result.comparisons if not one.better and one.seeds_needed]
        if needed and result.seeds < max(needed) <= MOST_SEEDS:
            why = f"{max(needed)} new seeds, to test what is undecided"
            steps.append(Step("vr compare", why, f"--seeds {max(needed)} --seed {new_seed(result)}"))
        if not result.trials and result.searchable:
            steps.append(Step("vr compare", "tune each optimizer first, not the preset's settings", "--trials 8"))
    if result.trials and not result.by_budget and (runs := incumbents(result.arms, result.trials).runs):
        why = f"what a part of the trials would have found, with {counted(runs, 'more run')}"
        steps.append(Step("vr compare", why, "--by-budget"))
    if not explain:
        steps.append(Step("vr compare", "the same in sentences, with what each column means", "--explain"))
    return [*steps, *pairs]


def summary_blocks(result: CompareResult) -> list[Block]:
    """What was compared, the verdicts, and a row per optimizer; not what to do next."""
    table = replicated_rows(result, result.replicated) if result.replicated is not None else _settings_rows(result)
    notes = [note.text for note in _warnings(result)]
    told = [Strong(line) for line in (verdict_of(result), *failures(result)) if line]
    return [_head(result), _budget(result), "", *told, "", table, *notes]


def _warnings(result: CompareResult) -> list[Note]:
    """What the optimizers differ in beside themselves, and what leaves nothing to test."""
    rows = [(name, run) for name in result.runs for run in result.of(name)[:1]]
    decays = unsearched("weight_decay", [(name, run.settings, axes_of(run)) for name, run in rows])
    sizes = {int(run.results["parameters"]) for _, run in rows if "parameters" in run.results}
    values = {name: [value for own in table for value in own] for name, table in result.values.items()}
    fairness = [*weight_decay_notes(rows[0][1].task, decays), *model_size_notes(rows[0][1].task, sizes)]
    return [*same_values_notes(values), *fairness]


def verdicts(result: CompareResult) -> list[str]:
    """One sentence per pair of optimizers, or of their settings where there was one search or none; then one for each
    optimizer that failed."""
    if result.replicated is not None:
        return [*replicated_verdicts(result, result.replicated), *failures(result)]
    return [*(_of_these_settings(result, one) for one in result.comparisons), *failures(result)]


def failures(result: CompareResult) -> list[str]:
    """Why optimizers could not be compared."""
    return [f"{name} could not be compared: {why}" for name, why in result.failed.items()]


def _head(result: CompareResult) -> str:
    first = result.of(next(iter(result.runs)))[0]
    metric = result.metric.replace("_", " ")
    if result.metric.startswith("test_") and not is_command(result.task):  # which measures it where it will
        metric += " at the best validation epoch"
    elif result.metric.startswith("best_"):
        metric += f" (the {best_over(result.direction, until=by_until(result))})"
    return " · ".join([first.task, first.dataset or "", str(first.preset), metric])


def _budget(result: CompareResult) -> str:
    """What each optimizer was given."""
    ends = {name: end_text(result.of(name)[0].settings) for name in result.runs}
    same = len(set(ends.values())) == 1
    epochs = next(iter(ends.values())) if same else ", ".join(f"{name} {end}" for name, end in ends.items())
    epochs += "" if all(repeatable(result.of(name)[0].settings) for name in result.runs) else " (not repeatable)"
    if not result.trials:
        for_all = "the same for all" if same else "so the budgets differ"
        return f"the preset's settings, {epochs}, {counted(result.seeds, 'fresh seed')}, {for_all}"
    best = len(result.arms[0].candidates)
    reranking = max(sum(len(one.values) for one in arm.candidates) for arm in result.arms)
    again = f" and {counted(reranking, 'run')} that rank its best {best} again" if reranking else ""
    searches = "1 search" if result.searches == 1 else f"{result.searches} searches"
    each = " each" if result.searches > 1 else ""
    return (
        f"budget of each optimizer: {searches}{each} of {counted(result.trials, 'trial')} x {epochs}{again}; then "
        f"{counted(result.seeds, 'fresh seed')} per search{_searched(result)}"
    )


def _searched(result: CompareResult) -> str:
    """How many settings each optimizer searched, where they are not as many."""
    counts = {arm.optimizer: len(arm.search.definition.space) for arm in result.arms if arm.search}
    if len(set(counts.values())) < 2:
        return ""
    return "; searched: " + ", ".join(f"{name} {counted(count, 'setting')}" for name, count in counts.items())


def _of_settings(result: CompareResult) -> list[Block]:
    """A row per optimizer and a row per pair of single settings: the preset's, or those of one search."""
    found: list[Block] = [_settings_rows(result)]
    found += [f"± is a {100 * result.level:g}% interval of the mean"]
    return [*found, "", _pairs(result.comparisons)] if result.comparisons else found


def _pairs(comparisons: Sequence[Comparison]) -> Rows:
    family = max(one.family for one in comparisons)
    heading = f"p (Holm, {family} tests)" if family > 1 else "p"
    rows = []
    for one in comparisons:
        ranks = math.isnan(one.difference)
        interval = "" if not math.isfinite(one.half_width) else " [{}, {}]".format(*map(signed, one.interval))
        rows.append({
            "pair": f"{one.a} {MINUS} {one.b}",
            "difference": "by rank" if ranks else f"{signed(one.difference)}{interval}",
            heading: p_cell(one.p_holm),
            "better in": f"{one.wins} of {one.n}" if one.paired else "-",
            "would show": "-" if ranks or not math.isfinite(one.detectable) else number(one.detectable, 2),
            "to show it": "-" if one.seeds_needed is None else f"{one.seeds_needed} seeds",
        })  # fmt: skip
    return Rows.of(rows, least=["to show it", "would show"])


def _settings_rows(result: CompareResult) -> Rows:
    objective = result.metrics[0]
    columns = {f"test_{m.name}": (f"test {m.name}", m.percent) for m in result.metrics}
    said = f"best val {objective.name} ({best_over(objective.direction, until=by_until(result))})"
    columns[f"best_val_{objective.name}"] = (said, objective.percent)
    if result.metric not in columns:  # what the verdicts are about stands in the table
        columns = {result.metric: (result.metric.replace("_", " "), False), **columns}
    groups = {name: result.of(name) for name in best_first(result)}
    searches = {one.definition.optimizer: one.trials for one in result.tuned.searches} if result.tuned else {}
    budgets = {name: len(searches[name]) if searches else 1 for name in groups}
    rows = comparison_rows(groups, columns, budgets, level=result.level)
    return Rows.of(rows, least=["budget", "s/run", "diverged"])


def _of_these_settings(result: CompareResult, one: Comparison) -> str:
    """The verdict; of one search each it is about the settings, and says how little it says of the optimizers."""
    if not result.trials:
        return verdict(one, new_seed(result))
    names = {arm.optimizer: settings(arm.candidates[0].trial.params) for arm in result.arms}
    text = f"with these settings ({one.a}: {names[one.a]}; {one.b}: {names[one.b]}) {verdict(one, new_seed(result))}"
    if not one.significant or not math.isfinite(one.difference):
        return text
    tip = tipping_point(one.difference, one.half_width / t_quantile(one.n - 1, one.level), one.n - 1, one.level)
    return (
        f"{text}; it holds for the optimizers only if another search would move the tuned value by less than "
        f"{number(tip, 2)} (sd): --searches 5 tells"
    )


def _power_lines(result: CompareResult) -> list[str]:
    lines = ["what more seeds could show (power 0.8, given the spread seen)"]
    for one in result.comparisons:
        seen = "no number of seeds" if one.seeds_needed is None else f"{one.seeds_needed} seeds"
        lines.append(
            f"  {one.a}, {one.b}: {one.n} seeds show a difference of {number(one.detectable, 2)}; "
            f"the one seen would take {seen}"
        )
    return lines


def _by_budget(result: CompareResult) -> list[Block]:
    """Performance against tuning budget."""
    rows = []
    for name, one in result.by_budget.items():
        row = {"": name}
        ends = zip(one.trials, one.mean, one.low, one.high, one.median, one.diverged, strict=True)
        for trials, mean, low, high, median, n_diverged in ends:
            told = f"{number(median)} (median; {n_diverged} of {one.searches} diverged)"
            row[f"after {counted(trials, 'trial')}"] = told if n_diverged else with_half_width(mean, (high - low) / 2)
        rows.append(row)
    title = f"{result.metric.replace('_', ' ')} by tuning budget: the best of each search so far, on the fresh seeds"
    return [title, Rows.of(rows)]


def _target_lines(result: CompareResult) -> list[str]:
    """What it took to get there, in gradients only where steps do not say so."""
    one_each = all(by_unit["gradients"] == by_unit["steps"] for by_unit in result.reached.values())
    lines = [f"to val {result.metrics[0].name.replace('_', ' ')} {result.target:g}"]
    for optimizer, by_unit in result.reached.items():
        texts = [f"{found.median:.4g} {unit}" for unit, found in by_unit.items()
                 if found.median is not None and not (one_each and unit == "gradients")]  # fmt: skip
        median = f"median {'  '.join(texts)}   " if texts else ""
        last = by_unit["s"]
        lines.append(f"  {optimizer:12} {median}reached by {last.reached} of {last.n}")
    return lines


def compare_json(result: CompareResult) -> dict[str, Any]:
    """The outcome as plain JSON values."""
    told = verdicts(result)
    pairs = [
        {**plain(asdict(one)), "verdict": text, "better": one.better}
        for one, text in zip(result.comparisons, told, strict=False)  # then follow those that failed
    ]
    return {
        "task": result.task, "preset": result.preset, "metric": result.metric, "level": result.level,
        "trials": result.trials, "searches": result.searches, "seeds": result.seeds, "equal": list(result.equal),
        "sweeps": [search_json(one) for one in result.tuned.searches] if result.tuned else [],
        "verdict": verdict_of(result), "verdicts": told, "comparisons": pairs, "failed": dict(result.failed),
        "warnings": [{"kind": note.kind, "text": note.text} for note in _warnings(result)],
        "replicated": None if result.replicated is None else _replicated_json(result.replicated),
        "target": result.target,
        "reached": {
            name: {unit: {"median": one.median, "reached": one.reached, "n": one.n} for unit, one in by_unit.items()}
            for name, by_unit in result.reached.items()
        },
        "by_budget": {name: plain(asdict(one)) for name, one in result.by_budget.items()},
        "optimizers": {
            name: {
                "values": plain({run.seed: value for own, found in zip(runs, result.values[name], strict=True)
                                  for run, value in zip(own, found, strict=True)}),
                "runs": [run.id for own in runs for run in own],
                "statuses": [run.status for own in runs for run in own],
                "replicates": [_arm_json(arm) for arm in result.arms if arm.optimizer == name],
            }
            for name, runs in result.runs.items()
        },
    }  # fmt: skip


def _replicated_json(found: Replicated) -> dict[str, Any]:
    body = plain(asdict(found))
    for one, pair in zip(body["pairs"], found.pairs, strict=True):
        one["better"] = pair.better
    return body


def _arm_json(arm: Arm) -> dict[str, Any]:
    return {
        "settings": dict(arm.candidates[0].trial.params) if arm.candidates else {}, "seeds": list(arm.seeds),
        "search_id": arm.search.search_id if arm.search else None,
        "reranked": [{"trial": one.trial.number, **plain({"values": one.values})} for one in arm.candidates],
    }  # fmt: skip


def plain(values: Mapping[Any, Any]) -> dict[str, Any]:
    """The same for JSON, which has no NaN and no infinities: those become their names."""
    from vrcli.output import json_number

    def one(value: Any) -> Any:
        if isinstance(value, Mapping):
            return plain(value)
        if isinstance(value, tuple | list):
            return [one(v) for v in value]
        return json_number(value) if isinstance(value, float) else value

    return {str(key): one(value) for key, value in values.items()}
