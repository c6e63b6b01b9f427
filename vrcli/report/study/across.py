"""What a comparison on several tasks has come to: over the tasks first, then task by task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vrcli.direction import better, sign_of
from vrcli.report.study.blocks import Block, Rows, Strong
from vrcli.report.study.claims import Claim, sentences
from vrcli.report.study.compare import compare_blocks, compare_json, plain, verdict_of
from vrcli.report.study.compare import failures as failures_of_task
from vrcli.report.study.compare import verdicts as verdicts_of_task
from vrcli.report.wording import counted, number, p_cell, p_value
from vrcli.stats.across_tasks import ENOUGH_TASKS
from vrcli.study.results import TasksResult

if TYPE_CHECKING:
    from vrcli.stats.across_tasks import AcrossTasks, Ranks
    from vrcli.study.results import CompareResult


def blocks(result: CompareResult | TasksResult, *, power: bool = False, explain: bool = False) -> list[Block]:
    """The whole outcome for people, of one task or of several."""
    if isinstance(result, TasksResult):
        return tasks_blocks(result, power=power, explain=explain)
    return compare_blocks(result, power=power, explain=explain)


def verdict(result: CompareResult | TasksResult) -> str:
    """What can be claimed of all pairs together, in a few words."""
    return verdict_of_tasks(result) if isinstance(result, TasksResult) else verdict_of(result)


def tasks_blocks(result: TasksResult, *, power: bool = False, explain: bool = False) -> list[Block]:
    """The whole outcome for people.

    Args:
        power: also what more seeds could show on each task.
        explain: also each verdict with its numbers in a sentence, and what the lines mean.
    """
    found: list[Block] = [*failures(result)]
    first = next(iter(result.tasks.values()))
    if result.pairs:
        found += [f"over {_tasks(result.pairs[0])} ({', '.join(one.task for one in result.pairs[0].tasks)})"]
        found += [Strong(verdict_of_tasks(result)), "", _pairs(result.pairs)]
        found += [f"ratio: the first's value to the second's, with a {100 * result.pairs[0].level:g}% interval"]
        found += ["", _by_task(result.pairs)]
        if explain:
            found += ["", *(_sentence(result, pair) for pair in result.pairs), "", _legend(result.pairs[0].level)]
            found += ["ratio on a task: geometric mean over replicates of the first's value to the second's"]
    if result.without_ratio:
        names = ", ".join(result.without_ratio)
        found += [f"without {names}: a value is not positive, so ratios mean nothing there"]
    if result.ranks is not None:
        found += ["", *_ranks(result.ranks, first.level)]
    for name, one in result.tasks.items():
        found += ["", f"-- {name} --", *compare_blocks(one, power=power, explain=explain)]
    return found


def verdict_of_tasks(result: TasksResult) -> str:
    """What holds over the tasks, in a few words; nothing where there are no pairs."""
    lead: dict[str, float] = {}
    for pair in result.pairs:
        for name, way in ((pair.a, 1), (pair.b, -1)):
            lead[name] = lead.get(name, 0.0) + way * (0.0 if math.isnan(pair.effect) else pair.effect)
    sign = sign_of(next(iter(result.tasks.values())).direction)
    order = sorted(lead, key=lambda name: sign * lead[name])
    text = sentences([Claim(pair.a, pair.b, _better(result, pair)) for pair in result.pairs], order)
    scope = _scope(result)
    return f"On {_tasks(result.pairs[0])}{f', {scope}' if scope else ''}: {text}" if text else ""


def summary(result: CompareResult | TasksResult) -> list[str]:
    """What `vr compare --quiet` prints: the verdict and what failed; of several tasks, then those of each."""
    if not isinstance(result, TasksResult):
        return [line for line in (verdict(result), *failures_of_task(result)) if line]
    own = [f"{name}: {line}" for name, one in result.tasks.items() for line in summary(one)]
    return [line for line in (verdict_of_tasks(result), *failures(result), *own) if line]


def _scope(result: TasksResult) -> str:
    """Which settings the claims are about, where they are not about the optimizers."""
    first = next(iter(result.tasks.values()))
    if first.replicated is not None:
        return ""
    return "with the settings of one search" if first.trials else "with the preset's settings"


def _better(result: TasksResult, pair: AcrossTasks) -> str | None:
    """The optimizer that is better on these tasks; None where nothing can be claimed."""
    if math.isnan(pair.effect) or math.isnan(pair.low) or pair.p_holm > 1 - pair.level:
        return None
    return pair.a if better(pair.effect, 0, next(iter(result.tasks.values())).direction) else pair.b


def verdicts(result: TasksResult) -> list[str]:
    """One sentence per pair over the tasks, then those of each task."""
    found = [_sentence(result, pair) for pair in result.pairs]
    return found + [f"{name}: {text}" for name, one in result.tasks.items() for text in verdicts_of_task(one)]


def failures(result: TasksResult) -> list[str]:
    """Why tasks have no result."""
    return [f"{name} has no result: {why}" for name, why in result.failed.items()]


def _tasks(pair: AcrossTasks) -> str:
    return f"these {counted(len(pair.tasks), 'task')}"


def _sentence(result: TasksResult, pair: AcrossTasks) -> str:
    """What holds on these tasks, and what may be said of others."""
    scope = _scope(result)
    return f"{f'{scope} ' if scope else ''}{_here(result, pair)}; {_in_general(result, pair)}"


def _here(result: TasksResult, pair: AcrossTasks) -> str:
    metrics = {one.metric for one in result.tasks.values()}
    words = metrics.pop().replace("_", " ") if len(metrics) == 1 else "result"
    if math.isnan(pair.effect):
        diverged = [one.task for one in pair.tasks if math.isnan(one.effect)]
        return f"undecided between {pair.a} and {pair.b} on {_tasks(pair)}: runs diverged on {', '.join(diverged)}"
    if math.isnan(pair.low):
        return f"undecided between {pair.a} and {pair.b} on {_tasks(pair)}: one replicate has no interval"
    tests = f", Holm-corrected for {len(result.pairs)} comparisons" if len(result.pairs) > 1 else ""
    p = f"{p_value(pair.p_holm)}{tests}"
    if (winner := _better(result, pair)) is None:
        size = f"{pair.a}'s {words} is {_ratio(pair.effect, pair.low, pair.high)} times {pair.b}'s"
        return f"undecided between {pair.a} and {pair.b} on {_tasks(pair)}: {size} ({p})"
    loser, sign = (pair.b, 1) if winner == pair.a else (pair.a, -1)
    ends = sorted((sign * pair.low, sign * pair.high))
    size = f"its {words} is {_ratio(sign * pair.effect, *ends)} times as large"
    return f"{winner} is better than {loser} on {_tasks(pair)}: {size} ({p})"


def _in_general(result: TasksResult, pair: AcrossTasks) -> str:
    """Tasks are the sample that speaks of other tasks; few of them cannot."""
    count, tests = len(pair.tasks), len(result.pairs)
    corrected = f", times {tests} comparisons" if tests > 1 else ""
    if count < ENOUGH_TASKS:
        reach = f"{count} tasks can reach no smaller p than {number(pair.smallest_p, 2)}{corrected}"
        return f"of tasks in general it says nothing: {reach}; {ENOUGH_TASKS} can reach 0.031"
    p = p_value(pair.p_general_holm)
    if pair.p_general_holm <= 1 - pair.level:
        return f"this holds for tasks in general ({p}, signed-rank test over {count} tasks{corrected})"
    return f"of tasks in general nothing can be claimed ({p}, signed-rank test over {count} tasks{corrected})"


def _ratio(effect: float, low: float, high: float) -> str:
    return f"{number(math.exp(effect), 3)} [{number(math.exp(low), 3)}, {number(math.exp(high), 3)}]"


def _pairs(pairs: Sequence[AcrossTasks]) -> Rows:
    heading = f"p (Holm, {len(pairs)} tests)" if len(pairs) > 1 else "p"
    rows = []
    for pair in pairs:
        low, high = pair.improvement_interval
        general = pair.p_general_holm
        rows.append({
            "pair": f"{pair.a} / {pair.b}",
            "ratio": "-" if math.isnan(pair.effect) else _ratio(pair.effect, pair.low, pair.high),
            heading: p_cell(pair.p_holm),
            "better with probability": f"{100 * pair.improvement:.0f}% [{100 * low:.0f}, {100 * high:.0f}]",
            "middle half": "-" if math.isnan(pair.iqm) else _ratio(pair.iqm, *pair.iqm_interval),
            "tasks in general": "-" if math.isnan(general) else p_value(general),
        })  # fmt: skip
    return Rows.of(rows, least=["middle half", "tasks in general", "better with probability"])


def _legend(level: float) -> str:
    return (
        f"ratio: geometric mean over the tasks, {100 * level:g}% interval (Satterthwaite); better with probability: "
        "that a replicate of the first beats one of the second, tasks weighing alike; middle half: the ratio without "
        "the highest and the lowest quarter of all replicates"
    )


def _by_task(pairs: Sequence[AcrossTasks]) -> Rows:
    """The pairs on each task."""
    rows = []
    for pair in pairs:
        for one in pair.tasks:
            ratio = "runs diverged" if math.isnan(one.effect) else _ratio(one.effect, one.low, one.high)
            rows.append({
                "task": one.task, "pair": f"{pair.a} / {pair.b}", "ratio": ratio,
                "better in": f"{one.wins} of {len(one.ratios)}",
            })  # fmt: skip
    return Rows.of(rows, left=2)


def _ranks(found: Ranks, level: float) -> list[Block]:
    rows = [
        {"": name, "mean rank": f"{rank:.2f}"} for name, rank in sorted(found.average.items(), key=lambda pair: pair[1])
    ]
    different = [f"{a} and {b} ({p_value(p)})" for (a, b), p in found.pairs.items() if p <= 1 - level]
    told = ", ".join(different) if different else "none"
    return [
        Rows.of(rows),
        f"ranks over {found.tasks} tasks: are all equal? {p_value(found.p)} (Friedman); told apart (Holm): {told}",
    ]


def tasks_json(result: TasksResult) -> dict[str, Any]:
    """The outcome as plain JSON values."""
    ranks = result.ranks
    pairs = [{**plain(asdict(one)), "verdict": _sentence(result, one)} for one in result.pairs]
    return {
        "tasks": {name: compare_json(one) for name, one in result.tasks.items()},
        "failed": dict(result.failed), "verdict": verdict_of_tasks(result), "verdicts": verdicts(result),
        "across": pairs, "without_ratio": list(result.without_ratio),
        "ranks": None if ranks is None else {
            "average": dict(ranks.average), "p": ranks.p, "critical": ranks.critical, "tasks": ranks.tasks,
            "pairs": [{"a": a, "b": b, "p_holm": p} for (a, b), p in ranks.pairs.items()],
        },
    }  # fmt: skip
