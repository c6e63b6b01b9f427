"""Momentum and its relatives on a quadratic valley, by their recursions: what theory says of them, and what they do.

Source:      arXiv 2505.13196, Section 3 and Algorithm 1; the thresholds are those of Cohen et al., arXiv 2207.14484.
Shapes:      every quantity may be an array: each entry is a valley of its own, L(x) = a x^2 / 2, with its own norm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from vrcli.stats.inference import Array

Rule = Literal["momentum", "vrmomentum", "adam", "vradam"]
RULES: tuple[Rule, ...] = get_args(Rule)
#: A motion that grows at all grows exponentially, and passes this.
LARGEST = 1e12


@dataclass(frozen=True)
class Settings:
    """What the rules have in common; those of the paper by default.

    Args:
        beta3: velocity penalty.
        cutoff: bound of the penalty; infinite for none.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    beta3: float = 1.0
    cutoff: float = 19.0


@dataclass
class State:
    """Where a motion is: place, velocity, second moment, steps behind it."""

    x: Array
    velocity: Array
    square: Array
    count: int = 0

    @classmethod
    def at(cls, x: Array) -> State:
        """At rest."""
        return cls(np.array(x, dtype=np.float64), np.zeros(np.shape(x)), np.zeros(np.shape(x)))


def gate(velocity: Array, settings: Settings) -> Array:
    """1 / (1 + min(beta3 v^2, cutoff)), by which the learning rate falls."""
    with np.errstate(over="ignore"):  # the cutoff bounds what has no number
        found: Array = 1 / (1 + np.minimum(settings.beta3 * np.square(velocity), settings.cutoff))
    return found


def advance(state: State, gradient: Array, rule: Rule, lr: Array | float, settings: Settings) -> State:
    """One step."""
    s, count = settings, state.count + 1
    velocity = s.beta1 * state.velocity + (1 - s.beta1) * gradient
    rate = lr * gate(velocity, s) if rule in ("vrmomentum", "vradam") else lr
    if rule in ("momentum", "vrmomentum"):
        return State(state.x - rate * velocity, velocity, state.square, count)
    square = s.beta2 * state.square + (1 - s.beta2) * np.square(gradient)
    scale = np.sqrt(square / (1 - s.beta2**count)) + s.eps
    return State(state.x - rate * velocity / (1 - s.beta1**count) / scale, velocity, square, count)


def path(start: float, rule: Rule, lr: float, steps: int, settings: Settings = Settings()) -> tuple[Array, Array]:
    """Places and velocities -dx/dt of a motion on x^2 / 2 from rest, (steps + 1,) each.

    The velocity is that of the optimizer with its sign turned, so that it points where the motion goes.
    """
    state, places, velocities = State.at(np.array(start)), [start], [0.0]
    for _ in range(steps):
        state = advance(state, state.x, rule, lr, settings)
        places.append(float(state.x))
        velocities.append(-float(state.velocity))
    return np.array(places), np.array(velocities)


def force(x: Array, velocity: Array, beta3: float) -> Array:
    """dv/dt of a particle of mass 1 with kinetic energy v^2/2 + beta3 v^4/4 in the valley x^2 / 2."""
    found: Array = -x / (1 + 3 * beta3 * np.square(velocity))
    return found


def energy(x: Array, velocity: Array, beta3: float) -> Array:
    """What that particle keeps: v^2/2 + 3 beta3 v^4/4 + x^2/2."""
    found: Array = np.square(velocity) / 2 + 3 * beta3 * velocity**4 / 4 + np.square(x) / 2
    return found


def orbit(x: float, velocity: float, beta3: float, seconds: float, points: int = 400) -> tuple[Array, Array]:
    """The particle's places and velocities in continuous time, (points,) each."""
    found = solve_ivp(
        lambda _, y: (y[1], force(y[0], y[1], beta3)),
        (0.0, seconds),
        (x, velocity),
        t_eval=np.linspace(0.0, seconds, points),
        rtol=1e-9,
        atol=1e-9,
    )
    return found.y[0], found.y[1]


# -- oscillation ------------------------------------------------------------------------------------------------------


def limit(rule: Rule, settings: Settings = Settings(), curvature: float = 1.0) -> float:
    """The learning rate up to which theory keeps a motion bounded: infinite where it always does.

    Momentum's is (2 + 2 beta1) / ((1 - beta1) a). VRMomentum far out is Momentum at its smallest rate. Adam divides by
    its own gradient's size, so that its steps are bounded whatever the valley.
    """
    threshold = (2 + 2 * settings.beta1) / ((1 - settings.beta1) * curvature)
    return {"momentum": threshold, "vrmomentum": threshold * (1 + settings.cutoff)}.get(rule, np.inf)


def amplitude(rule: Rule, lr: float, settings: Settings = Settings(), curvature: float = 1.0) -> float:
    """How far a motion that goes on for ever swings from side to side, by theory; 0 where it comes to rest.

    It turns at every step: then the velocity is (1 - beta1) / (1 + beta1) of the gradient, and the step, whose rate the
    gate and Adam's scale set, is twice the amplitude.
    """
    threshold, share = limit("momentum", settings, curvature), (1 - settings.beta1) / (1 + settings.beta1)

    def rate(x: float) -> float:
        gated = float(gate(np.array(share * curvature * x), settings)) if rule in ("vrmomentum", "vradam") else 1.0
        return lr * gated / (1.0 if rule in ("momentum", "vrmomentum") else curvature * x + settings.eps)

    if rule == "momentum":
        return 0.0 if lr <= threshold else np.inf
    if rule == "vrmomentum" and lr <= threshold:
        return 0.0
    if lr > limit(rule, settings, curvature):
        return np.inf
    low, high = np.log(1e-12), np.log(1e150)
    if rate(np.exp(low)) <= threshold:
        return 0.0
    if rate(np.exp(high)) > threshold:  # the penalty is too small to be seen in numbers
        return np.inf
    # Above it the rate is too small to come back from that far, below it too large to rest there.
    return float(np.exp(brentq(lambda x: rate(np.exp(x)) - threshold, low, high, xtol=1e-13)))


@dataclass(frozen=True)
class Swing:
    """What was found by trying.

    Args:
        bounded: whether the motion stayed below `LARGEST`, by learning rate.
        largest: amplitude over the last tenth of the steps, by learning rate; infinite where it is not bounded.
    """

    lr: Array
    bounded: Array
    largest: Array


def swing(rule: Rule, lr: Array, steps: int, settings: Settings = Settings(), curvature: float = 1.0) -> Swing:
    """Move from unit distance, at rest, with every learning rate at once."""
    state, largest = State.at(np.ones_like(lr)), np.zeros_like(lr)
    alive = np.ones(lr.shape, dtype=bool)
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(steps):
            state = advance(state, curvature * state.x, rule, lr, settings)
            if step % 64 == 0:  # what has left does not come back
                alive &= np.abs(state.x) < LARGEST
                state = replace(state, x=np.where(alive, state.x, 2 * LARGEST), velocity=state.velocity * alive)
            if step >= steps - max(1, steps // 10):
                largest = np.maximum(largest, np.abs(state.x))
        alive &= np.abs(state.x) < LARGEST
    return Swing(lr, alive, np.where(alive, largest, np.inf))


def largest_stable(
    rule: Rule, steps: int, settings: Settings = Settings(), *, below: float = 1e6, digits: int = 3
) -> float:
    """The learning rate up to which a motion stayed bounded for that many steps, by bisection; infinite above `below`.

    Sixty-four rates are tried side by side, and the first that fails brackets the next ones.
    """
    low, high, width = 1e-3, below, np.log(below / 1e-3)
    if swing(rule, np.array([below]), steps, settings).bounded[0]:
        return float(np.inf)
    while width > 10.0**-digits:
        found = swing(rule, np.geomspace(low, high, 64), steps, settings)
        last = int(np.argmin(found.bounded)) - 1
        low, high = float(found.lr[last]), float(found.lr[last + 1])
        width = np.log(high / low)
    return low
