"""distance: how long the vector of all weights is.

Source:      a template; say where what is measured is defined.
Deviations:  none known.
Cost:        no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from vrcli.engine.probes.base import Probe, ProbeOptions, Values, View


class Options(ProbeOptions):
    """Each field is an option: --probe-distance-order."""

    order: float = Field(2.0, gt=0, description="of the norm")


class Distance(Probe):
    """Curves: `norm` (of all weights together)."""

    name = "distance"
    summary = "norm of all weights together"
    Options = Options

    def curves(self) -> Sequence[str]:
        return ("norm",)

    def measure(self, view: View) -> Values:
        weights = torch.cat([p.detach().flatten() for p in view.parameters])
        return {"norm": float(torch.linalg.vector_norm(weights, self.options.order))}


PROBE = Distance
