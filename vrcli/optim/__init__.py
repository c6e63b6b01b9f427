"""Optimizers by name (`vrcli.optim.registry`), and the ones defined here: `from vrcli.optim import VRAdam`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vrcli.optim.flowadam import FlowAdam as FlowAdam
    from vrcli.optim.lamb import Lamb as Lamb
    from vrcli.optim.muon import Muon as Muon
    from vrcli.optim.rad import RAD as RAD
    from vrcli.optim.vradam import VRAdam as VRAdam
    from vrcli.optim.vrmomentum import VRMomentum as VRMomentum

_MODULES = {
    "FlowAdam": "flowadam",
    "Lamb": "lamb",
    "Muon": "muon",
    "RAD": "rad",
    "VRAdam": "vradam",
    "VRMomentum": "vrmomentum",
}
__all__ = ["RAD", "FlowAdam", "Lamb", "Muon", "VRAdam", "VRMomentum"]


def __getattr__(name: str) -> Any:
    """Classes on first use: the registry lists names without importing torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
