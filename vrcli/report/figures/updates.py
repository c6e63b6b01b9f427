"""How far steps move the weights, and in which direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vrcli.report.figures.probed import Panel, Probed


@dataclass(frozen=True)
class Updates(Probed):
    """Size and angle of the updates, by layer. Their norm and share of the weights; the angle to the gradient and
    to the update before."""

    probe = "updates"
    note = "one line per run; of layers one per layer"

    def panels(self, known: Sequence[str]) -> list[Panel]:
        found = [
            Panel("norm of the update", ["updates_norm"]),
            Panel("update over weights", ["updates_ratio"]),
            Panel("cosine to the negative gradient", ["updates_cosine_gradient"], log=False),
            Panel("cosine to the update before", ["updates_cosine_previous"], log=False),
            Panel("norm of the update, by layer", [name for name in known if name.startswith("updates_norm/")]),
            Panel(
                "norm of the gradient, by layer", [name for name in known if name.startswith("updates_gradient_norm/")]
            ),
        ]  # fmt: skip
        return [panel for panel in found if {*panel.curves} & {*known}]


FIGURE = Updates
