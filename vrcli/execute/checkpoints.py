"""Checkpoints as files: where they lie, how they are written, and which of them can be used.

A run has a folder of its own, named by its uuid, with the last two checkpoints. A file begins with a line that says
what it is and a digest of the rest: one that was torn, or is another run's, is recognised and the one before is taken.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.engine.events import Every
from vrcli.errors import UsageError

if TYPE_CHECKING:
    from vrcli.db.location import Location
    from vrcli.db.records import RunRecord
    from vrcli.db.store import Store

_MAGIC = b"vr checkpoint "
#: Raised when what is written, or how, changes.
_FORMAT = 1
_KEPT = 2
_NAME = re.compile(r"step-(\d+)\.checkpoint")
_SUFFIX = "-checkpoints"
#: Under which a run's provenance says where its checkpoints are, where that is not a usual place.
ORIGIN = "checkpoints"


def every(text: str) -> Every | None:
    """What --checkpoint-every means; None for never.

    Raises:
        UsageError: it is neither seconds, nor steps, nor off.
    """
    if text == "off":
        return None
    with suppress(ValueError, OverflowError):
        if text.endswith("s") and 0 < float(text[:-1]) < float("inf"):
            return Every(seconds=float(text[:-1]))
        if text.isdecimal() and int(text) > 0:
            return Every(steps=int(text))
    raise UsageError(f"--checkpoint-every takes seconds (60s), steps (500) or off, got {text}")


@dataclass(frozen=True)
class Checkpoints:
    """How often the runs of a command are written down, and where.

    Args:
        every: None for never.
        folder: that was asked for; None for the usual place.
    """

    every: Every | None = Every()
    folder: Path | None = None

    @classmethod
    def asked(cls, how_often: str, folder: str | os.PathLike[str] | None) -> Checkpoints:
        """What --checkpoint-every says; without a folder VR_CHECKPOINTS names it.

        Raises:
            UsageError: as `every`.
        """
        folder = folder or os.environ.get("VR_CHECKPOINTS")
        return cls(every(how_often), Path(folder) if folder else None)

    def check(self) -> None:
        """Refuse a folder that cannot be written.

        Raises:
            UsageError: says why.
        """
        if self.folder is None or self.every is None:
            return
        there = next(path for path in (self.folder.absolute(), *self.folder.absolute().parents) if path.exists())
        if not there.is_dir():
            raise UsageError(f"--checkpoint-dir {self.folder}: {there} is not a folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UsageError(f"--checkpoint-dir {self.folder}: {there} cannot be written")

    def of(self, database: Location, run: RunRecord) -> Shelf:
        """Where the checkpoints of a run are."""
        return Shelf(_base(database, self.folder) / run.uuid, run)

    def known(self, database: Location, run: RunRecord) -> Shelf:
        """Where the checkpoints of a stored run are: also where an earlier command was told to put them."""
        return next((shelf for shelf in _shelves(database, run, self.folder) if shelf.folder.is_dir()),
                    self.of(database, run))  # fmt: skip

    @property
    def origin(self) -> dict[str, str]:
        """What the provenance of a run says of them."""
        return {} if self.folder is None else {ORIGIN: str(self.folder.absolute())}


OFF = Checkpoints(None)


def _base(database: Location, folder: Path | None) -> Path:
    """The folder of all runs of a database."""
    if folder is not None:
        return folder.absolute()
    if database.path is not None:
        path = database.path.absolute()
        return path.with_name(path.name + _SUFFIX)
    from vrcli.tasks.images import cache_dir

    return cache_dir() / "checkpoints"


def _shelves(database: Location, run: RunRecord, folder: Path | None = None) -> Iterator[Shelf]:
    """Every place where a run's checkpoints may be."""
    told = run.provenance.get(ORIGIN)
    for base in dict.fromkeys([folder, Path(told) if isinstance(told, str) else None, None]):
        yield Shelf(_base(database, base) / run.uuid, run)


def remove(database: Location, run: RunRecord) -> None:
    """Remove all checkpoints of a run."""
    for shelf in _shelves(database, run):
        shelf.remove()


def weigh(store: Store) -> tuple[int, int]:
    """How many checkpoints the runs of a database have, and how many bytes they are."""
    unfinished = store.runs.select(status=("running", "interrupted", "failed"), results=())
    shelves = {shelf.folder: shelf for run in unfinished for shelf in _shelves(store.location, run)}
    sizes = [path.stat().st_size for shelf in shelves.values() for path in shelf.files()]
    return len(sizes), sum(sizes)


def tidy(store: Store) -> None:
    """Remove from beside a database what runs left that ended, or are gone: whoever did that was killed then."""
    base = _base(store.location, None)
    if store.location.path is None or not base.is_dir():
        return
    folders = [path for path in base.iterdir() if re.fullmatch(r"[0-9a-f]{32}", path.name)]
    live = {run.uuid for run in store.runs.select(status=("running", "interrupted", "failed"), results=())}
    for folder in folders:
        if folder.name not in live:
            shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        base.rmdir()


@dataclass(frozen=True)
class Unsaved:
    """A checkpoint could not be written, for whoever watches; its text is one line."""

    reason: str

    def __str__(self) -> str:
        return f"no checkpoint could be written: {self.reason}; the run goes on"


@dataclass(frozen=True)
class Found:
    """A checkpoint that can be used."""

    step: int
    state: dict[str, Any]


class Unusable(Exception):
    """Why a file is not taken."""


@dataclass(frozen=True)
class Shelf:
    """The checkpoints of one run.

    Args:
        folder: made with the first of them.
    """

    folder: Path
    run: RunRecord

    def files(self) -> list[Path]:
        """Its checkpoints, the newest first."""
        with suppress(OSError):
            found = [(int(match[1]), path) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name))]
            return [path for _, path in sorted(found, reverse=True)]
        return []

    def save(self, step: int, state: Mapping[str, Any], *, recorded: int) -> None:
        """Write a checkpoint: it is there in full or not at all, also after a power cut.

        Args:
            recorded: the last step whose points the database has; `state` may hold those after it.

        Raises:
            OSError: it cannot be written; those before it stay.
        """
        import torch

        held = io.BytesIO()
        torch.save(dict(state), held)
        about = {
            "format": _FORMAT, "run": self.run.uuid, "spec_id": self.run.spec_id, "code": self.run.spec.get("code"),
            "step": step, "recorded": recorded,
        }  # fmt: skip
        line = json.dumps(about).encode() + b"\n"
        digest = hashlib.blake2b(line, digest_size=16)
        digest.update(held.getbuffer())
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"{os.getpid()}.part"
        try:
            with part.open("wb") as file:
                for piece in (_MAGIC, digest.hexdigest().encode(), b"\n", line, held.getbuffer()):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.folder / f"step-{step}.checkpoint")
        except OSError:
            part.unlink(missing_ok=True)
            raise
        _sync(self.folder)
        for old in [*self.files()[_KEPT:], *self.folder.glob("*.part")]:
            old.unlink(missing_ok=True)

    def newest(self, *, recorded: int) -> tuple[Found | None, str]:
        """The newest checkpoint that can be used, and in one line why those after it cannot.

        Args:
            recorded: the last step that the database has points of.
        """
        problems = []
        for path in self.files():
            try:
                found = self._read(path, recorded)
            except (Unusable, OSError) as error:
                problems.append(f"{path.name} {error if isinstance(error, Unusable) else 'cannot be read'}")
            else:
                return found, f"{'; '.join(problems)}; the one of step {found.step} is taken" if problems else ""
        return None, f"{'; '.join(problems)}; there is no other checkpoint" if problems else ""

    def _read(self, path: Path, recorded: int) -> Found:
        import torch

        head, _, rest = path.read_bytes().partition(b"\n")
        if not head.startswith(_MAGIC):
            raise Unusable("is not a checkpoint")
        if head.removeprefix(_MAGIC) != hashlib.blake2b(rest, digest_size=16).hexdigest().encode():
            raise Unusable("is torn")
        line, _, body = rest.partition(b"\n")
        about = json.loads(line)
        if about["format"] != _FORMAT:
            raise Unusable(f"is of format {about['format']}, which this version does not read")
        if about["run"] != self.run.uuid or about["spec_id"] != self.run.spec_id:
            raise Unusable("is another run's")
        if about["recorded"] > recorded:
            raise Unusable(f"is of step {about['step']}, and the database lost points before it")
        try:
            state = torch.load(io.BytesIO(body), weights_only=True, map_location="cpu")
        except Exception as error:  # of an optimizer's state, which only that library knows
            raise Unusable("holds what cannot be read back") from error
        return Found(about["step"], state)

    def remove(self) -> None:
        """Remove the run's checkpoints, and the folder of all where it is empty then."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.name.endswith(_SUFFIX):
            with suppress(OSError):
                self.folder.parent.rmdir()


def _sync(folder: Path) -> None:
    """Bring a folder's entries to the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
