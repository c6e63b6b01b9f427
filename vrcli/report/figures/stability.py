"""A run at the edge of stability: loss, accuracy, sharpness with its thresholds, and the effective learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vrcli.report.figures.probed import Panel, Probed


@dataclass(frozen=True)
class Stability(Probed):
    """Sharpness with its thresholds, loss, accuracy, effective lr. The sharpness is raw and preconditioned."""

    probe = "sharpness"
    note = (
        "one line per run; dashed: the threshold above which steps are unstable, 2/lr for gradient descent, 38/lr for "
        "Adam at beta1 = 0.9, at the step's effective learning rate"
    )

    def panels(self, known: Sequence[str]) -> list[Panel]:
        found = [
            Panel("training loss", ["train_loss"]),
            Panel("validation accuracy", ["val_accuracy"], log=False),
            Panel("sharpness", ["sharpness_1"], ["sharpness_threshold"]),
            Panel(
                "preconditioned sharpness", ["sharpness_preconditioned_1"], ["sharpness_preconditioned_threshold"]
            ),
            Panel("smallest eigenvalue", ["sharpness_min"], log=False),
            Panel("effective learning rate", ["lr_effective"], log=False),
        ]  # fmt: skip
        return [panel for panel in found if {*panel.curves} & {*known}]


FIGURE = Stability
