"""Runge-Kutta methods with a step size of their own, for the flow of FlowAdam.

Source:      Dormand and Prince 1980 with Shampine's error estimate and midpoint; Bogacki and Shampine 1989; starting
             step and controller of Hairer, Norsett and Wanner, Solving ODEs I, II.4. All as in torchdiffeq 0.2.5.
Deviations:  a solution fails after `MAX_EVALUATIONS`; torchdiffeq goes on. The slope at the start is given.
Shapes:      points and slopes (n,), the slopes of one step (stages + 1, n).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

MAX_EVALUATIONS = 1000


class Tableau(NamedTuple):
    """A method whose last stage is its solution, so that its slope is the next step's first.

    Args:
        stages: weights of the slopes so far, of each stage.
        error: weights of the estimated error.
        middle: weights of the solution halfway.
    """

    order: int
    stages: Sequence[tuple[float, ...]]
    error: tuple[float, ...]
    middle: tuple[float, ...]


SOLVERS = {
    "dopri5": Tableau(
        5,
        (
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
        (
            35 / 384 - 1951 / 21600,
            0,
            500 / 1113 - 22642 / 50085,
            125 / 192 - 451 / 720,
            12231 / 42400 - 2187 / 6784,
            11 / 84 - 649 / 6300,
            -1 / 60,
        ),
        (
            6025192743 / 30085553152 / 2,
            0,
            51252292925 / 65400821598 / 2,
            -2691868925 / 45128329728 / 2,
            187940372067 / 1594534317056 / 2,
            -1776094331 / 19743644256 / 2,
            11237099 / 235043384 / 2,
        ),
    ),
    "bosh3": Tableau(
        3,
        ((1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
        (2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
        (0, 1 / 2, 0, 0),
    ),
}


@dataclass
class Solution:
    """Where the flow ended, and what it took.

    Args:
        end: None where the solver failed.
        evaluations: of the velocity, without the slope at the start, which was given.
        accepted: steps of the solver.
        rejected: steps that were taken back for their error.
    """

    end: Tensor | None = None
    evaluations: int = 0
    accepted: int = 0
    rejected: int = 0


def solve(
    velocity: Callable[[Tensor], Tensor],
    y: Tensor,
    duration: float,
    *,
    first: Tensor,
    solver: str = "dopri5",
    rtol: float = 1e-4,
    atol: float = 1e-4,
) -> Solution:
    """Solve dy/dt = velocity(y) over `duration`: past its end, and back to it on the last step's polynomial.

    Args:
        y: start (n,).
        first: velocity(y), which the caller already knows.
        solver: one of `SOLVERS`.
        rtol: tolerance of the error per step, relative to |y|.
        atol: absolute tolerance beside it.
    """
    method, found = SOLVERS[solver], Solution()
    slopes = y.new_empty(len(method.stages) + 1, len(y))

    def slope(point: Tensor) -> Tensor:
        found.evaluations += 1
        return velocity(point)

    def size(error: Tensor, magnitude: Tensor) -> float:
        return float((error / (atol + rtol * magnitude)).square_().mean().sqrt())

    h = _first_step(slope, y, first, lambda error: size(error, y.abs()), method.order)
    t = 0.0
    while True:
        if not t + h > t or found.evaluations > MAX_EVALUATIONS:
            return found
        slopes[0] = first
        y_next = y
        for i, weights in enumerate(method.stages, start=1):
            y_next = _along(y, slopes[:i], weights, h)
            slopes[i] = slope(y_next)
        error = size(_along(torch.zeros_like(y), slopes, method.error, h), torch.maximum(y.abs(), y_next.abs()))
        if math.isnan(error):
            return found
        if error <= 1:
            found.accepted += 1
            if t + h >= duration:
                found.end = _along(y, slopes, _between(method, (duration - t) / h), h)
                return found
            t, y, first = t + h, y_next, slopes[-1].clone()
        else:
            found.rejected += 1
        h *= min(10.0, max(1.0 if error < 1 else 0.2, 0.9 * max(error, 1e-10) ** (-1 / method.order)))


def _first_step(
    slope: Callable[[Tensor], Tensor], y: Tensor, first: Tensor, size: Callable[[Tensor], float], order: int
) -> float:
    d0, d1 = size(y), size(first)
    h = 1e-6 if min(d0, d1) < 1e-5 else 0.01 * d0 / d1
    steepest = max(d1, size(slope(y + h * first) - first) / h)
    return min(100 * h, max(1e-6, h * 1e-3) if steepest <= 1e-15 else (0.01 / steepest) ** (1 / order))


def _along(y: Tensor, slopes: Tensor, weights: tuple[float, ...], h: float) -> Tensor:
    """y + h * the weighted sum of the slopes."""
    return torch.addmv(y, slopes.T, _weights(weights, y.dtype, y.device), alpha=h)


@lru_cache(maxsize=64)
def _weights(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)


def _between(method: Tableau, x: float) -> tuple[float, ...]:
    """Weights of the slopes for the point at the share x of a step.

    The polynomial of degree 4 through both ends and the middle, with the slopes at both ends.
    """
    end = -8 * x**4 + 14 * x**3 - 5 * x**2
    middle = 16 * x**4 - 32 * x**3 + 16 * x**2
    weights = [end * b + middle * m for b, m in zip((*method.stages[-1], 0), method.middle, strict=True)]
    weights[0] += -2 * x**4 + 5 * x**3 - 4 * x**2 + x
    weights[-1] += 2 * x**4 - 3 * x**3 + x**2
    return tuple(weights)
