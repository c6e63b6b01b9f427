"""matrix: low-rank matrix completion.

Source:      arXiv:2604.06652, matrix completion, and its released scripts.
Deviations:  The released scripts give Adam half the L2 that they give FlowAdam; here all have the same objective, and
             the preset released has Adam's. The mean, not the sum, of squared errors is minimised; held-out entries
             carry noise as the seen ones do: the source says neither. A tenth of the entries that are not seen choose
             the step whose weights are tested; the source tests the last step's.
Shapes:      a split has one row: target and mask (1, m, n); factors (m, k), (n, k)
"""

from __future__ import annotations

from pydantic import Field

from vrcli.tasks.base import Preset, Sourced, assumed, stated
from vrcli.tasks.completion import ANY_SIZE, PAPER, QUICK, Completion, CompletionConfig, preset, released


class MatrixConfig(CompletionConfig):
    rows: int = Field(200, ge=2, description="m")
    columns: int = Field(300, ge=2, description="n")


def _size(rows: int, columns: int, rank: int, density: float, noise: float) -> dict[str, Sourced]:
    place = f"{rows}x{columns}"
    return {
        "rows": stated(rows, place),
        "columns": stated(columns, place),
        "rank": stated(rank, place),
        "density": stated(density, place),
        "noise": stated(noise, place),
        **ANY_SIZE,
    }


_SMALL = _size(200, 300, 10, 0.30, 0.1)


class Matrix(Completion[MatrixConfig]):
    name = "matrix"
    summary = "low-rank matrix completion from noisy entries"
    Config = MatrixConfig
    presets = {
        "smoke": Preset(
            {
                "rows": assumed(20, "a check, not a result"),
                "columns": assumed(30, "a check, not a result"),
                "rank": assumed(2, "a check, not a result"),
                **preset({"epochs": assumed(30, "enough for ten steps of Adam and a flow")}),
            },
            QUICK,
            "20x30, 30 steps",
        ),
        "quick": Preset(
            {
                "rows": assumed(60, "a third of the paper's"),
                "columns": assumed(80, "a third of the paper's"),
                "rank": assumed(4, "a third of the paper's"),
                "density": assumed(0.4, "about the paper's entries for each parameter"),
                **preset(
                    {
                        "epochs": assumed(600, "AdamW's validation error is past its least"),
                        "eval_every": assumed(10, "60 points"),
                    }
                ),
            },
            QUICK,
            "60x80 of rank 4",
        ),
        "paper": Preset(preset(_SMALL), PAPER, "200x300 of rank 10, 30% seen"),
        "paper-medium": Preset(preset(_size(300, 400, 15, 0.20, 0.1)), PAPER, "300x400 of rank 15, 20% seen"),
        "paper-large": Preset(preset(_size(400, 500, 20, 0.15, 0.15)), PAPER, "400x500 of rank 20, 15% seen"),
        "released": released(_SMALL, "200x300"),
    }

    @property
    def shape(self) -> tuple[int, int]:
        return self.config.rows, self.config.columns
