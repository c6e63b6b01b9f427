"""Muon for hidden matrices and convolution filters, AdamW for everything else, as one optimizer.

Source:      Jordan et al. 2024, "Muon: an optimizer for hidden layers" (the update, the Newton-Schulz coefficients);
             Liu et al., arXiv 2502.16982 (the factor 0.2 sqrt(max(rows, columns)): both halves share a learning rate).
Deviations:  filters (out, in, h, w) are treated as matrices (out, in h w), as in Jordan's own CIFAR-10 runs; the
             iteration runs in the parameter's precision on CPU and in bfloat16 elsewhere.
Shapes:      torch.optim.Muon takes matrices only; this class takes any parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.optimizer import ParamsT

from vrcli.optim.base import OwnOptimizer
from vrcli.optim.rows import OWN_RANGE, Row
from vrcli.tasks.space import Real

ROW = Row(
    "muon",
    "vrcli.optim.muon:Muon",
    "orthogonalised momentum for hidden matrices and filters, AdamW for everything else",
    "vr",
    {"lr": Real(1e-4, 0.1, log=True, origin=OWN_RANGE)},
    groups="vrcli.optim.muon:split_parameters",
)

#: The quintic's coefficients (a, b, c): steepest at zero, singular values end in about 0.7..1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(OwnOptimizer):
    """Momentum orthogonalised by Newton-Schulz steps where `use_muon` holds for a group, AdamW elsewhere.

    A group's tensors with fewer than two dimensions always go to AdamW. `split_parameters` makes the two usual groups.

    Args:
        params: parameters or groups; a group may set `use_muon` to False.
        lr: learning rate of both halves.
        weight_decay: decoupled weight decay of both halves.
        momentum: momentum of the Muon half.
        nesterov: use Nesterov momentum in the Muon half.
        ns_steps: Newton-Schulz steps per update.
        adjust_lr_fn: scale of an orthogonal update: "match_rms_adamw" for 0.2 sqrt(max(rows, columns)), "original" for
            sqrt(max(1, rows / columns)).
        betas: decay rates of the AdamW half.
        eps: added to the denominator in the AdamW half.
        maximize: maximise the objective instead of minimising it.

    Raises:
        ValueError: a value out of its range, naming the argument.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: Literal["match_rms_adamw", "original"] = "match_rms_adamw",
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        *,
        maximize: bool = False,
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"lr must be >= 0, got {lr}")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay must be >= 0, got {weight_decay}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum}")
        if not 1 <= ns_steps < 100:
            raise ValueError(f"ns_steps must be in [1, 100), got {ns_steps}")
        if adjust_lr_fn not in ("match_rms_adamw", "original"):
            raise ValueError(f"adjust_lr_fn must be match_rms_adamw or original, got {adjust_lr_fn!r}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"each of betas must be in [0, 1), got {betas}")
        if not eps >= 0:
            raise ValueError(f"eps must be >= 0, got {eps}")
        super().__init__(
            params,
            {
                "lr": lr,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "nesterov": nesterov,
                "ns_steps": ns_steps,
                "adjust_lr_fn": adjust_lr_fn,
                "betas": tuple(betas),
                "eps": eps,
                "maximize": maximize,
                "use_muon": True,
            },
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            updated = [p for p in group["params"] if p.grad is not None]
            for p in updated:
                if p.grad.is_sparse or p.is_complex():
                    raise RuntimeError("Muon does not support sparse gradients or complex parameters")
            matrices = [p for p in updated if group["use_muon"] and p.ndim >= 2]
            self._step_matrices(group, matrices)
            self._step_others(group, [p for p in updated if not (group["use_muon"] and p.ndim >= 2)])
        return loss

    def _step_matrices(self, group: dict[str, Any], params: list[Tensor]) -> None:
        for p in params:
            state = self.state[p]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            muon_update(p, state["momentum_buffer"], group)

    def _step_others(self, group: dict[str, Any], params: list[Tensor]) -> None:
        for p in params:
            state = self.state[p]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        states = [self.state[p] for p in params]
        adamw(
            params,
            [p.grad for p in params if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=group["maximize"],
        )


def muon_update(p: Tensor, buffer: Tensor, group: dict[str, Any]) -> None:
    """One Muon step on one tensor of two or more dimensions, in place."""
    assert p.grad is not None
    g = -p.grad if group["maximize"] else p.grad
    buffer.lerp_(g, 1 - group["momentum"])
    update = g.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer
    matrix = orthogonalise(update.flatten(1), group["ns_steps"])  # (out, in h w)
    rows, columns = matrix.shape
    original = group["adjust_lr_fn"] == "original"
    scale = max(1, rows / columns) ** 0.5 if original else 0.2 * max(rows, columns) ** 0.5
    p.mul_(1 - group["lr"] * group["weight_decay"])
    p.sub_(matrix.view(p.shape).to(p.dtype) * (group["lr"] * scale))


def orthogonalise(matrix: Tensor, steps: int) -> Tensor:
    """Nearly the orthogonal factor of the polar decomposition of `matrix` (m, n): X <- a X + (b XX' + c (XX')^2) X."""
    a, b, c = COEFFICIENTS
    x = matrix if matrix.device.type == "cpu" else matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T.contiguous() if tall else x


def split_parameters(model: nn.Module) -> list[dict[str, Any]]:
    """Two groups: hidden matrices and filters for Muon; vectors, embeddings and the output layer for AdamW.

    The output layer is taken to be the one that owns the last matrix in `model.parameters()`.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trainable if p.ndim >= 2]
    outside = {id(p) for p in matrices[-1:]}
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            outside |= {id(p) for p in module.parameters()}
    hidden = [p for p in matrices if id(p) not in outside]
    chosen = {id(p) for p in hidden}
    others = [p for p in trainable if id(p) not in chosen]
    groups = [{"params": hidden, "use_muon": True}, {"params": others, "use_muon": False}]
    return [group for group in groups if group["params"]]
