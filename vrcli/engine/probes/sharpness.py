"""sharpness: the largest eigenvalues of the Hessian, raw and as the optimizer scales its steps.

Source:      arXiv 2103.00065 and 2207.14484 (the edge of stability, and its adaptive form).
Deviations:  none known. The loss is that of a fixed batch, without dropout and in full precision.
Cost:        one gradient, and a product of the Hessian with a vector (two gradients) for each Lanczos step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from pydantic import Field
from torch import Tensor

from vrcli.engine.probes.base import BatchOptions, Probe, Values, View
from vrcli.engine.probes.lanczos import Spectrum, lanczos
from vrcli.engine.probes.preconditioner import preconditioner


class Options(BatchOptions):
    """Options of the probe."""

    top: int = Field(5, ge=1, le=100, description="how many of the largest eigenvalues")
    iterations: int = Field(100, ge=1, le=1000, description="products of the Hessian with a vector, at most")
    tolerance: float = Field(1e-3, gt=0, lt=1, description="residual of an eigenpair, relative to its eigenvalue")
    raw: bool = Field(True, description="measure the Hessian itself; always where the preconditioner is 1")
    preconditioned: bool = Field(True, description="measure the preconditioned Hessian")


class Sharpness(Probe):
    """Curves: `1` to `top` and `min` of the Hessian, the same after `preconditioned_`, `threshold` and
    `preconditioned_threshold`, `products` and `preconditioned_products`.
    """

    name = "sharpness"
    summary = "largest and smallest eigenvalues of the Hessian, raw and preconditioned, with the stability threshold"
    Options = Options

    def curves(self) -> Sequence[str]:
        own = [*(str(number) for number in range(1, self.options.top + 1)), "min", "products", "threshold"]
        return [*own, *(f"preconditioned_{name}" for name in own)]

    def measure(self, view: View) -> Values:
        options: Options = self.options
        view.differentiable(options)
        parameters = view.parameters
        scaling = preconditioner(view.optimizer)
        found: dict[str, float] = {}
        gradients = torch.autograd.grad(
            view.loss(view.batch(options.batch)), parameters, create_graph=True, allow_unused=True
        )
        view.gradient_evaluations += 1
        product = hessian_product(parameters, gradients)
        plain = scaling is not None and scaling.diagonal is None
        if options.raw or plain:
            found |= self._eigenvalues(view, product, "")
        if scaling is None:
            kind = type(view.optimizer).__name__
            measured = "only the raw one is measured" if options.raw else "nothing is measured"
            view.notes.append(f"probe sharpness: the preconditioner of {kind} is not known; {measured}")
            return found
        if scaling.diagonal is None:
            return {**found, "threshold": scaling.threshold}
        if options.preconditioned:
            diagonal = [scaling.diagonal.get(p) for p in parameters]
            whole = flat([torch.ones_like(p) if d is None else d for p, d in zip(parameters, diagonal, strict=True)])
            root = whole.clamp(min=torch.finfo(whole.dtype).tiny).rsqrt()
            found |= self._eigenvalues(view, lambda v: root * product(root * v), "preconditioned_")
            found["preconditioned_threshold"] = scaling.threshold
        return found

    def _eigenvalues(self, view: View, product: Callable[[Tensor], Tensor], prefix: str) -> dict[str, float]:
        options: Options = self.options
        size = sum(p.numel() for p in view.parameters)
        # Drawn on the CPU, so that every device begins with the same vector.
        start = torch.randn(size, generator=view.generator("lanczos"), dtype=torch.float64)
        first = view.parameters[0]
        spectrum = lanczos(
            product, start.to(first.dtype).to(first.device), top=options.top, most=options.iterations,
            tolerance=options.tolerance,
        )  # fmt: skip
        view.gradient_evaluations += 2 * spectrum.products
        what = "the preconditioned Hessian" if prefix else "the Hessian"
        if not len(spectrum.values):
            view.notes.append(
                f"probe sharpness: a product of {what} is not finite; its eigenvalues are recorded as NaN"
            )
        elif not spectrum.converged:
            view.notes.append(
                f"probe sharpness: {options.iterations} products do not settle all wanted eigenvalues of {what}; "
                "--probe-sharpness-iterations takes more"
            )
        return {f"{prefix}{name}": value for name, value in _curves(spectrum, options.top, size).items()}


def _curves(spectrum: Spectrum, top: int, size: int) -> dict[str, float]:
    values = spectrum.values.tolist() or [math.nan] * min(top, size)
    found = {str(number): value for number, value in enumerate(values[:top], 1)}
    return {**found, "min": values[-1], "products": float(spectrum.products)}


def hessian_product(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Callable[[Tensor], Tensor]:
    """The product of the Hessian with a flat vector (n,), from gradients that can be differentiated again."""
    used = [g for g in gradients if g is not None and g.requires_grad]

    def product(vector: Tensor) -> Tensor:
        parts = vector.split([p.numel() for p in parameters])
        shaped = [
            part.view_as(p) for part, p, g in zip(parts, parameters, gradients, strict=True)
            if g is not None and g.requires_grad
        ]  # fmt: skip
        if not used:  # a loss that is linear in all parameters
            return torch.zeros_like(vector)
        found = torch.autograd.grad(used, parameters, shaped, retain_graph=True, allow_unused=True)
        return flat([torch.zeros_like(p) if h is None else h for p, h in zip(parameters, found, strict=True)])

    return product


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All entries one after the other (n,)."""
    return torch.cat([one.reshape(-1) for one in tensors])


PROBE = Sharpness
