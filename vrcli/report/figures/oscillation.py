"""Which learning rates keep a motion bounded, and how far it swings: theory beside what the recursions do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from vrcli.errors import UsageError
from vrcli.report.figures.base import Computed, Drawn, Option
from vrcli.report.figures.scales import plain_log_ticks
from vrcli.report.figures.style import Plot, Series, legend_below, new_figure, style_of, styled
from vrcli.report.figures.text import Rows, by, table
from vrcli.report.wording import number
from vrcli.stats import motion

#: Each rule, and whose colour it has in every figure.
SERIES: Mapping[motion.Rule, Series] = {
    "momentum": Series("sgd", "Momentum"),
    "vrmomentum": Series("flowadam", "VRMomentum"),
    "adam": Series("adamw", "Adam"),
    "vradam": Series("vradam", "VRAdam"),
}
#: Rates that are drawn, and how many.
RATES, COUNT = (1.0, 2000.0), 120
#: Where the search for the largest stable rate ends.
BELOW = 1e6
#: A motion that swings less has come to rest.
REST = 1e-9


@dataclass(frozen=True)
class Oscillation(Computed):
    """How far four optimizers swing in the valley x^2/2. Momentum, VRMomentum, Adam and VRAdam, by learning rate."""

    beta3: Annotated[float, Option("--beta3", "velocity penalty", "NUMBER")] = 1.0
    cutoff: Annotated[float, Option("--lr-cutoff", "bound of the penalty", "NUMBER")] = 19.0
    steps: Annotated[int, Option("--steps", "steps of every motion", "N")] = 3000

    def check(self) -> None:
        super().check()
        for flag, value in (("--beta3", self.beta3), ("--lr-cutoff", self.cutoff)):
            if not 0 <= value < np.inf:
                raise UsageError(f"{flag} must be a number from 0 on, got {value:g}")
        if not 1000 <= self.steps <= 1_000_000:
            raise UsageError(f"--steps must be between 1,000 and 1,000,000, got {self.steps}")

    def compute(self) -> Drawn:
        settings = motion.Settings(beta3=self.beta3, cutoff=self.cutoff)
        plot = draw(settings, self.steps)
        return Drawn(plot, lambda page: text(plot.rows))


FIGURE = Oscillation


def draw(settings: motion.Settings, steps: int) -> Plot:
    with styled():
        figure, [[axes]] = new_figure(size=(4.8, 3.6))
        styles = style_of(SERIES.values())
        rows: list[dict[str, Any]] = []
        for rule, series in SERIES.items():
            found = motion.swing(rule, np.geomspace(*RATES, COUNT), steps, settings)
            theory = np.array([motion.amplitude(rule, float(lr), settings) for lr in found.lr])
            colour = styles[series]["color"]
            seen = np.isfinite(found.largest) & (found.largest > REST)
            axes.plot(found.lr[seen], found.largest[seen], ".", color=colour, markersize=3, label=series.label)
            known = np.isfinite(theory) & (theory > 0)
            axes.plot(found.lr[known], theory[known], color=colour, linewidth=0.8)
            limits = {
                "limit_theory": motion.limit(rule, settings),
                "limit_found": motion.largest_stable(rule, steps, settings, below=BELOW),
            }
            points = zip(found.lr, found.largest, theory, strict=True)
            about = {"rule": series.label, **limits}
            rows += [{**about, "lr": float(lr), "amplitude": float(a), "amplitude_theory": float(t)}
                     for lr, a, t in points]  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="largest |x| in the last tenth")
        plain_log_ticks(axes.xaxis, RATES[1] / RATES[0])
        plain_log_ticks(axes.yaxis, 1e5)
        axes.set_title("Swings in the valley x²/2, from x = 1", loc="left", fontweight="bold")
        note = (
            f"points: {steps:,} steps with β1 = {settings.beta1:g}, β3 = {settings.beta3:g}, cutoff "
            f"{settings.cutoff:g}; lines: the cycle of two steps, in which a motion need not settle; "
            "neither: at rest, or unbounded"
        )
        legend_below(figure, axes, note=note)
        return Plot(figure, rows)


def text(rows: Rows) -> str:
    """The largest stable learning rate of each, and the largest swing among those drawn."""
    facts = []
    for name, own in by(rows, "rule"):
        kept = [row for row in own if np.isfinite(row["amplitude"])]
        widest = max(kept, key=lambda row: float(row["amplitude"]))
        at_rest = widest["amplitude"] < REST
        facts.append({
            "optimizer": name,
            "largest stable lr, theory": _limit(own[0]["limit_theory"]),
            "found": _limit(own[0]["limit_found"]),
            "largest swing": "none" if at_rest else number(widest["amplitude"]),
            "at lr": "" if at_rest else number(widest["lr"]),
        })  # fmt: skip
    return table(facts)


def _limit(value: float) -> str:
    return number(value) if np.isfinite(value) else "none"
