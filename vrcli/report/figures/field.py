"""How a regularised particle moves: its vector field, its orbits, and the steps of Momentum and VRMomentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from vrcli.errors import UsageError
from vrcli.report.figures.base import Computed, Drawn, Option
from vrcli.report.figures.style import Plot, Series, legend_below, new_figure, style_of, styled
from vrcli.report.figures.text import Rows, by, table
from vrcli.report.wording import number
from vrcli.stats import motion

#: Where orbits begin, at rest; the steps begin at the last.
STARTS = (0.5, 1.0, 1.5, 2.0)
#: More than one turn of the slowest orbit.
SECONDS = 20.0
#: Each rule, and whose colour it has in every figure.
RULES: tuple[tuple[motion.Rule, Series], ...] = (
    ("momentum", Series("sgd", "Momentum")),
    ("vrmomentum", Series("vradam", "VRMomentum")),
)
ORBIT = "orbit"


@dataclass(frozen=True)
class Field(Computed):
    """The paper's vector field in the valley x^2/2, with orbits. The steps of Momentum and VRMomentum are beside
    it."""

    beta3: Annotated[float, Option("--beta3", "velocity penalty", "NUMBER")] = 1.0
    lr: Annotated[float, Option("--lr", "learning rate of the steps", "NUMBER")] = 5.0
    steps: Annotated[int, Option("--steps", "steps to draw", "N")] = 40

    def check(self) -> None:
        super().check()
        if not 0 <= self.beta3 < np.inf:
            raise UsageError(f"--beta3 must be a number from 0 on, got {self.beta3:g}")
        if not 0 < self.lr < np.inf:
            raise UsageError(f"--lr must be a positive number, got {self.lr:g}")
        if not 0 < self.steps <= 10_000:
            raise UsageError(f"--steps must be between 1 and 10,000, got {self.steps}")

    def compute(self) -> Drawn:
        plot = draw(self.beta3, self.lr, self.steps)
        return Drawn(plot, lambda page: text(plot.rows))


FIGURE = Field


def draw(beta3: float, lr: float, steps: int) -> Plot:
    with styled():
        figure, [[axes]] = new_figure(size=(4.6, 4.4))
        rows: list[dict[str, Any]] = []
        edge = 1.15 * STARTS[-1]
        x, v = np.meshgrid(np.linspace(-edge, edge, 60), np.linspace(-edge, edge, 60))
        axes.streamplot(x, v, v, motion.force(x, v, beta3), color="#bbbbbb", linewidth=0.5, density=1.2, arrowsize=0.6)
        for at, start in enumerate(STARTS):
            places, velocities = motion.orbit(start, 0.0, beta3, SECONDS)
            label = "orbits in continuous time" if at == 0 else None
            axes.plot(places, velocities, color="black", linewidth=0.8, label=label)
            rows += _points(ORBIT, start, places, velocities)
        styles = style_of(series for _, series in RULES)
        for rule, series in RULES:
            places, velocities = motion.path(STARTS[-1], rule, lr, steps, motion.Settings(beta3=beta3))
            look = {**styles[series], "linewidth": 1.0, "marker": "o", "markersize": 2.5}
            axes.plot(places, velocities, label=series.label, **look)
            rows += _points(series.label, STARTS[-1], places, velocities)
        axes.set(xlabel="x", ylabel="v", xlim=(-edge, edge), ylim=(-edge, edge))
        axes.set_title("dv/dt = −x / (1 + 3 β3 v²), dx/dt = v", loc="left", fontweight="bold")
        axes.grid(False)
        note = (
            f"β3 = {beta3:g}; steps from rest with learning rate {lr:g} and β1 = 0.9; "
            "the optimizers' v points uphill, so its sign is turned"
        )
        legend_below(figure, axes, note=note)
        return Plot(figure, rows)


def _points(line: str, start: float, places: Any, velocities: Any) -> list[dict[str, Any]]:
    pairs = zip(places, velocities, strict=True)
    return [{"line": line, "from": start, "point": n, "x": float(x), "v": float(v)} for n, (x, v) in enumerate(pairs)]


def text(rows: Rows) -> str:
    """How far each line gets, and how fast."""
    facts = []
    for line, all_of_it in by(rows, "line"):
        for start, own in by(all_of_it, "from"):
            fastest = max(abs(row["v"]) for row in own)
            last = own[-1]
            facts.append({
                "line": line, "from x": number(float(start)), "points": len(own), "largest |v|": number(fastest),
                "last x": number(last["x"]), "last v": number(last["v"]),
            })  # fmt: skip
    return table(facts)
