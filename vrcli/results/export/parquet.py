"""Parquet: a table of runs, and beside it their curves in long format, one row group for some runs.

NaN and infinities are kept; what a run does not have is null, which is not NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vrcli.db.records import Curve, RunRecord
from vrcli.output import Target
from vrcli.results.export.csv import curves_path, paths
from vrcli.results.export.selection import Selection, Written
from vrcli.results.flat import FIELDS, one_kind, rows

__all__ = ["paths", "write"]

#: So many points together make a row group: enough for fast reading, little enough for memory.
GROUP_POINTS = 250_000
_NAMES = pa.dictionary(pa.int32(), pa.string())
CURVES = pa.schema([
    ("run", pa.int64()), ("optimizer", _NAMES), ("seed", pa.int64()), ("metric", _NAMES), ("step", pa.int64()),
    ("value", pa.float64()),
])  # fmt: skip


def write(runs: Selection, to: Target) -> Written:
    """Write both files."""
    points = 0
    with to.part() as table, replace(to, path=curves_path(to.path)).part() as curves:
        found = rows(runs.records)
        columns = {name: one_kind([row[name] for row in found]) for name in (found[0] if found else FIELDS)}
        pq.write_table(pa.table(columns), table)
        with pq.ParquetWriter(curves, CURVES) as out:
            for group in _groups(runs):
                out.write_table(group)
                points += group.num_rows
    return Written(paths(to.path), points)


def _groups(runs: Selection) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    points = 0
    for record, curves in runs.each():
        waiting.append(_table(record, curves))
        points += waiting[-1].num_rows
        if points >= GROUP_POINTS:
            yield _joined(waiting)
            waiting, points = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def _table(record: RunRecord, curves: Mapping[str, Curve]) -> pa.Table:
    counts = [len(curve) for curve in curves.values()]
    total = sum(counts)

    def named(indices: Any, names: list[str]) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(names, pa.string()))

    def joined(arrays: list[Any], kind: type) -> Any:
        return np.concatenate([np.asarray(array) for array in arrays]) if arrays else np.empty(0, dtype=kind)

    columns = [
        pa.array(np.full(total, record.id), pa.int64()),
        named(np.zeros(total, dtype=np.int32), [record.optimizer]),
        pa.nulls(total, pa.int64()) if record.seed is None else pa.array(np.full(total, record.seed), pa.int64()),
        named(np.repeat(np.arange(len(counts), dtype=np.int32), counts), list(curves)),
        pa.array(joined([curve.steps for curve in curves.values()], np.int64), pa.int64()),
        pa.array(joined([curve.values for curve in curves.values()], np.float64), pa.float64()),
    ]
    return pa.table(columns, schema=CURVES)
