"""The table above a verdict: one row per optimizer, each number with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vrcli.report.wording import number, with_half_width
from vrcli.results.types import Run, end_of, values_of
from vrcli.stats.inference import summary, t_interval


def cell(values: Sequence[float], *, percent: bool = False, level: float = 0.95) -> str:
    """ "0.0634 ± 0.0021" over the runs that have a value; "NaN" where any run diverged, since then there is no mean."""
    if not values or any(map(math.isnan, values)):
        return "NaN" if values else "-"
    low, high = t_interval(values, level)
    return with_half_width(summary(values).mean, (high - low) / 2, percent=percent)


def comparison_rows(
    groups: Mapping[str, Sequence[Run]],
    columns: Mapping[str, tuple[str, bool]],
    trials: Mapping[str, int],
    *,
    level: float = 0.95,
) -> list[dict[str, Any]]:
    """Rows for people.

    Args:
        groups: the runs of each optimizer.
        columns: heading by result name, and whether it is a share shown in per cent.
        trials: how many each optimizer's settings were found with.
    """
    rows = []
    for optimizer, runs in groups.items():
        row: dict[str, Any] = {"": optimizer}
        for name, (heading, percent) in columns.items():
            row[heading] = cell(values_of(runs, name), percent=percent, level=level)
        row["budget"] = f"{trials[optimizer]} x {end_of(runs[0].settings)}"
        row["diverged"] = f"{sum(run.status == 'diverged' for run in runs)}/{len(runs)}"
        times = [run.results["wall_s"] for run in runs if "wall_s" in run.results]
        row["s/run"] = number(sum(times) / len(times), 3) if times else "-"
        rows.append(row)
    return rows
