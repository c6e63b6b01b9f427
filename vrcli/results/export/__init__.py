"""Stored runs in the formats of other programs: one module per format, loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError, nearest
from vrcli.output import Folder, Target

if TYPE_CHECKING:
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store
    from vrcli.results.export.selection import Written
    from vrcli.results.filter import Filter

#: Format -> suffix of its file, or None for a folder.
FORMATS: dict[str, str | None] = {
    "csv": ".csv", "json": ".json", "parquet": ".parquet", "sqlite": ".db", "tensorboard": None, "mlflow": None,
    "weights": None,
}  # fmt: skip
_BY_SUFFIX = {suffix: name for name, suffix in FORMATS.items() if suffix} | {".sqlite": "sqlite"}


def format_of(given: str | None, output: Path) -> str:
    """The format that was asked for, or that the file's suffix means.

    Raises:
        UsageError: there is no such format, or the suffix is none that says one.
    """
    if given is None:
        found = _BY_SUFFIX.get(output.suffix.lower())
        if found is None:
            raise UsageError(f"--to is missing, and {output} does not say the format; one of {', '.join(FORMATS)}")
        return found
    if given not in FORMATS:
        raise UsageError(f"--to {given} is not one of {', '.join(FORMATS)}{nearest(given, FORMATS)}")
    return given


def chosen(store: Store, refs: Sequence[str], asked: Filter) -> list[RunRecord]:
    """The runs that are both named and match, in the order of their numbers; all that match where none is named.

    Raises:
        UsageError: there are none, although the database has runs.
    """
    wanted = {store.runs.get(ref).id for ref in refs}
    found = [record for record in asked.select(store) if not refs or record.id in wanted]
    if refs and not found:
        raise UsageError(f"none of the runs {', '.join(refs)} matches {asked.words()}")
    return sorted(found, key=lambda record: record.id)


def write(
    store: Store,
    records: Sequence[RunRecord],
    format: str,
    output: Path,
    *,
    metrics: Sequence[str] | None = None,
    force: bool = False,
    advance: Callable[[], object] = lambda: None,
) -> Written:
    """Write runs to a file or folder; a file without a suffix gets that of the format.

    Args:
        metrics: only these curves.
        force: see `Target`.
        advance: told after each run that is written.

    Raises:
        UsageError: it cannot be written, or holds what an export may not replace.
    """
    from vrcli.results.export.selection import Selection

    suffix = FORMATS[format]
    if suffix and output.name and not output.suffix and not Target(output).is_stream:
        output = output.with_suffix(suffix)
    module: Any = import_module(f"{__name__}.{format}")
    to = _place(module, output, store, format, force)
    done: Written = module.write(Selection(store, records, metrics, advance), to)
    return done


def _place(module: Any, output: Path, store: Store, format: str, force: bool) -> Target:
    database = store.location
    if hasattr(module, "owns"):
        to: Target = Folder(output, database=database, force=force, kind=f"an export to {format}", owns=module.owns)
    else:
        adds = f", vr db merge --db {output} adds to it" if format == "sqlite" else ""
        to = Target(output, database=database, force=force, hint=adds)
    paths = module.paths(output)
    if to.is_stream and len(paths) > 1:
        raise UsageError(f"--output {output} takes one file, and {format} has {len(paths)}; name a file")
    for path in paths:
        replace(to, path=path).check()
    return to
