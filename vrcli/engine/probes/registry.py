"""Which probes there are: those of this folder, of installed packages, and classes at "package.module:Class".

Their names are known without importing torch: a file of this folder that says `PROBE = Class` is called like its probe.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError, first_line, nearest
from vrcli.importing import entry_points, in_working_directory, installed, why_not

if TYPE_CHECKING:
    from vrcli.engine.probes.base import Probe

ENTRY_POINT_GROUP = "vrcli.probes"


@cache
def catalogue() -> dict[str, tuple[str, str]]:
    """(where the class is, the distribution that it comes from) by name.

    Raises:
        UsageError: two probes have the same name.
    """
    found = {name: (f"{__package__}.{name}:PROBE", "vr") for name in _own()}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if found.get(entry.name, (entry.value,))[0] != entry.value:
            raise UsageError(f"two probes are called {entry.name!r}: {found[entry.name][0]} and {entry.value}")
        found[entry.name] = (entry.value, entry.dist.name if entry.dist else "entry point")
    return found


def _own() -> list[str]:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [path.stem for path in files if re.search(r"^PROBE = \w+$", path.read_text(encoding="utf-8"), re.M)]


def names() -> list[str]:
    """The names in `catalogue`, in its order."""
    return list(catalogue())


def load(name: str) -> type[Probe]:
    """The class of the probe called `name`, or at "package.module:Class".

    Raises:
        UsageError: there is none (the nearest name is in the message), it cannot be imported, or it is no probe.
    """
    if ":" not in name and name not in catalogue():
        hint = nearest(name, names()) or f"; there are {', '.join(names())}"
        raise UsageError(f"{name} is not a probe{hint} (vr probes list)", "--probe")
    try:
        found: Any = in_working_directory(name) if ":" in name else installed(catalogue()[name][0])
    except Exception as error:  # whatever a third party's module raises, the user sees one line
        why = why_not(name, error) if ":" in name else first_line(error)
        raise UsageError(f"{name} cannot be imported: {why}", "--probe") from error
    from vrcli.engine.probes.base import Probe

    if not (isinstance(found, type) and issubclass(found, Probe)):
        raise UsageError(f"{name} is not a vrcli.engine.probes.base.Probe class", "--probe")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", getattr(found, "name", "")):
        raise UsageError(f"{name} needs a name of small letters, digits and underscores", "--probe")
    return found
