"""Importing the class that "module:Class" names: of an installed package, or of a file in the working directory.

The working directory is never on `sys.path`: libraries import modules that may be missing (wcwidth, pynvml), and would
execute any file of that name that happens to lie where `vr` was called. It is open to a named module only, and to what
that module imports, whenever it does; installed packages come first.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


@cache
def _all_entry_points() -> Any:  # reads a file of every installed distribution
    return metadata.entry_points()


def entry_points(group: str) -> metadata.EntryPoints:
    """What installed packages register in a group."""
    found: metadata.EntryPoints = _all_entry_points().select(group=group)
    return found


def installed(target: str) -> Any:
    """What "module:name" names, of an installed package.

    Raises:
        Exception: whatever the import raises.
    """
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def in_working_directory(target: str) -> Any:
    """As `installed`, but also of a file or folder in the working directory."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.append(_FINDER)
    _FINDER.asked = _top(target.partition(":")[0])
    try:
        return installed(target)
    finally:
        _FINDER.asked = ""


class _OwnFolder(MetaPathFinder):
    """Finds modules in a folder for modules that came from there, and for nobody else. Stands last in `sys.meta_path`.

    Attributes:
        asked: the module that the user named, while it is imported.
        homes: the folder of each module that was found here.
    """

    def __init__(self) -> None:
        self.asked = ""
        self.homes: dict[str, str] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None:  # a part of a package, which knows where its parts are
            return None
        home = str(Path.cwd()) if fullname == self.asked else self.homes.get(_importer())
        found = home and PathFinder.find_spec(fullname, [home])
        if not home or not found:
            return None
        self.homes[fullname] = home
        return found


_FINDER = _OwnFolder()


def _importer() -> str:
    """The module whose code asks for an import, by its name up to the first dot."""
    frame = sys._getframe(2)
    while frame.f_back and _top(frame.f_globals.get("__name__")) == "importlib":
        frame = frame.f_back
    return _top(frame.f_globals.get("__name__"))


def _top(module: object) -> str:
    return str(module).partition(".")[0]
