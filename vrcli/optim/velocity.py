"""Line 6 of Algorithm 1, for VRAdam and VRMomentum: the norm of the velocity, the gate, the effective learning rate.

Source:      arXiv 2505.13196, Algorithm 1, line 6: eta = lr / (1 + min(beta3 ||v||^2, lr_cutoff)).
Deviations:  none known. The norm runs over the tensors that have a gradient in this step.
Shapes:      every quantity of line 6 is a 0-dim tensor on the parameters' device, or (n,) with one entry per tensor
             where norm_scope is "tensor"; float64 except on MPS, which has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors

#: Elements per pass over a large tensor: 1 MB of float32 stays in the second-level cache between two operations on it.
CHUNK = 1 << 18
#: Tensors up to this many elements are joined before they are measured: one call for all costs less than one each.
SMALL = 1 << 14
#: Elements of temporary velocity per pass on other devices: launches are amortised, memory stays bounded.
DEVICE_CHUNK = 1 << 24


@dataclass(eq=False)
class Batch:
    """The tensors of one parameter group, device and dtype that have a gradient in this step, in order.

    Args:
        group: the parameter group's settings.
        params: updated in place.
        grads: as autograd left them.
        velocities: first moments, not bias-corrected.
        squares: second moments; empty for VRMomentum.
        steps: step counts, mostly one and the same tensor; empty for VRMomentum.
    """

    group: dict[str, Any]
    params: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    velocities: list[Tensor] = field(default_factory=list)
    squares: list[Tensor] = field(default_factory=list)
    steps: list[Tensor] = field(default_factory=list)

    def add(self, p: Tensor, grad: Tensor, state: Mapping[str, Tensor], names: Sequence[str]) -> None:
        """Append one parameter with its gradient and its state, whose tensors are called `names`."""
        self.params.append(p)
        self.grads.append(grad)
        self.velocities.append(state[names[0]])
        if len(names) > 1:
            self.squares.append(state[names[1]])
        if "step" in state:
            self.steps.append(state["step"])

    def take(self, indices: Sequence[int]) -> Batch:
        """The rows at `indices` as a batch of their own."""
        rows = (self.params, self.grads, self.velocities, self.squares, self.steps)
        return Batch(self.group, *([row[i] for i in indices] if row else [] for row in rows))

    @property
    def device(self) -> torch.device:
        return self.params[0].device

    @cached_property
    def unaligned(self) -> set[int]:
        """Indices of tensors whose memory cannot be walked in step with the others' (a gradient of other strides)."""
        rows = zip(*filter(None, (self.params, self.grads, self.velocities, self.squares)), strict=True)
        return {i for i, row in enumerate(rows) if not _aligned(row)}


def _aligned(row: Sequence[Tensor]) -> bool:
    if all(tensor.is_contiguous() for tensor in row):
        return True
    strides = row[-1].stride()
    dense = row[-1].numel() == 0 or _span(row[-1]) == row[-1].numel()
    return dense and all(tensor.stride() == strides for tensor in row)


def _span(tensor: Tensor) -> int:
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


class Regularised(NamedTuple):
    """Line 6 of Algorithm 1 for one batch: 0-dim, or (n,) with one entry per tensor."""

    power_sum: Tensor
    gate: Tensor
    lr: Tensor


PowerSum = Callable[[Batch, float, bool], Tensor]


def regularise(batches: Sequence[Batch], power_sums: PowerSum) -> list[Regularised]:
    """Line 6 of Algorithm 1 for every batch.

    Args:
        power_sums: (batch, power, normgrad) -> sum of |v_i|^power (or of |g_i|^power) of each tensor (n,) where the
            group's norm_scope is "tensor", of all of them () elsewhere.
    """
    known: dict[tuple[int, float, bool], Tensor] = {}

    def total(batch: Batch, power: float, normgrad: bool) -> Tensor:
        key = (id(batch), power, normgrad)
        if key not in known:
            known[key] = power_sums(batch, power, normgrad).sum()
        return known[key]

    results = []
    for batch in batches:
        group = batch.group
        power, normgrad = group["power"], group["normgrad"]
        if group["norm_scope"] == "tensor":
            power_sum = power_sums(batch, power, normgrad)
        else:
            shared = group["norm_scope"] == "global"
            members = [b for b in batches if shared or b.group is group]
            power_sum = total(members[0], power, normgrad).to(batch.device)
            for member in members[1:]:
                power_sum = power_sum + total(member, power, normgrad).to(batch.device)
        gate = gate_of(power_sum, group["beta3"], group["lr_cutoff"])
        lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
        results.append(Regularised(power_sum, gate, gate * lr))
    return results


def gate_of(power_sum: Tensor, beta3: float, lr_cutoff: float) -> Tensor:
    """1 / (1 + min(beta3 ||v||^2, lr_cutoff)): what the learning rate is multiplied with. NaN stays NaN."""
    if beta3 == 0:  # an overflown norm times zero would be NaN
        return torch.ones_like(power_sum)
    return (1 + (beta3 * power_sum).clamp(max=lr_cutoff)).reciprocal()  # clamp hands NaN on


def wide(device: torch.device) -> torch.dtype:
    """The dtype for scalars: float64 wherever the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def beta1_of(group: Mapping[str, Any]) -> float:
    """The velocity's decay rate, whether the optimizer has a second one or not."""
    beta1: float = group["betas"][0] if "betas" in group else group["momentum"]
    return beta1


# --- sums of |x|^power, the readable way -------------------------------------------------------------------------


def single_tensor_power_sums(tensors: Sequence[Tensor], power: float) -> Tensor:
    """The sum of |x_i|^power of each tensor (n,)."""
    return torch.stack([x.to(wide(x.device)).abs().pow(power).sum() for x in tensors])


def multi_tensor_power_sums(tensors: Sequence[Tensor], power: float) -> Tensor:
    """The same through `_foreach_norm`: for devices where one launch per tensor is what costs."""
    # device kernels add up in tree order; the CPU's straight sums need the wider accumulator
    dtype = wide(tensors[0].device) if tensors[0].device.type == "cpu" else torch.float32
    norms = torch._foreach_norm(list(tensors), power, dtype=torch.promote_types(dtype, tensors[0].dtype))
    return torch.stack(list(norms)).to(wide(tensors[0].device)).pow(power)


# --- sums of |v_i|^power of the velocity that the update is about to write ---------------------------------------
# The fused kernel takes the learning rate and updates the velocity in the same pass, so the norm comes first.


def coming_power_sums(batch: Batch, power: float, normgrad: bool, scratch: Tensor | None) -> Tensor:
    """Sums of |b1 v + (1 - b1) g|^power (or |g|^power), without writing v: (n,) for norm_scope "tensor", else ().

    Args:
        scratch: `CHUNK` elements on CPU; None on other devices.
    """
    each = batch.group["norm_scope"] == "tensor"
    if scratch is None:
        sums = torch.cat(list(_device_sums(batch, power, normgrad)))
        return sums if each else sums.sum()
    b1 = beta1_of(batch.group)
    # b1 v + (1 - b1) g = b1 (v + ratio g): one multiplication and addition per element, which is faster than a lerp
    only_g = normgrad or b1 == 0
    ratio = 0.0 if only_g else (1 - b1) / b1 * (-1 if batch.group["maximize"] else 1)
    factor = 1.0 if only_g else b1**power
    runs = [[i] for i in range(len(batch.params))] if each else [range(len(batch.params))]
    rows = [torch.stack(list(_cpu_sums(batch, run, power, ratio, scratch))).sum(dtype=torch.float64) for run in runs]
    return factor * (torch.stack(rows) if each else rows[0])


def _cpu_sums(batch: Batch, indices: Sequence[int], power: float, ratio: float, scratch: Tensor) -> Iterator[Tensor]:
    """Partial sums of |v + ratio g|^power, or of |g|^power where the ratio is 0, one per `CHUNK` elements or less."""
    small: list[int] = []
    waiting = 0
    for i in indices:
        v, g = batch.velocities[i], batch.grads[i]
        size = v.numel()
        if size <= SMALL:
            small.append(i)
            waiting += size
            if waiting > CHUNK - SMALL:
                yield _joined_sum(batch, small, power, ratio, scratch)
                small, waiting = [], 0
        else:
            pieces = _pieces_by_rows(v, g) if i in batch.unaligned else zip(_chunks(v), _chunks(g), strict=True)
            for v_piece, g_piece in pieces:
                yield _power_sum(_shifted(v_piece, g_piece, ratio, scratch), power)
    if small:
        yield _joined_sum(batch, small, power, ratio, scratch)


def _joined_sum(batch: Batch, indices: Sequence[int], power: float, ratio: float, scratch: Tensor) -> Tensor:
    # in the order of their indices, whatever their strides; a view of the tensor itself where there is only one
    v, g = (_flatten_dense_tensors([row[i] for i in indices]) for row in (batch.velocities, batch.grads))
    return _power_sum(_shifted(v, g, ratio, scratch), power)


def _shifted(v: Tensor, g: Tensor, ratio: float, scratch: Tensor) -> Tensor:
    """v + ratio g in the scratch buffer, or in a new tensor where that is too small; g itself where the ratio is 0."""
    if not ratio:
        return g
    if v.numel() > scratch.numel():
        return torch.add(v, g, alpha=ratio)
    out = scratch[: v.numel()]
    return torch.add(v, g, alpha=ratio, out=out if v.ndim == 1 else out.view(v.shape))


def advance_and_sum(batch: Batch) -> Tensor:
    """v <- b1 v + (1 - b1) g in place, and the sums of `coming_power_sums`: each piece is measured while cached."""
    power, normgrad = batch.group["power"], batch.group["normgrad"]
    weight = 1 - beta1_of(batch.group)
    if batch.device.type != "cpu":
        grads = list(torch._foreach_neg(batch.grads)) if batch.group["maximize"] else batch.grads
        torch._foreach_lerp_(batch.velocities, grads, weight)
        return multi_tensor_power_sums(batch.grads if normgrad else batch.velocities, power)
    rows = []
    for i, (v, g) in enumerate(zip(batch.velocities, batch.grads, strict=True)):
        whole = v.numel() <= CHUNK or i in batch.unaligned
        parts = []
        for v_piece, g_piece in [(v, g)] if whole else zip(_chunks(v), _chunks(g), strict=True):
            v_piece.lerp_(-g_piece if batch.group["maximize"] else g_piece, weight)
            parts.append(_power_sum(g_piece if normgrad else v_piece, power))
        rows.append(parts[0] if whole else torch.stack(parts).sum(dtype=torch.float64))
    return torch.stack([row.double() for row in rows])


def _chunks(tensor: Tensor) -> tuple[Tensor, ...]:
    """Views of at most `CHUNK` elements each of a dense tensor, in the order of its memory."""
    flat = tensor.view(-1) if tensor.is_contiguous() else tensor.as_strided((tensor.numel(),), (1,))
    return torch.split(flat, CHUNK) if tensor.numel() > CHUNK else (flat,)


def _pieces_by_rows(v: Tensor, g: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The same for tensors of different strides: views of whole rows along the first dimension."""
    rows = max(1, CHUNK // max(1, v[0].numel()))
    return zip(torch.split(v, rows), torch.split(g, rows), strict=True)


def _power_sum(x: Tensor, power: float) -> Tensor:
    """The sum of |x_i|^power in float32, or in float64 for a float64 tensor."""
    flat = x if x.ndim == 1 else x.reshape(-1)
    if flat.dtype not in (torch.float32, torch.float64):
        flat = flat.float()
    return torch.dot(flat, flat) if power == 2 else flat.abs().pow_(power).sum()


def _device_sums(batch: Batch, power: float, normgrad: bool) -> Iterator[Tensor]:
    """Sums of each tensor (n,), in runs of at most `DEVICE_CHUNK` elements unless one tensor alone is larger."""
    weight = 1 - beta1_of(batch.group)
    start = elements = 0
    for end in range(1, len(batch.params) + 1):
        elements += batch.params[end - 1].numel()
        if end == len(batch.params) or elements + batch.params[end].numel() > DEVICE_CHUNK:
            run = batch.grads[start:end]
            if not normgrad:
                run = list(torch._foreach_neg(run)) if batch.group["maximize"] else run
                run = list(torch._foreach_lerp(batch.velocities[start:end], run, weight))
            yield multi_tensor_power_sums(run, power)
            start, elements = end, 0
