"""What is written under another name first, and what a killed process leaves of it.

The name says whose it is: where that process is gone nobody finishes it, and whoever writes to the same place next
removes it. What another machine began is left alone for a day.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Machine, pid and start of a process, something random; of files also the ending, and of SQLite's what it adds to it.
_NAME = re.compile(r"\.?vr-([0-9a-f]{8})-(\d+)-(\d*)-\w+(\.part(\.\w+)?(-wal|-shm|-journal)?)?")
_UNSEEN_S = 24 * 3600.0


def part_name(suffix: str = "") -> str:
    """A name for a file or folder that is put in its place once it is whole.

    No two are the same: libraries that keep files open by their names would write into the earlier one.
    """
    return f".{_prefix()}{secrets.token_hex(4)}.part{suffix}"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for a while."""
    remove_leftovers(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_prefix()) as folder:
        yield Path(folder)


def leftovers(folder: Path) -> list[Path]:
    """What processes that are gone have left in a folder."""
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if _is_left(entry)]
    return sorted(found)


def remove_leftovers(folder: Path) -> None:
    """Remove them, as far as this user may."""
    for path in leftovers(folder):
        with suppress(OSError):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _prefix() -> str:
    from vrcli.db import liveness

    process = liveness.current()
    place, _, start = process.token.rpartition("/")
    return f"vr-{_machine(process.host, place)}-{process.pid}-{start}-"


def _machine(host: str, place: str) -> str:
    return hashlib.blake2b(f"{host}/{place}".encode(), digest_size=4).hexdigest()


def _is_left(entry: os.DirEntry[str]) -> bool:
    from vrcli.db import liveness

    named = _NAME.fullmatch(entry.name)
    if named is None:
        return False
    about = entry.stat(follow_symlinks=False)
    if hasattr(os, "geteuid") and about.st_uid != os.geteuid():
        return False
    process = liveness.identity(int(named[2]))
    place, _, start = process.token.rpartition("/")
    if named[1] == _machine(process.host, place):
        return start != named[3]
    return time.time() - about.st_mtime > _UNSEEN_S
