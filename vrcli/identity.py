"""Which code decides a run's curve, in one short text each for the engine, the task and the optimizer.

"revision 2"            vr's own: declared beside the code, and raised by hand when its numbers change
"torch"                 torch's own optimizers: torch's version is provenance
"pytorch-optimizer 4.1" the zoo's
"source 1f0c..."        any other class: a digest of its module, and of those of its own that this imports in turn
"unknown 83be..."       a class without a file (of a notebook, say): other in every process, so no run is reused

A module's own are those in its package; beside them, those in the folder that the package or the loose file is in, and
where that folder holds installed distributions, those of the same one. Imports are read off the source, wherever they
stand in it. Modules imported under a computed name and files read as data are not seen. Of vr's tasks and optimizers
that are imported so, the revision counts.

A digest is taken once in a process, with the class's settings and thus right after its import: it tells of the code
that runs, whatever is edited later.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from vrcli.engine.revision import REVISION

if TYPE_CHECKING:
    from vrcli.tasks.base import Task

_OURS = "vrcli"


def code_of(task: type[Task[Any]], optimizer: str) -> dict[str, str]:
    """The identity of the code of a run: of the engine, the task and the optimizer.

    Raises:
        UsageError: no such optimizer.
    """
    found = {"engine": f"revision {REVISION}", "task": task.identity() or _task(task)}
    return found if task.own_optimizers is not None else {**found, "optimizer": _optimizer(optimizer)}


def _task(task: Any) -> str:
    from vrcli.tasks.registry import is_built_in

    return f"revision {task.revision}" if is_built_in(task) else of_class(task)


def _optimizer(name: str) -> str:
    from vrcli.optim import registry
    from vrcli.optim.rows import TORCH_ROWS, VR_ROWS
    from vrcli.optim.zoo import ADAPTERS, ORIGIN, ZOO_ROWS

    row = registry.find(name)
    for own in VR_ROWS:
        if own.target == row.target:
            return f"revision {own.revision}"
    if row in TORCH_ROWS:
        return "torch"
    if row in ZOO_ROWS:
        part_of_ours = bool(row.groups) or row.target.startswith(ADAPTERS)
        return f"{ORIGIN} {_version(ORIGIN)}" + (f" revision {row.revision}" if part_of_ours else "")
    found: Any = registry.load(row)
    return of_class(found)


@cache
def of_class(found: Any) -> str:
    """The identity of a class that is not registered as vr's own.

    Args:
        found: the class.
    """
    from vrcli.optim.zoo import ORIGIN, PACKAGE

    package = found.__module__.partition(".")[0]
    if package == "torch":
        return "torch"
    if package == PACKAGE:
        return f"{ORIGIN} {_version(ORIGIN)}"
    own, others = _modules(found.__module__)
    if not own:
        return f"unknown {uuid4().hex[:16]}"
    digest = hashlib.blake2b(found.__qualname__.encode(), digest_size=8)
    for name, content in sorted(own.items()):
        digest.update(f"\n{name} {len(content)}\n".encode() + content)
    for line in sorted({line for name in others for line in _declared(name)}):
        digest.update(line.encode())
    return f"source {digest.hexdigest()}"


def _declared(module: str) -> Iterator[str]:
    """What vr and the zoo declare of a module that somebody's code imports."""
    from vrcli.optim.rows import VR_ROWS
    from vrcli.optim.zoo import ORIGIN, PACKAGE
    from vrcli.tasks.registry import built_in

    package, _, attribute = module.rpartition(".")
    for row in VR_ROWS:
        home, _, cls = row.target.partition(":")
        if module == home or (package == "vrcli.optim" and attribute == cls):
            yield f"{row.name} revision {row.revision}"
    for name, task in built_in(module).items():
        yield f"{name} revision {task.revision}"
    if module == PACKAGE:
        yield f"{ORIGIN} {_version(ORIGIN)}"


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(no version)"


# -- modules and what they import -------------------------------------------------------------------------------------


def _modules(start: str) -> tuple[dict[str, bytes], set[str]]:
    """The content of a module and of those of its own that it imports, by name; and the names of others it imports."""
    own: dict[str, bytes] = {}
    others: set[str] = set()
    waiting, seen, homes = [start], {start}, _folders(start)
    while waiting:
        name = waiting.pop()
        if name != start and not _belongs(name, start, homes):
            others.add(name)
            continue
        spec = _spec(name)
        content = _content(spec)
        if spec is None or content is None:  # a name in a module, or a namespace package
            continue
        own["__main__" if name == "__mp_main__" else name] = content
        package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
        found = {name.rpartition(".")[0], *_imports(content, package)} - {"", *seen}
        seen |= found
        waiting += sorted(found)
    return own, others


def _belongs(name: str, start: str, homes: frozenset[str]) -> bool:
    top, own = name.partition(".")[0], start.partition(".")[0]
    if top == _OURS or top in sys.stdlib_module_names:
        return False
    if top == own:
        return True
    if not homes & _folders(top):
        return False
    if not any(_installed(folder) for folder in homes):
        return True
    by_package = _distributions()
    return bool({*by_package.get(top, ())} & {*by_package.get(own, ())})


def _imports(content: bytes, package: str) -> Iterator[str]:
    """Names that a source imports, absolute; of `from a import b` both a and a.b, whichever is the module."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # compiled, or of another version of Python
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):  # above the top package
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _spec(name: str) -> ModuleSpec | None:
    """Where a module is, or would be imported from; imports nothing."""
    module = sys.modules.get(name)
    if module is not None:
        file = getattr(module, "__file__", None)
        spec: ModuleSpec | None = getattr(module, "__spec__", None)
        if spec is None and file is not None:  # a script
            spec = importlib.util.spec_from_file_location(name, file)
        return spec
    package, _, _ = name.rpartition(".")
    with suppress(ImportError, ValueError, AttributeError):  # whatever a finder of another package raises
        if not package:
            return importlib.util.find_spec(name)
        above = _spec(package)
        if above is not None and above.submodule_search_locations is not None:
            return PathFinder.find_spec(name, above.submodule_search_locations)
    return None


def _content(spec: ModuleSpec | None) -> bytes | None:
    if spec is None or spec.origin is None:
        return None
    read: Any = getattr(spec.loader, "get_data", None)
    try:
        content: bytes = Path(spec.origin).read_bytes() if read is None else read(spec.origin)
    except OSError:
        return None
    return content.replace(b"\r\n", b"\n")


def _folders(name: str) -> frozenset[str]:
    """The folders that hold the module's top package, or the loose file."""
    spec = _spec(name.partition(".")[0])
    if spec is None:
        return frozenset()
    parts = spec.submodule_search_locations
    places = list(parts) if parts is not None else [spec.origin] if spec.origin else []
    return frozenset(str(Path(place).absolute().parent) for place in places)


@cache
def _installed(folder: str) -> bool:
    return any(Path(folder).glob("*.dist-info"))


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()
