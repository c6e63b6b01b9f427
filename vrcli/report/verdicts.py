"""A comparison in sentences that claim no more than the numbers allow."""

from __future__ import annotations

import math

from vrcli.report.wording import MINUS, number, p_value, signed
from vrcli.stats.comparison import ENOUGH_PAIRS, Comparison
from vrcli.stats.inference import ENOUGH_FOR_BOOTSTRAP


def line(found: Comparison, unit: str = "seeds") -> str:
    """The numbers: difference, interval, p and wins.

    Args:
        unit: what the samples are of.
    """
    head = f"{found.a} {MINUS} {found.b}:"
    if any(found.diverged):
        head += f" no mean difference in {found.metric} ({_diverged(found)})"
    else:
        head += f" {signed(found.difference)}"
        if math.isfinite(found.half_width):
            head += f" [{signed(found.interval[0])}, {signed(found.interval[1])}]"
        head += f" in {found.metric}"
    if not math.isnan(found.p):
        head += f", {p_value(found.p)} ({found.test})"
    return head + (f", {found.a} better in {found.wins} of {found.n} {unit}" if found.paired else "")


def detail(found: Comparison) -> str:
    """How large the difference is beside the spread; empty where there is no mean difference."""
    if not math.isfinite(found.effect_size):
        return ""
    how = "d_z" if found.paired else "Hedges' g"
    text = f"effect size {signed(found.effect_size)} ({how}), "
    text += f"{found.a} better in {100 * found.superiority:.0f}% of all pairs of runs"
    if found.n >= ENOUGH_FOR_BOOTSTRAP and math.isfinite(found.bootstrap[0]):
        low, high = map(signed, found.bootstrap)
        text += f", bootstrap interval [{low}, {high}]"
    return text


def verdict(found: Comparison, new_seed: int = 1000) -> str:
    """One sentence that claims no more than the numbers allow.

    Args:
        new_seed: from which on no seed was used here. More seeds are a new experiment: a test that is repeated until
            it speaks is wrong more often than it says.
    """
    if found.n < 2:
        return "no difference can be claimed from one seed: use --seeds 5 or more"
    return _claim(found) if found.significant else _no_claim(found, new_seed)


def _claim(found: Comparison) -> str:
    winner = found.better
    loser = found.b if winner == found.a else found.a
    how = f"{_design(found)}, {p_value(found.p_holm)}{_holm(found)}"
    if any(found.diverged):
        return f"{winner} is better than {loser} in {found.metric} by rank ({how}; {_diverged(found)})"
    size = number(abs(found.difference), 2)
    if math.isfinite(found.half_width):
        size += f" ± {number(found.half_width, 2)}"
        how += f"; ± is this pair's {100 * found.level:g}% interval, not corrected" if found.family > 1 else ""
    text = f"{winner} is better than {loser} by {size} in {found.metric} ({how})"
    if found.p_check > 1 - found.level and _check_can_confirm(found):
        text += f"; a permutation test ({p_value(found.p_check)}) does not confirm it"
    if found.n == 2:
        text += "; two seeds hardly show a spread: use --seeds 5 or more before relying on it"
    return text


def _no_claim(found: Comparison, new_seed: int) -> str:
    text = f"no difference between {found.a} and {found.b} can be claimed in {found.metric}"
    if any(found.diverged):
        text += f" ({_design(found)}, {found.test}, {p_value(found.p_holm)}{_holm(found)}; {_diverged(found)})"
        return text + (": too few seeds for a rank test, use --seeds 6 or more" if found.n < 4 else "")
    if found.half_width == 0:
        return f"{text}: the {'values are' if found.difference == 0 else 'difference is'} the same on every seed"
    inside = found.interval[0] <= 0 <= found.interval[1]
    why = "the interval contains 0" if inside else f"{p_value(found.p_holm)}{_holm(found)}"
    text += f": {why}; smallest detectable difference {number(found.detectable, 2)} at n = {found.n}"
    if found.seeds_needed is None:
        return text
    if found.seeds_needed > found.n:
        options = f"--seeds {found.seeds_needed} --seed {new_seed}"
        return f"{text}; to test {number(abs(found.difference), 2)}, run {found.seeds_needed} new seeds: {options}"
    return text


def _design(found: Comparison) -> str:
    return f"paired over {found.n} seeds" if found.paired else f"unpaired, {found.n} seeds each"


def _holm(found: Comparison) -> str:
    return f", Holm-corrected for {found.family} comparisons" if found.family > 1 else ""


def _diverged(found: Comparison) -> str:
    count = " and ".join(f"{d} of {name}" for d, name in zip(found.diverged, (found.a, found.b), strict=True) if d)
    return f"diverged: {count}, counted as worst"


def _check_can_confirm(found: Comparison) -> bool:
    return found.n >= ENOUGH_PAIRS or (not found.paired and found.n >= 4)
