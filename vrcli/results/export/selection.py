"""What is exported, one run at a time: memory holds the curves of a single run, however many there are."""

from __future__ import annotations

import bisect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vrcli.db.records import Curve, RunRecord
from vrcli.db.store import Store
from vrcli.errors import UsageError

#: The curve of the clock.
SECONDS = "wall_s"
#: The list of its files that an export to a folder leaves in it.
MARKER = ".vr-export.json"


@dataclass(frozen=True)
class Selection:
    """The runs to write.

    Args:
        records: in the order in which they are written.
        metrics: only these curves, all where None.
        advance: told after each run that is written.
    """

    store: Store
    records: Sequence[RunRecord]
    metrics: Sequence[str] | None = None
    advance: Callable[[], object] = lambda: None

    def each(self) -> Iterator[tuple[RunRecord, Mapping[str, Curve]]]:
        """Every run with its curves by metric."""
        for record in self.records:
            yield record, self._read(record, self.metrics)
            self.advance()

    def timed(self) -> Iterator[tuple[RunRecord, Mapping[str, Curve], Clock]]:
        """Every run with its curves, and with its clock, whether or not the curve of that was asked for."""
        for record in self.records:
            found = self._read(record, None if self.metrics is None else {*self.metrics, SECONDS})
            kept = {name: curve for name, curve in found.items() if self.metrics is None or name in self.metrics}
            yield record, kept, Clock(record, found)
            self.advance()

    def _read(self, record: RunRecord, metrics: Iterable[str] | None) -> dict[str, Curve]:
        return {name: curve for (_, name), curve in self.store.curves.read(record.id, metrics).items()}


@dataclass(frozen=True)
class Written:
    """What an export wrote.

    Args:
        runs: how many, where some were left out.
        lines: what else there is to say, such as how to open it.
    """

    paths: tuple[Path, ...]
    points: int
    runs: int | None = None
    lines: tuple[str, ...] = ()


class Clock:
    """Wall-clock times of a run's steps, for viewers with a time axis.

    Seconds are recorded once an epoch; steps between are placed evenly.
    """

    def __init__(self, record: RunRecord, curves: Mapping[str, Curve]) -> None:
        self.start = record.created_at.timestamp()
        seconds = curves.get(SECONDS)
        self._steps: list[int] = [0, *seconds.steps] if seconds else [0]
        self._seconds: list[float] = [0.0, *seconds.values] if seconds else [0.0]

    def at(self, step: int) -> float:
        """Seconds since 1970 at the end of a step."""
        steps, seconds = self._steps, self._seconds
        after = bisect.bisect_left(steps, step)
        if after == 0:
            return self.start
        if after == len(steps):
            return self.start + seconds[-1]
        before = after - 1
        share = (step - steps[before]) / (steps[after] - steps[before])
        return self.start + seconds[before] + share * (seconds[after] - seconds[before])


def folder_of(record: RunRecord) -> str:
    """A name for a run that is readable, and safe as a file name: an optimizer may be `module:Class`."""
    text = f"{record.id:04d}-{record.task}-{record.optimizer}-seed{record.seed}-{record.name}"
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text)[:200]


def mark(folder: Path) -> None:
    """Leave a list of a finished folder's files in it, by which `owns` knows them."""
    (folder / MARKER).write_text(json.dumps({"files": sorted(_files(folder))}), encoding="utf-8")


def files_left(folder: Path) -> set[str]:
    """The files of a folder that no export has written there."""
    try:
        known = set(json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, LookupError, TypeError):
        known = set()
    return _files(folder) - {*known, MARKER}


def _files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in found}


def missing_library(name: str) -> UsageError:
    """The refusal of a format whose library is not installed."""
    return UsageError(f"--to {name} needs a library that is not installed: pip install 'vrcli[{name}]'")
