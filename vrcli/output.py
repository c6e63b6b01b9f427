"""Every file and folder that `vr` writes where its user says: whole or not at all, and never over what is not its own.

What vr wrote is known by its digest, which a file in the user's state folder keeps for each place: a figure that is
drawn every hour replaces itself, in whatever format, and one that was changed since does not. Where that memory is
missing (another machine, another user), --force is asked for once.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vrcli.db.location import SQLITE_HEADER, Location, header_of
from vrcli.errors import UsageError, VrError
from vrcli.leftovers import part_name, remove_leftovers
from vrcli.leftovers import remove as remove

#: What SQLite keeps beside a database while it is open. One that is left over would be taken for a new file's.
JOURNALS = ("-wal", "-shm", "-journal")
#: Names of what this process has open already: opened again by name, a file behind it would begin anew.
_OPEN = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/self/(fd/\d+)")


@dataclass(frozen=True)
class Target:
    """A file to write.

    Args:
        flag: the option that named it.
        database: the one that is read, as --db has it: never written over.
        force: replace also what vr did not write.
        hint: what else could be done where a file is there already.
        keep: replace not even what vr wrote, unless `force` says so.
    """

    path: Path
    flag: str = "--output"
    database: Location | None = None
    force: bool = False
    hint: str = ""
    keep: bool = False

    @property
    def is_stream(self) -> bool:
        """Whether it is a pipe or a device, which is written into and not replaced."""
        return bool(_OPEN.fullmatch(str(self.path))) or (
            self.path.exists() and not self.path.is_file() and not self.path.is_dir()
        )

    def check(self) -> None:
        """Refuse a place that cannot be written, before any work is done for it.

        Raises:
            UsageError: its folder is missing or closed, it belongs to a database, or something else is there.
        """
        try:
            self._check()
        except OSError as error:  # a name that is too long
            raise self._refused(f"cannot be written: {error.strerror or error}") from None

    def _check(self) -> None:
        if self.database is not None and _belongs_to(self.path, self.database):
            raise self._refused("is the database that is read; name another file")
        self._check_kind()
        if self.is_stream:
            return
        if owner := _journal_of(self.path.resolve()):
            raise self._refused(f"belongs to the database {owner.name}; name another file")
        folder = self.path.resolve().parent
        if not folder.is_dir():
            raise UsageError(f"{self.flag} {self.path}: there is no folder {self.path.parent}")
        if not os.access(folder, os.W_OK | os.X_OK) or (self.path.exists() and not os.access(self.path, os.W_OK)):
            raise self._refused("cannot be written: permission denied")
        if not self.force:
            self._check_owner()

    @contextmanager
    def part(self) -> Iterator[Path]:
        """A path to write to, which takes the place once all is written and is removed where that fails.

        Raises:
            UsageError: as `check`.
            VrError: the system refuses to write it.
        """
        import tempfile

        self.check()
        final = self.path.resolve()
        folder = Path(tempfile.gettempdir()) if self.is_stream else final.parent
        remove_leftovers(folder)
        part = folder / part_name(self.path.suffix if self.path.suffix[1:].isalnum() else "")
        try:
            yield part
            if self.is_stream:
                _pour(part, self.path)
                return
            self.check()  # once more: writing takes its time
            _settle(part, final)
            _remember(final)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise VrError(f"{self.flag} {self.path} cannot be written: {error.strerror or error}") from error
        finally:
            for left in (part, *journals(part)):
                remove(left)

    def write_text(self, text: str) -> None:
        """Write a file of text, its line ends as they are."""
        with self.part() as part:
            part.write_text(text, encoding="utf-8", errors="replace", newline="")

    def _check_kind(self) -> None:
        if self.path.is_dir():
            raise self._refused("is a folder; name a file")

    def _check_owner(self) -> None:
        path = self.path.resolve()  # an empty file holds nothing to lose
        left = [journal for journal in journals(path) if journal.exists()]
        if path.exists() and path.stat().st_size and (self.keep or left or not wrote(path)):
            raise self._refused(f"is there already; --force replaces it{self.hint}")
        for journal in left:
            raise UsageError(f"{self.flag} {journal} is there already; --force replaces it")

    def _refused(self, why: str) -> UsageError:
        return UsageError(f"{self.flag} {self.path} {why}")


@dataclass(frozen=True)
class Folder(Target):
    """A folder to write.

    Args:
        kind: what is written there, in words.
        owns: whether nothing is in a folder but what vr wrote there; anything else is never replaced.
    """

    kind: str = ""
    owns: Callable[[Path], bool] = lambda path: False

    def _check_kind(self) -> None:
        if self.is_stream or (self.path.exists() and not self.path.is_dir()):
            raise self._refused(f"is a file; {self.kind} is written to a folder")
        if self.path.is_dir() and any(self.path.iterdir()) and not self.owns(self.path):
            raise self._refused(f"holds other files than {self.kind}; name a new folder")

    def _check_owner(self) -> None:
        path = self.path.resolve()
        if path.is_dir() and any(path.iterdir()) and not wrote(path):
            raise self._refused("is there already; --force replaces it")


def journals(path: Path) -> list[Path]:
    """Where SQLite keeps what is not yet in a database."""
    return [path.with_name(path.name + ending) for ending in JOURNALS]


# -- numbers ----------------------------------------------------------------------------------------------------------


def json_number(value: float) -> float | str:
    """A number that was recorded, for JSON, which lacks some: those are words ("nan", "inf", "-inf")."""
    return value if math.isfinite(value) else str(value)


def finite(value: float) -> float | None:
    """A number that was computed, for a file: nothing where there is none, such as the spread of one run."""
    return value if math.isfinite(value) else None


# -- tables -----------------------------------------------------------------------------------------------------------


class CsvWriter:
    """`csv.writer` without formulas."""

    def __init__(self, file: Any, **options: Any) -> None:
        self._writer = csv.writer(file, **options)

    def writerow(self, cells: Iterable[Any]) -> None:
        self._writer.writerow(map(no_formula, cells))

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        for row in rows:
            self.writerow(row)


def no_formula(cell: Any) -> Any:
    """A cell of a csv file; text that a spreadsheet would calculate begins with an apostrophe."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    with suppress(ValueError):
        float(cell)
        return cell
    return f"'{cell}"


# -- databases --------------------------------------------------------------------------------------------------------


def _belongs_to(path: Path, database: Location) -> bool:
    """Whether a file is an SQLite database or one of those that SQLite keeps beside it, by whatever name."""
    file = database.path
    if file is None:
        return False
    asked = path.resolve()
    return any(
        asked == own or (path.exists() and own.exists() and path.samefile(own))
        for own in (file.resolve(), *journals(file.resolve()))
    )


def _journal_of(path: Path) -> Path | None:
    """The database whose journal a file is by its name, whether or not that journal is there."""
    for ending in JOURNALS:
        owner = path.with_name(path.name.removesuffix(ending) or path.name)
        if owner != path and owner.is_file():
            with suppress(OSError):
                if header_of(owner) == SQLITE_HEADER:
                    return owner
    return None


# -- putting in place -------------------------------------------------------------------------------------------------


def _settle(part: Path, final: Path) -> None:
    """Put what was written in its place, after it has reached the disk."""
    for path in [part] if part.is_file() else [found for found in part.rglob("*") if found.is_file()]:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    if final.is_dir():
        aside = part.with_name(f"{part.name}.old")
        final.rename(aside)
        try:
            part.rename(final)
        except OSError:
            aside.rename(final)
            raise
        remove(aside)
        return
    if final.exists():
        shutil.copymode(final, part)
    part.replace(final)
    for journal in journals(final):
        remove(journal)


def _pour(part: Path, stream: Path) -> None:
    found = _OPEN.fullmatch(str(stream))
    name = (found[1] or found[2]).removeprefix("fd/") if found else ""
    number = {"stdout": 1, "stderr": 2}.get(name, int(name) if name.isdecimal() else None)
    with part.open("rb") as source, open(stream if number is None else number, "wb", closefd=number is None) as out:
        shutil.copyfileobj(source, out)


# -- what vr wrote ----------------------------------------------------------------------------------------------------


def wrote(path: Path) -> bool:
    """Whether a file or folder is what vr last wrote there, to the byte."""
    try:
        return _note(path).read_text() == _digest(path)
    except OSError:
        return False


def _remember(path: Path) -> None:
    with suppress(OSError):  # what was written is written; the next time asks for --force
        note = _note(path)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(_digest(path))


def _note(path: Path) -> Path:
    """Where the digest of what vr wrote to a place is kept."""
    from platformdirs import user_state_path

    name = hashlib.blake2b(os.fsencode(path), digest_size=16).hexdigest()
    return user_state_path("vr", appauthor=False) / "written" / name


def _digest(path: Path) -> str:
    """Of a file's bytes, or of the names and bytes of all files in a folder."""
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if not file.is_dir() or file.is_symlink())
        lines = [f"{file.relative_to(path).as_posix()} {_digest(file)}" for file in found]
        return hashlib.blake2b("\n".join(lines).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
