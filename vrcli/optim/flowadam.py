"""FlowAdam: Adam that follows the gradient flow for a short time where it stalls or the curvature jumps.

Source:      arXiv 2604.06652; order of operations, clipping and the solver's tolerances from the authors' code.
Deviations:  the flow is integrated by a Dormand-Prince solver written here, with the usual controller and starting
             step, instead of torchdiffeq's; it gives up after `MAX_EVALUATIONS`, and then Adam's step is taken.
Shapes:      any real parameters, one group; the flow runs on one flat vector (n,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from vrcli.optim.base import OwnOptimizer
from vrcli.optim.rows import OWN_RANGE, Row, lr_space
from vrcli.tasks.space import Real

ROW = Row(
    "flowadam",
    "vrcli.optim.flowadam:FlowAdam",
    "Adam that follows the gradient flow for a while where it stalls or the curvature jumps",
    "vr",
    {
        **lr_space(1e-4, 0.1, OWN_RANGE),
        "gamma": Real(0.0, 1.0, origin=OWN_RANGE),
        "switch_sensitivity": Real(0.1, 0.95, origin=OWN_RANGE),
        "curvature_sensitivity": Real(0.1, 5.0, origin=OWN_RANGE),
    },
    capabilities=frozenset({"closure"}),
)

#: Steps before the flow may take over: the running averages need some history.
WARMUP = 10
#: Decay of the running averages of the gradient's norm and of its change.
DECAY = 0.9
#: The injected velocity is at most this many times as long as Adam's momentum.
MAX_INJECTION = 5.0
MAX_EVALUATIONS = 1000

# Dormand and Prince 1980, 5(4): stages, and fifth minus fourth order weights for the error. The last stage is the
# fifth-order solution itself, so its derivative is the next step's first.
_STAGES: Sequence[Sequence[float]] = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


class FlowAdam(OwnOptimizer):
    """Adam with an adaptive switch to gradient flow and soft momentum injection. `step` needs a closure.

    The paper's two modes are switch_sensitivity 0.4, curvature_sensitivity 3, ode_t_scale 2 for stochastic training of
    networks (the defaults), and 0.9, 0.1, 0.5 for full batches and factorisations.

    Args:
        params: parameters, in one group.
        lr: Adam's learning rate; the flow runs for lr * ode_t_scale.
        betas: decay rates of the running averages of the gradient and of its square.
        eps: added to the denominator, after the uncorrected root.
        gamma: share of the flow's mean velocity in the momentum afterwards: 0 keeps Adam's, 1 is hard injection.
        switch_sensitivity: the flow takes over where the gradient's norm is below this times its running average.
        curvature_sensitivity: and where the gradient's change is above this times its running average.
        ode_t_scale: length of the flow in units of lr.
        tolerance: relative and absolute tolerance of the solver.

    Raises:
        ValueError: a value out of its range, naming the argument; or several groups.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        gamma: float = 0.5,
        switch_sensitivity: float = 0.4,
        curvature_sensitivity: float = 3.0,
        ode_t_scale: float = 2.0,
        tolerance: float = 1e-4,
    ) -> None:
        for name, value in (("lr", lr), ("eps", eps), ("ode_t_scale", ode_t_scale)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and >= 0, got {value}")
        for name, value in (
            ("switch_sensitivity", switch_sensitivity),
            ("curvature_sensitivity", curvature_sensitivity),
        ):
            if not value >= 0:
                raise ValueError(f"{name} must be >= 0, got {value}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"each of betas must be in [0, 1), got {betas}")
        if not 0 <= gamma <= 1:
            raise ValueError(f"gamma must be in [0, 1], got {gamma}")
        if not 0 < tolerance < math.inf:
            raise ValueError(f"tolerance must be finite and > 0, got {tolerance}")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": tuple(betas),
                "eps": eps,
                "gamma": gamma,
                "switch_sensitivity": switch_sensitivity,
                "curvature_sensitivity": curvature_sensitivity,
                "ode_t_scale": ode_t_scale,
                "tolerance": tolerance,
            },
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refuse a second group: the flow has one time."""
        if self.param_groups:
            raise ValueError("FlowAdam takes one parameter group: the flow has one time")
        super().add_param_group(param_group)

    def counters(self) -> dict[str, int]:
        """Steps, flows begun (`triggers`), and gradient evaluations in all, for comparisons at equal compute."""
        shared = self._shared()
        return {name: int(shared.get(name, 0)) for name in ("steps", "triggers", "evaluations")}

    def _shared(self) -> dict[str, Any]:
        """What is kept once for all parameters lives with the first, as in `torch.optim.LBFGS`."""
        shared: dict[str, Any] = self.state[self.param_groups[0]["params"][0]]
        return shared

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]  # required, as for torch.optim.LBFGS
        """One step of Adam or one flow; returns the loss at its start."""
        group = self.param_groups[0]
        with torch.enable_grad():
            loss = closure()
        params = [p for p in group["params"] if p.grad is not None]
        for p in params:
            if p.grad.is_sparse or p.is_complex():
                raise RuntimeError("FlowAdam does not support sparse gradients or complex parameters")
        shared = self._shared()
        shared["evaluations"] = shared.get("evaluations", 0) + 1
        if params:
            grads = [p.grad.clone() for p in params]
            if not (self._wants_flow(params, grads) and self._flow(closure, params, grads)):
                self._adam(params, grads)
        shared["steps"] = shared.get("steps", 0) + 1
        return loss

    def _wants_flow(self, params: list[Tensor], grads: list[Tensor]) -> bool:
        """Whether the gradient has become small, or has changed much, against its own history."""
        group, shared = self.param_groups[0], self._shared()
        before = [self.state[p].get("previous_grad", torch.zeros_like(p)) for p in params]
        norm = float(torch.nn.utils.get_total_norm(grads))
        change = float(torch.nn.utils.get_total_norm(torch._foreach_sub(grads, before)))
        for p, g in zip(params, grads, strict=True):
            self.state[p]["previous_grad"] = g
        for name, value in (("norm_average", norm), ("change_average", change)):
            shared[name] = DECAY * shared.get(name, value) + (1 - DECAY) * value
        plateau = norm < group["switch_sensitivity"] * shared["norm_average"]
        stiff = change > group["curvature_sensitivity"] * shared["change_average"]
        return (plateau or stiff) and int(shared.get("steps", 0)) > WARMUP

    def _adam(self, params: list[Tensor], grads: list[Tensor]) -> None:
        group = self.param_groups[0]
        b1, b2 = group["betas"]
        for p, g in zip(params, grads, strict=True):
            state = self.state[p]
            if "exp_avg" not in state:
                state["exp_avg"], state["exp_avg_sq"], state["step"] = torch.zeros_like(p), torch.zeros_like(p), 0
            state["step"] += 1
            state["exp_avg"].lerp_(g, 1 - b1)
            state["exp_avg_sq"].mul_(b2).addcmul_(g, g, value=1 - b2)
            rate = group["lr"] * math.sqrt(1 - b2 ** state["step"]) / (1 - b1 ** state["step"])
            p.addcdiv_(state["exp_avg"], state["exp_avg_sq"].sqrt().add_(group["eps"]), value=-rate)

    def _flow(self, closure: Callable[[], Any], params: list[Tensor], grads: list[Tensor]) -> bool:
        """Integrate d theta/dt = -clamp(grad, -1, 1) and inject its mean velocity; False restores theta."""
        group, shared = self.param_groups[0], self._shared()
        duration = group["lr"] * group["ode_t_scale"]
        if duration == 0 or any("exp_avg" not in self.state[p] for p in params):
            return False
        shared["triggers"] = shared.get("triggers", 0) + 1
        start = [p.clone() for p in params]

        def velocity(theta: Tensor) -> Tensor:
            _assign(params, theta)
            with torch.enable_grad():
                closure()
            shared["evaluations"] += 1
            return _flat([p.grad for p in params if p.grad is not None]).clamp_(-1, 1).neg_()

        first = _flat(grads).clamp_(-1, 1).neg_()
        end = dopri5(velocity, _flat(start), duration, first=first, tolerance=group["tolerance"])
        if end is None:
            for p, theta in zip(params, start, strict=True):
                p.copy_(theta)
            return False
        _assign(params, end)
        for p, theta in zip(params, start, strict=True):
            momentum = self.state[p]["exp_avg"]
            u = (theta - p) / group["lr"]
            longest = MAX_INJECTION * momentum.norm()
            u *= (longest / u.norm()).clamp(max=1).nan_to_num(1.0)
            momentum.lerp_(u, group["gamma"])
        return True


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _assign(params: Sequence[Tensor], flat: Tensor) -> None:
    for p, piece in zip(params, flat.split([p.numel() for p in params]), strict=True):
        p.copy_(piece.view(p.shape))


def dopri5(
    velocity: Callable[[Tensor], Tensor], y: Tensor, duration: float, *, first: Tensor, tolerance: float
) -> Tensor | None:
    """Solve dy/dt = velocity(y) over `duration`, or return None where that fails.

    Args:
        y: start (n,).
        first: velocity(y), which the caller already knows.
        tolerance: of the error per step, relative to |y| and absolute.
    """

    def size(error: Tensor, *points: Tensor) -> float:
        scale = tolerance + tolerance * torch.stack([p.abs() for p in points]).amax(0)
        return float((error / scale).square().mean().sqrt())

    # the starting step of Hairer, Norsett and Wanner, Solving ODEs I, II.4
    d0, d1 = size(y, y), size(first, y)
    h = 1e-6 if min(d0, d1) < 1e-5 else 0.01 * d0 / d1
    d2 = size(velocity(y + h * first) - first, y) / h
    steepest = max(d1, d2)
    h = min(100 * h, max(1e-6, h * 1e-3) if steepest <= 1e-15 else (0.01 / steepest) ** 0.2, duration)
    t, evaluations = 0.0, 1
    while t < duration:
        h = min(h, duration - t)
        if not h > 1e-12 * duration or evaluations > MAX_EVALUATIONS:
            return None
        slopes = [first]
        for weights in _STAGES:
            y_next = y + h * sum(w * k for w, k in zip(weights, slopes, strict=True) if w)
            slopes.append(velocity(y_next))
        evaluations += len(_STAGES)
        error = size(h * sum(w * k for w, k in zip(_ERROR, slopes, strict=True) if w), y, y_next)  # type: ignore[arg-type]  # not 0
        if not math.isfinite(error):
            return None
        if error <= 1:
            t, y, first = t + h, y_next, slopes[-1]
        h *= min(10.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))
    return y
