"""What a comparison over independent searches has come to, in words: the verdicts first, then what they rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vrcli.direction import cost
from vrcli.report.study.blocks import Block, Rows, Step
from vrcli.report.study.claims import Claim
from vrcli.report.wording import MINUS, best_over, counted, number, p_cell, p_value, signed, with_half_width
from vrcli.results.types import Run, values_of
from vrcli.stats.inference import t_interval
from vrcli.stats.replicates import Verdict

if TYPE_CHECKING:
    from vrcli.stats.replicates import Comparison, Pair, Replicated
    from vrcli.study.results import CompareResult


def replicated_blocks(result: CompareResult, found: Comparison) -> list[Block]:
    """A row per optimizer and a row per pair."""
    blocks: list[Block] = [replicated_rows(result, found)]
    if any(one.diverged_share for one in found.optimizers):
        blocks.append("a search in which most runs diverged counts as diverged; of the others the median counts")
    level = f"{100 * found.level:g}%"
    blocks += [
        f"± is a {level} interval over {result.searches} searches, {counted(result.seeds, 'fresh seed')} each",
        "", _pairs(found),
    ]  # fmt: skip
    return blocks


def claims(found: Comparison) -> list[Claim]:
    """What is claimed of each pair."""
    return [
        Claim(pair.a, pair.b, pair.better,
              f"within {number(pair.margin, 2)}" if pair.verdict == Verdict.EQUAL else "")
        for pair in found.pairs
    ]  # fmt: skip


def best_first(result: CompareResult) -> list[str]:
    """The optimizers by the mean of what was compared; those with a run that diverged come last."""

    def mean(name: str) -> float:
        values = [value for own in result.values[name] for value in own]
        return cost(sum(values) / len(values) if values else None, result.direction)

    return sorted(result.runs, key=mean)


def explained(result: CompareResult, found: Comparison) -> list[str]:
    """Each verdict with its numbers, then what the lines and columns mean."""
    seeds = [one.luck.best_seeds(result.trials) for one in found.optimizers if math.isfinite(one.luck.share)]
    finite = [value for value in seeds if math.isfinite(value)]
    lines = [*verdicts(result, found), "", *MEANINGS]
    if finite:
        low, high = max(1, round(min(finite))), max(1, round(max(finite)))
        most = f"{low} to {high}" if high > low else str(low)
        lines.append(f"next time, {most} fresh seeds per search tell most for the runs spent")
    return lines


#: What the lines and columns of a comparison mean.
MEANINGS = (
    "each row: one optimizer; its runs on fresh seeds, which neither chose its settings nor were seen by a search",
    "diverged: runs whose loss was not finite, of all; they count as worst",
    "luck of search: the share of the spread that another search of the same optimizer would change",
    "searched: how many settings each search chose",
    "each pair: the first optimizer's value minus the second's, with its interval",
    "p (Holm): how often chance alone shows a difference as large, corrected for the number of pairs",
    "better in: replicates in which the first optimizer is better",
    "would show: the true difference that this many searches detect with power 0.8, corrected for the number of tests",
    "to show it: searches that would show a true difference as large as the one seen",
)


def verdicts(result: CompareResult, found: Comparison) -> list[str]:
    """One sentence per pair."""
    return [_sentence(result, found, pair) for pair in found.pairs]


def _sentence(result: CompareResult, found: Comparison, pair: Pair) -> str:
    words = result.metric.replace("_", " ")
    how = f"over {_searches(result)}, {counted(result.seeds, 'fresh seed')} per search"
    p = f"{p_value(pair.p_holm)}{_tests(pair)}"
    match pair.verdict:
        case Verdict.BETTER | Verdict.WORSE:
            winner, loser = (pair.a, pair.b) if pair.verdict == Verdict.BETTER else (pair.b, pair.a)
            if math.isnan(pair.difference):
                return f"{winner} is better than {loser} in {words} by rank {how} ({p}; {_diverged(pair)})"
            size = f"{number(abs(pair.difference), 2)} ± {number(pair.half_width, 2)}"
            return f"{winner} is better than {loser} by {size} in {words} {how} ({p}){_luck(found, pair)}"
        case Verdict.EQUAL:
            text = f"{pair.a} and {pair.b} are equal within {number(pair.margin, 2)} in {words}"
            return f"{text} {how} ({p_value(pair.p_equal_holm)}{_tests(pair)})"
        case Verdict.MORE:
            return (
                f"undecided between {pair.a} and {pair.b}: runs diverged ({_diverged(pair)}), so that ranks decide; "
                f"{result.searches} searches cannot show anything by rank{_in_tests(pair)}, --searches {pair.needs} can"
            )
    if math.isnan(pair.difference):
        return f"undecided between {pair.a} and {pair.b} in {words} {how} ({pair.test}, {p}; {_diverged(pair)})"
    if math.isnan(pair.detectable):
        seen = f"{pair.a} {MINUS} {pair.b} is {signed(pair.difference)} in {words} in every search"
        return f"undecided between {pair.a} and {pair.b}: {seen}; a difference without a spread cannot be tested"
    seen = f"{signed(pair.difference)} [{signed(pair.interval[0])}, {signed(pair.interval[1])}]"
    return (
        f"undecided between {pair.a} and {pair.b}: {pair.a} {MINUS} {pair.b} is {seen} in {words} {how} ({p}); "
        f"this many searches detect a true difference of {number(pair.detectable, 2)} with power 0.8"
    )


def _searches(result: CompareResult) -> str:
    plural = "es" if result.searches != 1 else ""
    return f"{result.searches} independent search{plural} of {counted(result.trials, 'trial')} each"


def _tests(pair: Pair) -> str:
    return f", Holm-corrected for {pair.tests} comparisons" if pair.tests > 1 else ""


def _in_tests(pair: Pair) -> str:
    return f" in {pair.tests} comparisons" if pair.tests > 1 else ""


def _diverged(pair: Pair) -> str:
    shares = zip((pair.a, pair.b), pair.diverged, strict=True)
    return "diverged: " + " and ".join(f"{100 * share:.0f}% of {name}" for name, share in shares if share)


def _luck(found: Comparison, pair: Pair) -> str:
    """Whether the luck of the search is most of an optimizer's spread; nothing where that cannot be told."""
    names = [one.name for one in found.optimizers if one.name in (pair.a, pair.b) and one.luck.most]
    owners = " and ".join(f"{name}'s" for name in names)
    return f"; the luck of the search is most of {owners} spread" if names else ""


# -- tables -----------------------------------------------------------------------------------------------------------


def replicated_rows(result: CompareResult, found: Comparison) -> Rows:
    """One row per optimizer."""
    rows = []
    order = best_first(result)
    for one in sorted(found.optimizers, key=lambda one: order.index(one.name)):
        runs = result.runs[one.name]
        row: dict[str, Any] = {"": one.name}
        for name, (heading, percent) in _columns(result).items():
            row[heading] = _cell(runs, name, percent=percent, level=result.level)
        row["diverged"] = f"{sum(one.diverged)}/{one.searches * one.seeds}"
        row["luck of search"] = _luck_cell(one)
        row["searched"] = _searched(result, one.name)
        every = [run for own in runs for run in own]
        row["s/run"] = _mean_of(every, "wall_s", 3)
        row["ms/step"] = _mean_of(every, "step_ms", 3)
        row["peak MB"] = _mean_of(every, "peak_memory_bytes", 3, scale=1e-6)
        rows.append(row)
    shown = [name for name in rows[0] if any(row[name] != "-" for row in rows)]
    least = ["peak MB", "ms/step", "searched", "s/run", "luck of search", "diverged"]
    return Rows(shown, rows, shown[1:], least=[name for name in least if name in shown])


def by_until(result: CompareResult) -> bool:
    """Whether something else than epochs ended the runs."""
    return any(run.settings.get("until") for own in result.runs.values() for runs in own for run in runs)


def _columns(result: CompareResult) -> dict[str, tuple[str, bool]]:
    """Results with their headings, that of the verdict first."""
    objective = result.metrics[0]
    columns = {f"test_{m.name}": (f"test {m.name}", m.percent) for m in result.metrics}
    columns[f"best_val_{objective.name}"] = (
        f"best val {objective.name} ({best_over(objective.direction, until=by_until(result))})",
        objective.percent,
    )
    first = {result.metric: columns.get(result.metric, (result.metric.replace("_", " "), False))}
    return first | columns


def _cell(runs: Sequence[Sequence[Run]], name: str, *, percent: bool, level: float) -> str:
    """Mean over the searches of the mean over their seeds; no mean where a run diverged."""
    table = np.array([values_of(own, name) for own in runs])
    if not np.isfinite(table).all():
        return "NaN"
    means = table.mean(axis=1)
    low, high = t_interval(means, level)
    return with_half_width(float(means.mean()), (high - low) / 2, percent=percent)


def _luck_cell(one: Replicated) -> str:
    luck = one.luck
    if math.isnan(luck.share) or not luck.told:
        return "cannot be told"
    low, high = luck.share_interval
    return f"{100 * luck.share:.0f}% ({100 * low:.0f}-{100 * high:.0f})"


def _searched(result: CompareResult, name: str) -> str:
    arm = next(arm for arm in result.arms if arm.optimizer == name)
    return counted(len(arm.search.definition.space), "setting") if arm.search else "-"


def _mean_of(runs: Sequence[Run], name: str, digits: int, scale: float = 1.0) -> str:
    values = [run.results[name] * scale for run in runs if name in run.results]
    return number(sum(values) / len(values), digits) if values else "-"


def _pairs(found: Comparison) -> Rows:
    rows = []
    tests = max(pair.tests for pair in found.pairs)
    heading = f"p (Holm, {tests} tests)" if tests > 1 else "p"
    for pair in found.pairs:
        ranks = math.isnan(pair.difference)
        low, high = map(signed, pair.interval)
        rows.append({
            "pair": f"{pair.a} {MINUS} {pair.b}" + ("" if not pair.secondary else " (secondary)"),
            "difference": "by rank" if ranks else f"{signed(pair.difference)} [{low}, {high}]",
            heading: p_cell(pair.p_holm),
            "better in": f"{pair.wins} of {pair.searches}",
            "would show": "-" if math.isnan(pair.detectable) else number(pair.detectable, 2),
            "to show it": "-" if pair.needed is None else f"{pair.needed} searches",
        })  # fmt: skip
    return Rows.of(rows, least=["to show it", "would show"])


def next_steps(result: CompareResult, found: Comparison) -> list[Step]:
    """What to do where something is undecided: new searches on new seeds, which are not pooled with these."""
    needed = [pair.needed for pair in found.pairs if pair.verdict == Verdict.UNDECIDED and pair.needed]
    needed += [pair.needs for pair in found.pairs if pair.verdict == Verdict.MORE and pair.needs]
    if not needed or max(needed) > 50:
        return []
    options = f"--searches {max(needed)} --seed {new_seed(result)}"
    why = f"{max(needed)} new searches on new seeds, to test what is undecided"
    return [Step("vr compare", why, options)]


def new_seed(result: CompareResult) -> int:
    """The first seed of a block that this comparison has not touched."""
    last = max(seed for arm in result.arms for seed in arm.seeds)
    return (last // 1000 + 1) * 1000
