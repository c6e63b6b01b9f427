"""FlowAdam: Adam that follows the gradient flow for a short time where it stalls or the curvature jumps.

Source:      arXiv 2604.06652; order of operations, clipping, solver and tolerances from the authors' code.
Deviations:  A flow starts at a gradient that is known already, so each costs one evaluation less than the authors'.
             With torchdiffeq's own solver in float64 every trigger is the same; in float32 long runs at a large rate
             drift apart by rounding. A flow fails after 1000 evaluations, and then Adam's step is taken. Several groups
             flow together, each for its own lr * ode_t_scale; the authors' code takes one.
Shapes:      any real parameters; the flow runs on one flat vector (n,).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from vrcli.optim.base import OwnOptimizer
from vrcli.optim.rows import OWN_RANGE, Row, lr_space
from vrcli.optim.runge_kutta import SOLVERS, Solution, solve
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
    curves=("flow_triggers", "flow_failures", "flow_evaluations", "flow_accepted", "flow_rejected"),
    revision=2,
)

#: The paper's two modes: a for stochastic training of networks, b for full batches and factorisations.
MODES = {
    "a": {"switch_sensitivity": 0.4, "curvature_sensitivity": 3.0, "ode_t_scale": 2.0},
    "b": {"switch_sensitivity": 0.9, "curvature_sensitivity": 0.1, "ode_t_scale": 0.5},
}
#: Steps before the flow may take over: the running averages need some history.
WARMUP = 10
#: Decay of the running averages of the gradient's norm and of its change.
DECAY = 0.9
#: Settings of the whole flow, which cannot differ from group to group.
COMMON = ("switch_sensitivity", "curvature_sensitivity", "solver", "rtol", "atol")
COUNTERS = ("steps", "triggers", "failures", "evaluations", "accepted", "rejected")


class FlowAdam(OwnOptimizer):
    """Adam with an adaptive switch to gradient flow and soft momentum injection. `step` needs a closure.

    Args:
        params: parameters or groups; every other argument but the mode may be set per group, the sensitivities, solver
            and tolerances only to one value for all.
        lr: Adam's learning rate; the flow runs for lr * ode_t_scale.
        betas: decay rates of the running averages of the gradient and of its square.
        eps: added to the denominator, after the uncorrected root.
        mode: what the next three are unless given: a (0.4, 3, 2) for stochastic training, b (0.9, 0.1, 0.5) for full
            batches and factorisations.
        switch_sensitivity: the flow takes over where the gradient's norm is below this times its running average.
        curvature_sensitivity: and where the gradient's change is above this times its running average.
        ode_t_scale: length of the flow in units of lr.
        gamma: share of the flow's mean velocity in the momentum afterwards: 1 is hard injection, 0 keeps Adam's.
        gradient_clip: bound of each entry of the gradient in the flow.
        momentum_clip: the injected velocity is at most this many times as long as Adam's momentum, tensor by tensor.
        solver: Runge-Kutta method of the flow: dopri5 or bosh3.
        rtol: relative tolerance of the solver.
        atol: absolute tolerance of the solver.

    Raises:
        ValueError: a value out of its range, naming the argument; or groups that differ in what is of the whole flow.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        mode: Literal["a", "b"] = "a",
        gamma: float = 0.5,
        switch_sensitivity: float | None = None,
        curvature_sensitivity: float | None = None,
        ode_t_scale: float | None = None,
        gradient_clip: float = 1.0,
        momentum_clip: float = 5.0,
        solver: Literal["dopri5", "bosh3"] = "dopri5",
        rtol: float = 1e-4,
        atol: float = 1e-4,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be a or b, got {mode!r}")
        given = {
            "switch_sensitivity": switch_sensitivity,
            "curvature_sensitivity": curvature_sensitivity,
            "ode_t_scale": ode_t_scale,
        }
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "gamma": gamma,
            **MODES[mode],
            **{name: value for name, value in given.items() if value is not None},
            "gradient_clip": gradient_clip,
            "momentum_clip": momentum_clip,
            "solver": solver,
            "rtol": rtol,
            "atol": atol,
        }
        self._last = Solution()
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._last = Solution()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, refusing bad values by name, and what would give the flow two thresholds or solvers."""
        settings = {**self.defaults, **param_group}
        _validate(settings)
        for name in COMMON if self.param_groups else ():
            if settings[name] != self.param_groups[0][name]:
                raise ValueError(f"{name} must be the same in every group, got {settings[name]}")
        super().add_param_group(param_group)

    def counters(self) -> dict[str, int]:
        """Totals: steps, flows begun (`triggers`) and failed, gradient evaluations, solver steps by their fate."""
        shared = self._shared()
        return {name: int(shared.get(name, 0)) for name in COUNTERS}

    def telemetry(self) -> dict[str, Tensor]:
        """Triggers and failures so far; of the last step its flow's evaluations and solver steps, 0 without a flow."""
        shared, last = self._shared(), self._last
        values = {
            "flow_triggers": shared.get("triggers", 0),
            "flow_failures": shared.get("failures", 0),
            "flow_evaluations": last.evaluations,
            "flow_accepted": last.accepted,
            "flow_rejected": last.rejected,
        }
        return {name: torch.tensor(float(value)) for name, value in values.items()}

    def _shared(self) -> dict[str, Any]:
        """What is kept once for all parameters lives with the first, as in `torch.optim.LBFGS`."""
        shared: dict[str, Any] = self.state[self.param_groups[0]["params"][0]]
        return shared

    def _count(self, **more: int) -> None:
        shared = self._shared()
        for name, value in more.items():
            shared[name] = shared.get(name, 0) + value

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]  # required, as for torch.optim.LBFGS
        """One step of Adam or one flow; returns the loss at its start."""
        with torch.enable_grad():
            loss = closure()
        rows = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        for _, p in rows:
            if p.grad.is_sparse or p.is_complex():
                raise RuntimeError("FlowAdam does not support sparse gradients or complex parameters")
        self._last = Solution()
        self._count(evaluations=1)
        if rows:
            grads = [p.grad.clone() for _, p in rows]
            if not (self._wants_flow([p for _, p in rows], grads) and self._flow(closure, rows, grads)):
                for (group, p), g in zip(rows, grads, strict=True):
                    self._adam(group, p, g)
        self._count(steps=1)
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

    def _adam(self, group: dict[str, Any], p: Tensor, g: Tensor) -> None:
        b1, b2 = group["betas"]
        state = self.state[p]
        if "exp_avg" not in state:
            state["exp_avg"], state["exp_avg_sq"], state["step"] = torch.zeros_like(p), torch.zeros_like(p), 0
        state["step"] += 1
        state["exp_avg"].lerp_(g, 1 - b1)
        state["exp_avg_sq"].mul_(b2).addcmul_(g, g, value=1 - b2)
        rate = group["lr"] * math.sqrt(1 - b2 ** state["step"]) / (1 - b1 ** state["step"])
        p.addcdiv_(state["exp_avg"], state["exp_avg_sq"].sqrt().add_(group["eps"]), value=-rate)

    def _flow(
        self, closure: Callable[[], Any], rows: Sequence[tuple[dict[str, Any], Tensor]], grads: Sequence[Tensor]
    ) -> bool:
        """Integrate d theta/dt = -clamp(grad, -1, 1) and inject its mean velocity; False restores theta."""
        durations = [group["lr"] * group["ode_t_scale"] for group, _ in rows]
        longest = max(durations)
        if longest == 0 or any("exp_avg" not in self.state[p] for _, p in rows):
            return False
        params = [p for _, p in rows]
        start = [p.clone() for p in params]
        clip = rows[0][0]["gradient_clip"]

        def clamped(gradients: Sequence[Tensor]) -> Tensor:
            """The velocity (n,) on a clock that all groups share: a shorter flow is slower on it."""
            if len(self.param_groups) == 1:  # the same numbers with fewer calls
                return _flat(gradients).clamp_(-clip, clip).neg_()
            return _flat(
                [
                    (g.clamp(-group["gradient_clip"], group["gradient_clip"])).mul_(-duration / longest)
                    for (group, _), g, duration in zip(rows, gradients, durations, strict=True)
                ]
            )

        def velocity(theta: Tensor) -> Tensor:
            _assign(params, theta)
            with torch.enable_grad():
                closure()
            return clamped([torch.zeros_like(p) if p.grad is None else p.grad for p in params])

        how = {name: self.param_groups[0][name] for name in ("solver", "rtol", "atol")}
        found = self._last = solve(velocity, _flat(start), longest, first=clamped(grads), **how)
        self._count(triggers=1, evaluations=found.evaluations, accepted=found.accepted, rejected=found.rejected)
        if found.end is None:
            self._count(failures=1)
            for p, theta in zip(params, start, strict=True):
                p.copy_(theta)
            return False
        _assign(params, found.end)
        for (group, p), theta in zip(rows, start, strict=True):
            if group["lr"]:
                self._inject(group, p, theta)
        return True

    def _inject(self, group: dict[str, Any], p: Tensor, theta: Tensor) -> None:
        """Mix the mean velocity since theta into the momentum."""
        momentum = self.state[p]["exp_avg"]
        u = (theta - p) / group["lr"]
        longest = group["momentum_clip"] * momentum.norm()
        u *= (longest / u.norm()).clamp(max=1).nan_to_num(1.0)
        momentum.lerp_(u, group["gamma"])


def _validate(group: dict[str, Any]) -> None:
    """Refuse settings outside their range, naming the argument.

    Raises:
        ValueError: as said.
    """
    if "mode" in group:
        raise ValueError("mode is not a setting of a group; set the sensitivities and ode_t_scale")
    for name in ("lr", "eps", "ode_t_scale"):
        if not 0 <= group[name] < math.inf:
            raise ValueError(f"{name} must be finite and >= 0, got {group[name]}")
    for name in ("switch_sensitivity", "curvature_sensitivity", "momentum_clip"):
        if not group[name] >= 0:
            raise ValueError(f"{name} must be >= 0, got {group[name]}")
    if not group["gradient_clip"] > 0:
        raise ValueError(f"gradient_clip must be > 0, got {group['gradient_clip']}")
    for name in ("rtol", "atol"):
        if not 0 < group[name] < math.inf:
            raise ValueError(f"{name} must be finite and > 0, got {group[name]}")
    if not all(0 <= beta < 1 for beta in group["betas"]):
        raise ValueError(f"each of betas must be in [0, 1), got {group['betas']}")
    if not 0 <= group["gamma"] <= 1:
        raise ValueError(f"gamma must be in [0, 1], got {group['gamma']}")
    if group["solver"] not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {group['solver']!r}")


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _assign(params: Sequence[Tensor], flat: Tensor) -> None:
    for p, piece in zip(params, flat.split([p.numel() for p in params]), strict=True):
        p.copy_(piece.view(p.shape))
