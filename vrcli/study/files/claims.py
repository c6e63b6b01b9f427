"""Whether what a source says holds here: decided by the statistics of the comparison, at the scale that ran."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from vrcli.results.filter import Filter
from vrcli.results.lines import Reader
from vrcli.stats.comparison import Comparison, compare
from vrcli.stats.inference import t_interval
from vrcli.stats.replicates import Pair, Verdict
from vrcli.study.comparison import margin_of
from vrcli.study.files.model import Claim
from vrcli.study.files.scaled import Scaled
from vrcli.study.files.stored import Found

if TYPE_CHECKING:
    from vrcli.search.record import Store
    from vrcli.study.results import CompareResult


class Said(StrEnum):
    """What becomes of a claim."""

    REPRODUCED = "reproduced"
    CONTRADICTED = "contradicted"
    UNDECIDED = "not decided at this n"
    NOT_RUN = "not run at this scale"
    UNFINISHED = "not finished"


@dataclass(frozen=True)
class Decided:
    """A claim in one part.

    Args:
        ours: the two optimizers, by our names.
        pair: what the verdict rests on; None where nothing ran.
        reason: why it is not decided, where no number says so.
    """

    claim: Claim
    part: str
    said: Said
    ours: tuple[str, str] | None = None
    result: CompareResult | None = None
    pair: Pair | Comparison | None = None
    reason: str = ""


def decided(study: Scaled, found: Mapping[str, Found], store: Store | None) -> list[Decided]:
    """Every claim in every part that it is about."""
    names = list(study.study.parts)
    return [
        _decide(claim, name, study, found.get(name), store)
        for claim in study.study.claims
        for name in claim.parts or names
        if set(claim.pair) <= set(study.study.parts[name].optimizers)
    ]


def _decide(claim: Claim, name: str, study: Scaled, found: Found | None, store: Store | None) -> Decided:
    if found is None:
        why = "the part does not run" if name in study.skipped else "the part was left out"
        return Decided(claim, name, Said.NOT_RUN, reason=why)
    part = found.part
    if not set(claim.pair) <= set(part.names):
        left = " and ".join(source for source in claim.pair if source not in part.names)
        return Decided(claim, name, Said.NOT_RUN, reason=f"{left} does not run")
    ours = part.names[claim.pair[0]], part.names[claim.pair[1]]
    if not claim.of_order and part.changed:
        return Decided(claim, name, Said.NOT_RUN, ours, reason="a distance is decided at full scale only")
    if failed := [f"{one} failed: {found.failed[one]}" for one in ours if one in found.failed]:
        return Decided(claim, name, Said.UNDECIDED, ours, reason="; ".join(failed))
    if not found.complete:
        return Decided(claim, name, Said.UNFINISHED, ours, reason=f"{found.done} of {sum(found.planned.values())} runs")
    if claim.below is not None:
        return _curve(claim, found, ours, store)
    if claim.within is not None:
        return _within(claim, found, ours, store)
    result = found.result(claim.metric, *margin_of(claim.margin))
    pair = None if result is None else _pair(result, ours)
    if result is None or pair is None:
        return Decided(claim, name, Said.UNDECIDED, ours, reason="the two were not compared")
    said = _of_margin(claim, result, pair) if claim.equivalent else _of_order(claim, result, pair, ours[0])
    return Decided(claim, name, said, ours, result, pair)


def _pair(result: CompareResult, ours: tuple[str, str]) -> Pair | Comparison | None:
    """What was found of two optimizers, in whatever order."""
    pairs: Sequence[Pair | Comparison] = result.comparisons
    if result.replicated is not None:
        pairs = result.replicated.pairs
    return next((pair for pair in pairs if {pair.a, pair.b} == set(ours)), None)


def _of_order(claim: Claim, result: CompareResult, pair: Pair | Comparison, first: str) -> Said:
    """Whether the first optimizer of the claim is the better one where that is claimed, and the worse one where not."""
    if pair.better is None:
        return Said.UNDECIDED
    better_claimed = (claim.less is not None) == (result.direction == "min")
    return Said.REPRODUCED if (pair.better == first) == better_claimed else Said.CONTRADICTED


def _of_margin(claim: Claim, result: CompareResult, pair: Pair | Comparison) -> Said:
    """Equal where the whole interval is within the margin, and different where it is outside."""
    if isinstance(pair, Pair):
        if pair.verdict == Verdict.EQUAL or pair.equal:
            return Said.REPRODUCED
        margin, (low, high) = pair.margin, pair.simultaneous
    else:
        value, relative = margin_of(claim.margin)
        assert value is not None
        scale = np.mean([np.mean(result.values[name]) for name in (pair.a, pair.b)]) if relative else 1.0
        margin, (low, high) = value * abs(float(scale)), pair.interval
        if -margin <= low and high <= margin:
            return Said.REPRODUCED
    if math.isnan(low):  # ranks decide
        return Said.CONTRADICTED if pair.better else Said.UNDECIDED
    return Said.CONTRADICTED if low > margin or high < -margin else Said.UNDECIDED


# -- curves -----------------------------------------------------------------------------------------------------------


def _curve(claim: Claim, found: Found, ours: tuple[str, str], store: Store | None) -> Decided:
    """By the largest excess of the first curve over the second, one for each replicate."""
    name = found.part.name
    excess = _excess(claim, found, ours, store)
    if excess is None or len(excess) < 2:
        return Decided(
            claim, name, Said.UNDECIDED, ours, reason=f"there are not two curves of {claim.curve} to compare"
        )
    if not np.isfinite(excess).all():
        return Decided(claim, name, Said.UNDECIDED, ours, reason="runs diverged, so that the curves have no means")
    pair = compare(
        ours[0], excess, ours[1], [0.0] * len(excess), paired=True, metric=f"largest excess in {claim.curve}",
        level=found.part.request.level,
    )  # fmt: skip
    said = Said.UNDECIDED
    if pair.significant:
        said = Said.REPRODUCED if pair.difference < 0 else Said.CONTRADICTED
    return Decided(claim, name, said, ours, None, pair)


def _within(claim: Claim, found: Found, ours: tuple[str, str], store: Store | None) -> Decided:
    """By the mean of a curve over the run, one for each replicate: its whole interval lies in the range, or outside."""
    assert claim.range is not None
    (name, _), (low, high) = ours, claim.range
    means = [] if store is None else _means(claim, found, name, store)
    if len(means) < 2:
        reason = f"there are not two curves of {claim.curve} to average"
        return Decided(claim, found.part.name, Said.UNDECIDED, ours, reason=reason)
    mean, (least, most) = float(np.mean(means)), t_interval(means, found.part.request.level)
    reason = f"mean {mean:.3g} [{least:.3g}, {most:.3g}], in {low:g} to {high:g}; n = {len(means)}"
    said = Said.UNDECIDED
    if low <= least and most <= high:
        said = Said.REPRODUCED
    elif most < low or least > high:
        said, reason = Said.CONTRADICTED, reason.replace(", in ", ", not in ")
    return Decided(claim, found.part.name, said, ours, reason=reason)


def _means(claim: Claim, found: Found, name: str, store: Store) -> list[float]:
    """Of each run the mean of the curve, over another where that is asked for; runs without a finite one are left out,
    and so are the steps at which it was not measured."""
    runs = [run for own in found.blocks[name] for run in own]
    curves = Reader(store, Filter()).curves(runs, [one for one in (claim.curve, claim.of) if one], "step")
    values = []
    for run in runs:
        curve = _mean_curve([curves.get((run.id, claim.curve))], claim.after)
        below = _mean_curve([curves.get((run.id, claim.of))], claim.after) if claim.of else None
        if curve is None or (claim.of and below is None):
            continue
        each = [value / below[step] if below else value for step, value in curve.items() if not below or step in below]
        if finite := [value for value in each if math.isfinite(value)]:
            values.append(float(np.mean(finite)))
    return values


def _excess(claim: Claim, found: Found, ours: tuple[str, str], store: Store | None) -> list[float] | None:
    """By replicate the largest difference of the mean curves, at the steps that all of its runs have."""
    if store is None:
        return None
    a, b = ([list(own) for own in found.blocks[name]] for name in ours)
    if not found.part.request.tuning.trials:  # every seed is a replicate
        a, b = ([[run] for own in blocks for run in own] for blocks in (a, b))
    reader = Reader(store, Filter())
    curves = reader.curves([run for own in (*a, *b) for run in own], [claim.curve], "step")
    values = []
    for own in zip(a, b, strict=True):
        means = [_mean_curve([curves.get((run.id, claim.curve)) for run in runs], claim.after) for runs in own]
        if means[0] is None or means[1] is None:
            return None
        shared = sorted(means[0].keys() & means[1].keys())
        values.append(max((means[0][step] - means[1][step] for step in shared), default=math.nan))
    return values


def _mean_curve(curves: Sequence[Any], after: float) -> dict[int, float] | None:
    """The mean of several curves by step, after a share of the run."""
    if any(curve is None for curve in curves):
        return None
    plain = [dict(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True)) for x, y in curves]
    steps = set.intersection(*map(set, plain))
    last = max((step for own in plain for step in own), default=0)
    return {step: float(np.mean([own[step] for own in plain])) for step in steps if step >= after * last}
