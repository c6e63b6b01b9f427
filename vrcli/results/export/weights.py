"""Weights that were kept with runs: a folder of safetensors files, two at most for each run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vrcli.db.records import RunRecord
from vrcli.errors import UsageError
from vrcli.output import Target
from vrcli.results.export.selection import Selection, Written, files_left, folder_of, mark

_PREFIX, _SUFFIX = "weights.", ".safetensors"


def paths(path: Path) -> tuple[Path, ...]:
    """All that `write` makes."""
    return (path,)


def owns(path: Path) -> bool:
    """Whether nothing is in a folder but what an export has written there."""
    return not files_left(path)


def write(runs: Selection, to: Target) -> Written:
    """Write the folder; runs whose weights were not kept are left out.

    Raises:
        UsageError: none of them were.
    """
    kept = [record for record in runs.records if next(_files(runs, record), None)]
    if not kept:
        raise UsageError("none of these runs kept its weights; vr run --keep-weights best|last|both|update keeps them")
    with to.part() as part:
        part.mkdir()
        for record in kept:
            for which, data in _files(runs, record):
                (part / f"{folder_of(record)}.{which}{_SUFFIX}").write_bytes(data)
            runs.advance()
        mark(part)
    return Written(paths(to.path), 0, runs=len(kept))


def _files(runs: Selection, record: RunRecord) -> Iterator[tuple[str, bytes]]:
    for file in runs.store.artifacts.select(record.id):
        if file.name.startswith(_PREFIX) and file.name.endswith(_SUFFIX):
            which = file.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
            yield which, runs.store.artifacts.read(record.id, file.name, step=file.step)
