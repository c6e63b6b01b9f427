"""tensor: completion of a tensor of three modes by a sum of outer products (CP).

Source:      arXiv:2604.06652, CP tensor completion, and its released scripts.
Deviations:  As for `vrcli.tasks.matrix`.
Shapes:      a split has one row: target and mask (1, a, b, c); factors (a, k), (b, k), (c, k)
"""

from __future__ import annotations

from pydantic import Field

from vrcli.tasks.base import Preset, Sourced, assumed, stated
from vrcli.tasks.completion import ANY_SIZE, PAPER, QUICK, Completion, CompletionConfig, preset, released


class TensorConfig(CompletionConfig):
    first: int = Field(30, ge=2, description="size of the first mode")
    second: int = Field(40, ge=2, description="size of the second mode")
    third: int = Field(50, ge=2, description="size of the third mode")
    rank: int = Field(5, ge=1, description="outer products in the planted tensor")
    density: float = Field(0.1, gt=0, lt=1, description="share of the entries that are seen")


def _size(first: int, second: int, third: int, rank: int, density: float) -> dict[str, Sourced]:
    place = f"{first}x{second}x{third}"
    return {
        "first": stated(first, place),
        "second": stated(second, place),
        "third": stated(third, place),
        "rank": stated(rank, place),
        "density": stated(density, place),
        "noise": stated(0.1, "noise .1"),
        **ANY_SIZE,
    }


_SMALL = _size(30, 40, 50, 5, 0.10)


class Tensor3(Completion[TensorConfig]):
    name = "tensor"
    summary = "completion of a low-rank tensor of three modes from noisy entries"
    Config = TensorConfig
    presets = {
        "smoke": Preset(
            {
                "first": assumed(6, "a check, not a result"),
                "second": assumed(7, "a check, not a result"),
                "third": assumed(8, "a check, not a result"),
                "rank": assumed(2, "a check, not a result"),
                "density": assumed(0.4, "entries for each parameter"),
                "init_scale": assumed(0.5, "products of three small factors hardly move in 30 steps"),
                **preset({"epochs": assumed(30, "enough for ten steps of Adam and a flow")}),
            },
            QUICK,
            "6x7x8, 30 steps",
        ),
        "quick": Preset(
            {
                "first": assumed(15, "half of the paper's"),
                "second": assumed(20, "half of the paper's"),
                "third": assumed(25, "half of the paper's"),
                "rank": assumed(3, "about half of the paper's"),
                "density": assumed(0.2, "about the paper's entries for each parameter"),
                **preset({"epochs": assumed(1000, "as in the paper"), "eval_every": assumed(10, "100 points")}),
            },
            QUICK,
            "15x20x25 of rank 3",
        ),
        "paper": Preset(preset(_SMALL), PAPER, "30x40x50 of rank 5, 10% seen"),
        "paper-medium": Preset(preset(_size(40, 50, 60, 8, 0.08)), PAPER, "40x50x60 of rank 8, 8% seen"),
        "paper-large": Preset(preset(_size(50, 60, 70, 10, 0.08)), PAPER, "50x60x70 of rank 10, 8% seen"),
        "released": released(_SMALL, "30x40x50"),
    }

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.config.first, self.config.second, self.config.third
