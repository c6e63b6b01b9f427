"""Known functions to search, and a way to run a search on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vrcli.execute.executor import Message, Refused
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


@pytest.fixture
def vr(vr, monkeypatch):
    """Run `vr ARGS` in an empty working directory, with the task valley in reach of this process and its workers."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return vr


class Inline:
    """An executor that runs its jobs in this process, one after the other, which saves the start of workers."""

    def __init__(self, make):
        self.work, self.waiting = make(), []

    def free(self):
        return 1 - len(self.waiting)

    def submit(self, key, payload):
        self.waiting.append((key, payload))

    def receive(self, timeout_s):
        key, payload = self.waiting.pop(0)
        notes = []
        try:
            done = Message(key, "done", self.work(payload, lambda body: notes.append(body), lambda: False))
        except Refused as error:
            done = Message(key, "refused", str(error))
        except Exception as error:
            done = Message(key, "failed", f"{type(error).__name__}: {error}")
        return [*(Message(key, "note", body) for body in notes), done]

    def close(self, *, patience_s=0.0):
        return []


@pytest.fixture
def inline(monkeypatch):
    """Sweeps run their trials in this process."""
    from vrcli.cli.sweep_session import Session
    from vrcli.execute.trial import Workshop

    monkeypatch.setattr(Session, "executor", lambda self: Inline(Workshop(self.database, self.data_dir, tune=False)))
