"""Whether what a source says holds here: decided by the statistics of the comparison, at the scale that ran."""

from __future__ import annotations

import itertools
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
from vrcli.stats.rates import local, rate
from vrcli.stats.replicates import Pair, Verdict
from vrcli.study.comparison import margin_of
from vrcli.study.files.model import Claim
from vrcli.study.files.scaled import Scaled
from vrcli.study.files.stored import Found

if TYPE_CHECKING:
    from vrcli.search.record import Store
    from vrcli.study.results import CompareResult


#: Of resampled ones: the interval of fewer is much too narrow.
LEAST_REPLICATES = 5
#: What a curve may exceed another by, relatively, as far as rounding makes it: curves are measured in single precision.
ROUNDING = 1e-5


class Said(StrEnum):
    """What becomes of a claim."""

    REPRODUCED = "reproduced"
    CONTRADICTED = "contradicted"
    COMPATIBLE = "compatible"  # with a rate, of which runs of some lengths prove nothing
    VIOLATED = "violated"
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
        unit: what the pair's samples are of.
    """

    claim: Claim
    part: str
    said: Said
    ours: tuple[str, str] | None = None
    result: CompareResult | None = None
    pair: Pair | Comparison | None = None
    reason: str = ""
    unit: str = "seeds"


def decided(study: Scaled, found: Mapping[str, Found], store: Store | None) -> list[Decided]:
    """Every claim in every part that it is about."""
    every: list[Decided] = []
    for claim in study.study.claims:
        names = [
            name for name in claim.parts or study.study.parts
            if set(claim.pair) <= set(study.study.parts[name].optimizers)
        ]  # fmt: skip
        if claim.rate is not None:
            every.append(_over_parts(claim, names, study, found, store))
        else:
            every += [_decide(claim, name, study, found.get(name), store) for name in names]
    return every


def _over_parts(
    claim: Claim, names: Sequence[str], study: Scaled, found: Mapping[str, Found], store: Store | None
) -> Decided:  # fmt: skip
    """A claim that the runs of several parts decide together, of those that run at this scale."""
    left = [name for name in names if name not in study.skipped]
    if len(left) < 2:
        label = f"{claim.parts[0]} to {claim.parts[-1]}"
        return Decided(claim, label, Said.NOT_RUN, reason="fewer than two of its parts run")
    label = f"{left[0]} to {left[-1]}"
    for name in left:
        if (unready := _unready(claim, name, study, found.get(name))) is not None:
            reason = f"part {name}: {unready.reason}"
            return Decided(claim, label, unready.said, unready.ours, reason=reason)
    return _rate(claim, label, [found[name] for name in left], store)


def _decide(claim: Claim, name: str, study: Scaled, found: Found | None, store: Store | None) -> Decided:
    if (unready := _unready(claim, name, study, found)) is not None:
        return unready
    assert found is not None
    ours = _ours(claim, found)
    if claim.below is not None:
        return _curve(claim, found, ours, store)
    if claim.within is not None:
        return _within(claim, found, ours, store)
    if claim.never_above is not None:
        return _never_above(claim, found, ours, store)
    result = found.result(claim.metric, *margin_of(claim.margin))
    pair = None if result is None else _pair(result, ours)
    if result is None or pair is None:
        return Decided(claim, name, Said.UNDECIDED, ours, reason="the two were not compared")
    said = _of_margin(claim, result, pair) if claim.equivalent else _of_order(claim, result, pair, ours[0])
    return Decided(claim, name, said, ours, result, pair)


def _ours(claim: Claim, found: Found) -> tuple[str, str]:
    """The optimizers of a claim, by our names in a part."""
    return found.part.names[claim.pair[0]], found.part.names[claim.pair[1]]


def _unready(claim: Claim, name: str, study: Scaled, found: Found | None) -> Decided | None:
    """Why a claim is not decided in a part, where the part's runs do not allow it; None where they do."""
    if found is None:
        why = "the part does not run" if name in study.skipped else "the part was left out"
        return Decided(claim, name, Said.NOT_RUN, reason=why)
    part = found.part
    if not set(claim.pair) <= set(part.names):
        left = " and ".join(source for source in claim.pair if source not in part.names)
        return Decided(claim, name, Said.NOT_RUN, reason=f"{left} does not run")
    ours = _ours(claim, found)
    if not claim.of_order and part.changed:
        return Decided(claim, name, Said.NOT_RUN, ours, reason="a distance is decided at full scale only")
    if failed := [f"{one} failed: {found.failed[one]}" for one in ours if one in found.failed]:
        return Decided(claim, name, Said.UNDECIDED, ours, reason="; ".join(failed))
    if not found.complete:
        return Decided(claim, name, Said.UNFINISHED, ours, reason=f"{found.done} of {sum(found.planned.values())} runs")
    return None


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
    if pair.better is None:  # no difference is decided after the correction, so none of more than the margin
        return Said.UNDECIDED
    return Said.UNDECIDED if low <= margin and high >= -margin else Said.CONTRADICTED  # no interval: ranks decide


# -- curves -----------------------------------------------------------------------------------------------------------


_DIVERGED = "runs diverged, so that the curves have no means"


def _curve(claim: Claim, found: Found, ours: tuple[str, str], store: Store | None) -> Decided:
    """Reproduced by the largest excess of the first curve over the second in each replicate, which is below 0;
    contradicted by one step at which the first is decided to be the higher one, among all steps. (The largest excess
    is above 0 by noise alone where two curves are close.)"""
    name, level = found.part.name, found.part.request.level
    if any(map(found.diverged, ours)):
        return Decided(claim, name, Said.UNDECIDED, ours, reason=_DIVERGED)
    steps, excess = _excess(claim, found, ours, store)
    if len(excess) < 2 or not steps:
        return Decided(
            claim, name, Said.UNDECIDED, ours, reason=f"there are not two curves of {claim.curve} to compare"
        )
    if not np.isfinite(excess).all():
        return Decided(claim, name, Said.UNDECIDED, ours, reason=f"{claim.curve} is not a number at every step")

    def held(values: Any, metric: str) -> Comparison:
        return compare(ours[0], values, ours[1], [0.0] * len(values), paired=True, metric=metric, level=level)

    pair = held(excess.max(axis=1), f"largest excess in {claim.curve}")
    if pair.significant and pair.difference < 0:
        return Decided(claim, name, Said.REPRODUCED, ours, None, pair, unit=_unit(found))
    mean, error = excess.mean(axis=0), excess.std(axis=0, ddof=1)
    sure = np.where(mean > 0, math.inf, -math.inf)  # where no replicate differs from another
    at = int(np.argmax(np.divide(mean, error, out=sure, where=error > 0)))  # the largest t
    highest = held(excess[:, at], f"{claim.curve} at step {steps[at]:,}")
    if not (highest.difference > 0 and highest.p * len(steps) <= 1 - level):
        return Decided(claim, name, Said.UNDECIDED, ours, None, pair, unit=_unit(found))
    reason = f"the verdict multiplies p by {len(steps):,}, as the curves are compared at {len(steps):,} steps"
    return Decided(claim, name, Said.CONTRADICTED, ours, None, highest, reason, _unit(found))


def _within(claim: Claim, found: Found, ours: tuple[str, str], store: Store | None) -> Decided:
    """By the mean of a curve over the run, one for each replicate: its whole interval lies in the range, or outside."""
    assert claim.range is not None
    (name, _), (low, high) = ours, claim.range
    if found.diverged(name):
        return Decided(claim, found.part.name, Said.UNDECIDED, ours, reason=_DIVERGED)
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


def _replicates(found: Found, name: str) -> list[list[Any]]:
    """The runs of each replicate of an optimizer: of one search, or of one seed where nothing is searched."""
    blocks = [list(own) for own in found.blocks[name]]
    return blocks if found.part.request.tuning.trials else [[run] for own in blocks for run in own]


def _unit(found: Found) -> str:
    return "searches" if found.part.request.tuning.trials else "seeds"


def _means(claim: Claim, found: Found, name: str, store: Store) -> list[float]:
    """Of each replicate the mean of the curve, over another where that is asked for; runs without a finite one are
    left out, and so are the steps at which it was not measured."""
    replicates = _replicates(found, name)
    runs = [run for own in replicates for run in own]
    curves = Reader(store, Filter()).curves(runs, [one for one in (claim.curve, claim.of) if one], "step")

    def mean(run: Any) -> float:
        curve = _mean_curve([curves.get((run.id, claim.curve))], claim.after)
        below = _mean_curve([curves.get((run.id, claim.of))], claim.after) if claim.of else None
        if curve is None or (claim.of and below is None):
            return math.nan
        each = list(curve.values())
        if below is not None:  # where that is zero there is no ratio
            each = [value / below[step] for step, value in curve.items() if below.get(step)]
        finite = [value for value in each if math.isfinite(value)]
        return float(np.mean(finite)) if finite else math.nan

    values = [[value for run in own if not math.isnan(value := mean(run))] for own in replicates]
    return [float(np.mean(own)) for own in values if own]


def _never_above(claim: Claim, found: Found, ours: tuple[str, str], store: Store | None) -> Decided:
    """By every stored step of every run that has numbers of both curves; one step above contradicts the claim."""
    runs = [run for own in found.blocks[ours[0]] for run in own]
    curves = {} if store is None else Reader(store, Filter()).curves(runs, [claim.curve, claim.of], "step")
    stored, pairs = 0, list[tuple[float, float]]()
    for run in runs:
        curve, bound = (
            _mean_curve([curves.get((run.id, name))], claim.after) or {} for name in (claim.curve, claim.of)
        )
        stored += len(curve)
        pairs += [(value, bound[step]) for step, value in curve.items() if step in bound]
    both = np.array(pairs).reshape(-1, 2)
    values, bounds = both[~np.isnan(both).any(axis=1)].T  # one without end is above every bound
    if not values.size:
        reason = f"no step has a number of both {claim.curve} and {claim.of}"
        return Decided(claim, found.part.name, Said.UNDECIDED, ours, reason=reason)
    above = int((values > bounds + ROUNDING * abs(bounds)).sum())
    reason = f"above at {above:,} of {values.size:,} steps of {len(runs)} runs"
    if (bounds > 0).any():
        reason += f", at most {(values[bounds > 0] / bounds[bounds > 0]).max():.6f} times as high"
    if left := stored - values.size:
        reason += f"; {left:,} more steps ({100 * left / stored:.1f} % of all) have no number of one of the two"
    said = Said.CONTRADICTED if above else Said.REPRODUCED
    if not above and (ended := sum(run.status == "diverged" for run in runs)):
        said, reason = Said.UNDECIDED, f"{reason}; {ended} of the runs diverged, and what they did then is not stored"
    return Decided(claim, found.part.name, said, ours, reason=reason)


def _rate(claim: Claim, label: str, parts: Sequence[Found], store: Store | None) -> Decided:
    """By the exponent of the smallest mean over the replicates: violated where its whole interval is above that of the
    claimed rate at the same lengths, and else compatible."""
    assert claim.power is not None
    ours, lengths, tables = _ours(claim, parts[0]), list[int](), list[Any]()
    for found in parts:
        length, table = _table(claim, found, store)
        if isinstance(table, str):
            return Decided(claim, label, Said.UNDECIDED, ours, reason=f"part {found.part.name}: {table}")
        lengths.append(length)
        tables.append(table)
    if any(after <= before for before, after in itertools.pairwise([1, *lengths])):
        reason = f"the parts' runs must be longer from part to part, got {', '.join(map(str, lengths))} steps"
        return Decided(claim, label, Said.UNDECIDED, ours, reason=reason)
    fit = rate(lengths, tables, power=claim.power, logs=claim.logs, level=parts[0].part.request.level)
    low, high = fit.interval
    reason = (
        f"exponent {fit.exponent:.2f} [{low:.2f}, {high:.2f}], the claimed rate's {fit.claimed:.2f}; "
        f"N = {', '.join(f'{n:,}' for n in lengths)}: {', '.join(f'{value:.3g}' for value in fit.values)}; "
        f"from N to N {', '.join(f'{one:.2f}' for one in local(lengths, fit.values))}; "
        f"n = {min(map(len, tables))} {_unit(parts[0])}"
    )
    return Decided(claim, label, Said.VIOLATED if fit.violated else Said.COMPATIBLE, ours, reason=reason)


def _table(claim: Claim, found: Found, store: Store | None) -> tuple[int, Any]:
    """The last step of a part's runs, and the values of a curve (replicates, steps) at the steps that all of them have;
    in the place of the values, what keeps a rate from being fitted to them."""
    replicates = _replicates(found, _ours(claim, found)[0])
    runs = [run for own in replicates for run in own]
    if len(replicates) < LEAST_REPLICATES:
        return 0, f"{len(replicates)} {_unit(found)}, and a rate needs {LEAST_REPLICATES}"
    if ended := sum(run.status != "completed" for run in runs):
        return 0, f"{ended} of {len(runs)} runs diverged or did not end"
    read = {} if store is None else Reader(store, Filter()).curves(runs, [claim.curve], "step")
    plain = [_mean_curve([read.get((run.id, claim.curve)) for run in own], 0.0) or {} for own in replicates]
    steps = sorted(set.intersection(*map(set, plain)))
    table = np.array([[own[step] for step in steps] for own in plain])
    if not steps:
        return 0, f"its runs share no step with a number of {claim.curve}"
    if not (np.isfinite(table) & (table > 0)).all():
        return 0, f"{claim.curve} is not a number above 0 at every step"
    return steps[-1], table


def _excess(claim: Claim, found: Found, ours: tuple[str, str], store: Store | None) -> tuple[list[int], Any]:
    """The steps that all runs have, and the difference of the mean curves there (replicates, steps); no replicate
    where a run has no such curve."""
    nothing = list[int](), np.empty((0, 0))
    if store is None:
        return nothing
    a, b = (_replicates(found, name) for name in ours)
    reader = Reader(store, Filter())
    curves = reader.curves([run for own in (*a, *b) for run in own], [claim.curve], "step")
    means = [
        [_mean_curve([curves.get((run.id, claim.curve)) for run in runs], claim.after) for runs in own]
        for own in zip(a, b, strict=True)
    ]
    plain = [[curve for curve in own if curve is not None] for own in means]
    if any(len(own) < 2 for own in plain):
        return nothing
    steps = sorted(set.intersection(*(set(curve) for own in plain for curve in own)))
    return steps, np.array([[one[step] - other[step] for step in steps] for one, other in plain])


def _mean_curve(curves: Sequence[Any], after: float) -> dict[int, float] | None:
    """The mean of several curves by step, after a share of the run."""
    if any(curve is None for curve in curves):
        return None
    plain = [dict(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True)) for x, y in curves]
    steps = set.intersection(*map(set, plain))
    last = max((step for own in plain for step in own), default=0)
    return {step: float(np.mean([own[step] for own in plain])) for step in steps if step >= after * last}
