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
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from vrcli.errors import contained, first_line, nearest


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
    with contained():
        return getattr(importlib.import_module(module), name)


def in_working_directory(target: str) -> Any:
    """As `installed`, but also of a file or folder in the working directory."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    _FINDER.asked = _top(target.partition(":")[0])
    try:
        return installed(target)
    finally:
        _FINDER.asked = ""


def why_not(target: str, error: Exception) -> str:
    """Why `in_working_directory` did not find what "module:name" names, in one line.

    Args:
        error: that it raised.
    """
    module, _, name = target.partition(":")
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and f"{module}.".startswith(f"{missing}."):
        return f"there is no {missing.replace('.', '/')}.py in {Path.cwd()}, and no installed module {missing}"
    found = sys.modules.get(module)
    if not isinstance(error, AttributeError) or found is None or hasattr(found, name):
        return first_line(error)
    classes = [key for key, value in vars(found).items() if getattr(value, "__module__", None) == module]
    hint = nearest(name, classes) or (f"; it has {', '.join(classes)}" if classes else "")
    return f"{getattr(found, '__file__', None) or module} has no class {name!r}{hint}"


#: Modules that are imported as ever, and folders of modules that nobody edits.
_KEPT = {"vrcli", *sys.stdlib_module_names}
_INSTALLED = {"site-packages", "dist-packages"}


class _OwnFolder(MetaPathFinder):
    """Finds modules in a folder for modules that came from there, and for nobody else; asks all other finders first.

    Attributes:
        asked: the module that the user named, while it is imported.
        followed: the modules that the user named, and those that they import, wherever they were found.
        homes: the folder of each module that was found here.
    """

    def __init__(self) -> None:
        self.asked = ""
        self.followed: set[str] = set()
        self.homes: dict[str, str] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top, importer = _top(fullname), _importer()
        if top in _KEPT or (top != self.asked and not {top, importer} & self.followed):
            return None
        found = _elsewhere(fullname, path, target)
        home = str(Path.cwd()) if top == self.asked else self.homes.get(importer)
        if found is None and path is None and home:  # a part of a package is found by the package's path
            found = PathFinder.find_spec(fullname, [home])
            if found is not None:
                self.homes[fullname] = home
        return found and self._from_source(found)

    def _from_source(self, found: ModuleSpec) -> ModuleSpec:
        """The same module, of its source; an installed package, whose files nobody edits, keeps its bytecode."""
        if type(found.loader) is SourceFileLoader and not _INSTALLED & {*Path(found.loader.path).parts}:
            self.followed.add(_top(found.name))
            found.loader = _FromSource(found.name, found.loader.path)
        return found


class _FromSource(SourceFileLoader):
    """Reads no bytecode and writes none."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _elsewhere(fullname: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        if finder is not _FINDER and (found := finder.find_spec(fullname, path, target)) is not None:
            return found
    return None


_FINDER = _OwnFolder()


def _importer() -> str:
    """The module whose code asks for an import, by its name up to the first dot."""
    frame = sys._getframe(2)
    while frame.f_back and _top(frame.f_globals.get("__name__")) == "importlib":
        frame = frame.f_back
    return _top(frame.f_globals.get("__name__"))


def _top(module: object) -> str:
    return str(module).partition(".")[0]
