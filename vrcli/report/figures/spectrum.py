"""The outer eigenvalues of the Hessian during training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vrcli.report.figures.probed import Panel, Probed


@dataclass(frozen=True)
class Spectrum(Probed):
    """The largest eigenvalues of the Hessian and the smallest. Raw and preconditioned, with the thresholds."""

    probe = "sharpness"
    note = "one line per eigenvalue, the largest bold; dashed: the threshold above which steps are unstable"

    def panels(self, known: Sequence[str]) -> list[Panel]:
        found = []
        for title, prefix in (("Hessian", "sharpness_"), ("preconditioned Hessian", "sharpness_preconditioned_")):
            ranks = sorted(int(one[1]) for name in known if (one := re.fullmatch(rf"{prefix}(\d+)", name)))
            if ranks:
                eigenvalues = [f"{prefix}{rank}" for rank in ranks]
                found.append(Panel(f"largest of the {title}", eigenvalues, [f"{prefix}threshold"]))
                found.append(Panel(f"smallest of the {title}", [f"{prefix}min"], log=False))
        return found


FIGURE = Spectrum
