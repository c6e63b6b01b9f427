"""Two runs side by side, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vrcli.report.tables.runs import title
from vrcli.report.wording import command, number, setting, signed
from vrcli.results.diff import CurveDifference, Difference, RunDifference
from vrcli.results.types import TIMINGS, NamedRun


def verdict(found: RunDifference, a: str, b: str) -> str:
    """In one sentence whether two runs computed the same.

    Args:
        a: what the first run is called, such as "run 17".
        b: the second.
    """
    curves = found.computed()
    if not curves:
        return "neither run has curves to compare"
    if found.same_curves:
        total = sum(curve.points[0] for curve in curves)
        which = "the curve" if len(curves) == 1 else f"all {len(curves)} curves"
        return f"bit-identical: {which} of {a} and {b}, {total:,} points"
    first = found.first_difference()
    if first is None:
        return _as_far_as_both_go(curves, a, b)
    values = " and ".join(both(*first.first))
    return f"the curves of {a} and {b} part at step {first.first_step}: {first.metric} is {values}"


def _as_far_as_both_go(curves: Sequence[CurveDifference], a: str, b: str) -> str:
    """The verdict on runs of which one lacks something, and parts from the other nowhere."""
    shared = [curve for curve in curves if curve.common]
    if not shared:
        return NOTHING_SHARED
    common, longest = sum(curve.common for curve in shared), sum(max(curve.points) for curve in shared)
    of = f"points of {shared[0].metric}" if len(shared) == 1 else f"points of {len(shared)} curves"
    parts = [f"bit-identical as far as both go: {'all ' if common == longest else f'{common:,} of '}{longest:,} {of}"]
    for name, other in ((a, 1), (b, 0)):
        own = [curve.metric for curve in curves if not curve.points[other]]
        parts += [f"only {name} has {', '.join(own)}"] if own else []
    return "; ".join(parts)


#: The verdict on runs that have no step of any curve in common.
NOTHING_SHARED = "the runs have no curve in common"


def both(a: Any, b: Any) -> tuple[str, str]:
    """Two values in few characters, in as many digits as tell them apart."""
    short = shown(a), shown(b)
    if short[0] == short[1] and isinstance(a, float) and isinstance(b, float) and a != b:
        return repr(a), repr(b)
    return short


def shown(value: Any) -> str:
    """A value in a table, cut where it is long."""
    text = setting(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def headlines(a: NamedRun, b: NamedRun, found: RunDifference) -> list[str]:
    """Which runs they are, and what came of the comparison."""
    names = f"run {a.id}", f"run {b.id}"
    lines = [f"{name} · {run.name} · {title(run)}" for name, run in zip(names, (a, b), strict=True)]
    lines += ["", f"→ {verdict(found, *names)}"]
    if a.spec_id == b.spec_id:
        lines += [f"  their settings, data and {'code' if a.spec.get('code') else 'versions'} are the same (one spec)"]
    if unknown := [name for name, run in zip(names, (a, b), strict=True) if not run.spec.get("code")]:
        lines += [f"  the code that {' and '.join(unknown)} ran was not recorded"]
    return lines


def sections(found: RunDifference, names: tuple[str, str], *, all: bool) -> list[list[dict[str, Any]]]:
    """Tables of what differs, as rows that share their columns.

    Args:
        names: what the runs are called.
        all: also what is equal.
    """
    results = sorted(found.results, key=lambda pair: pair.name in TIMINGS)
    tables = [
        [_row(pair, heading, names) for pair in pairs if all or not pair.equal]
        for heading, pairs in (("", found.identity), ("settings", found.settings), ("results", results))
    ]
    tables.append([_curve_row(curve, names) for curve in found.curves if all or not curve.identical])
    tables.append([_row(pair, "provenance", names) for pair in found.provenance if all or not pair.equal])
    return [table for table in tables if table]


def equal_parts(found: RunDifference) -> str:
    """How much is the same, such as "settings 12, curves 3"."""
    counts = {"facts of the run": sum(pair.equal for pair in found.identity)}
    counts |= {"settings": sum(pair.equal for pair in found.settings)}
    counts |= {"results": sum(pair.equal for pair in found.results)}
    counts |= {"curves": sum(curve.identical for curve in found.curves)}
    counts |= {"provenance": sum(pair.equal for pair in found.provenance)}
    return ", ".join(f"{what} {count}" for what, count in counts.items() if count)


def _row(pair: Difference, heading: str, names: tuple[str, str]) -> dict[str, Any]:
    """A name, both values, and for results how much larger the second is."""
    typed = pair.name == "argv"
    values = (command(one) if typed and one else one for one in (pair.a, pair.b))
    found = {heading: pair.name, **dict(zip(names, both(*values), strict=True))}
    if heading == "results":
        found["change"] = _change(pair.a, pair.b)
    return found


def _curve_row(curve: CurveDifference, names: tuple[str, str]) -> dict[str, Any]:
    here, there = curve.points
    values = both(*curve.first) if curve.first_step is not None else ("", "")
    parted = str(curve.first_step) if curve.first_step is not None else "never" if curve.common else "-"
    return {
        "curves": curve.metric, "points": str(here) if here == there else f"{here} / {there}",
        "part at step": parted, **dict(zip(names, values, strict=True)),
        "largest difference": "-" if curve.largest_step is None else number(curve.largest),
        "at step": curve.largest_step if curve.largest else "-",
    }  # fmt: skip


def _change(a: Any, b: Any) -> str:
    """How the second number differs from the first, with its share."""
    if not (isinstance(a, float) and isinstance(b, float) and math.isfinite(a) and math.isfinite(b)):
        return ""
    share = f" ({signed(100 * (b - a) / abs(a))} %)" if a and a != b else ""
    return signed(b - a) + share
