"""The figures of `vr plot`, one module each: its options, the rows it is made of, its drawing and its text.

A figure is a module of this package that defines `FIGURE`, a class of `base.Figure`, and its name here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vrcli.report.figures.base import Figure

#: In the order in which they are listed.
NAMES = (
    "curves",
    "envelope",
    "telemetry",
    "trajectory",
    "target",
    "profile",
    "sensitivity",
    "sweep",
    "difference",
    "budget",
    "ranks",
    "field",
    "oscillation",
    "stability",
    "spectrum",
    "updates",
    "path",
    "plane",
)


def load(name: str) -> type[Figure]:
    """The figure of this name."""
    figure: type[Figure] = import_module(f"{__name__}.{name}").FIGURE
    return figure
