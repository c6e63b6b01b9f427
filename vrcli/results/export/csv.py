"""CSV: a table of runs, and beside it their curves in long format.

What is missing is empty; NaN and infinities are the words nan, inf and -inf, which pandas, R and numpy read as such.
Numbers have all their digits.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

from vrcli.output import CsvWriter, Target, no_formula
from vrcli.results.export.selection import Selection, Written
from vrcli.results.flat import FIELDS, rows

CURVE_COLUMNS = ("run", "optimizer", "seed", "metric", "step", "value")


def curves_path(path: Path) -> Path:
    """Where the curves of `results.csv` go: `results.curves.csv`."""
    return path.parent / f"{path.stem}.curves{path.suffix}"


def paths(path: Path) -> tuple[Path, ...]:
    """All files that `write` makes."""
    return path, curves_path(path)


def write(runs: Selection, to: Target) -> Written:
    """Write both files."""
    points = 0
    with to.part() as table, replace(to, path=curves_path(to.path)).part() as curves:
        with table.open("w", newline="", encoding="utf-8", errors="replace") as file:
            found = rows(runs.records)
            out = CsvWriter(file)
            out.writerow(found[0] if found else FIELDS)
            out.writerows([_cell(value) for value in row.values()] for row in found)
        with curves.open("w", newline="", encoding="utf-8", errors="replace") as file:
            points_out = csv.writer(file)  # a long file of numbers: its few words are looked at once for each curve
            points_out.writerow(CURVE_COLUMNS)
            for record, series in runs.each():
                for name, curve in series.items():
                    same = (repeat(no_formula(value)) for value in (record.id, record.optimizer, record.seed, name))
                    points_out.writerows(zip(*same, curve.steps, curve.values, strict=False))
                    points += len(curve)
    return Written(paths(to.path), points)


def _cell(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
