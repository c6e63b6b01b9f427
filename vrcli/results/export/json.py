"""JSON: a list of runs, each as `vr runs show --format json` prints it, with provenance and curves.

JSON has no NaN and no infinity: they are the texts "nan", "inf" and "-inf".
"""

from __future__ import annotations

import json
from pathlib import Path

from vrcli.output import Target
from vrcli.results.export.selection import Selection, Written


def paths(path: Path) -> tuple[Path, ...]:
    """All files that `write` makes."""
    return (path,)


def write(runs: Selection, to: Target) -> Written:
    """Write the file, one line a run."""
    from vrcli.results.single import in_full

    points = 0
    with to.part() as part, part.open("w", encoding="utf-8") as file:
        separator = "["
        for record, curves in runs.each():
            file.write(f"{separator}\n{json.dumps(in_full(record, curves), allow_nan=False)}")
            separator = ","
            points += sum(map(len, curves.values()))
        file.write("[]\n" if separator == "[" else "\n]\n")
    return Written(paths(to.path), points)
