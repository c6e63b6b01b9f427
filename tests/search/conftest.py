"""Known functions to search."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from vrcli.tasks.space import Categorical, Integer, Real, Space

# Hartmann's 6-d function (Dixon and Szego 1978): minimum -3.3224 at (0.2017, 0.1500, 0.4769, 0.2753, 0.3117, 0.6573).
_A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_SHADES = {"dark": 0.1, "dim": 0.275, "grey": 0.48, "light": 0.9}


@dataclass(frozen=True)
class Known:
    space: Space
    value: Callable[[Mapping[str, Any]], float]
    trials: int


def branin(p: Mapping[str, Any]) -> float:
    x, y = p["x"], p["y"]
    bowl = y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6
    return bowl**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def hartmann(p: Mapping[str, Any]) -> float:
    x = np.array([(math.log10(p["lr"]) + 5) / 4, p["k"] / 20, _SHADES[p["shade"]], p["x4"], p["x5"], p["x6"]])
    return -float(_ALPHA @ np.exp(-(_A * (x - _P) ** 2).sum(1)))


KNOWN = {
    "branin": Known({"x": Real(-5, 10), "y": Real(0, 15)}, branin, 25),
    "hartmann": Known(
        {
            "lr": Real(1e-5, 1e-1, log=True),
            "k": Integer(0, 20),
            "shade": Categorical(tuple(_SHADES)),
            "x4": Real(0, 1),
            "x5": Real(0, 1),
            "x6": Real(0, 1),
        },
        hartmann,
        40,
    ),
}


@pytest.fixture(params=sorted(KNOWN))
def known(request) -> Known:
    return KNOWN[request.param]


@pytest.fixture
def functions() -> dict[str, Known]:
    return KNOWN


@pytest.fixture
def mixed() -> Known:
    return KNOWN["hartmann"]
