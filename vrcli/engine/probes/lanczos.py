"""Extreme eigenvalues of a symmetric operator that is known by its products with vectors.

Source:      the Lanczos method with full reorthogonalisation: Golub and Van Loan, Matrix Computations, section 10.1.
Why our own: scipy's `eigsh` copies every vector to the host and back, and gives no smallest and largest in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Spectrum:
    """What Lanczos found.

    Args:
        values: Ritz values, the largest first (m,), float64 on the CPU.
        weights: of each in the spectral density seen from the starting vector (m,); they add up to 1.
        products: with vectors that it took.
        converged: whether the wanted values are as exact as asked for; False as well where a product was not finite.
    """

    values: Tensor
    weights: Tensor
    products: int
    converged: bool


def lanczos(
    product: Callable[[Tensor], Tensor], start: Tensor, *, top: int, most: int, tolerance: float, bottom: int = 1
) -> Spectrum:
    """The `top` largest and `bottom` smallest eigenvalues.

    Every new vector is made orthogonal to all before it, twice: without that, copies of an eigenvalue that has
    converged come back as further ones ("ghosts").

    Args:
        product: the operator applied to a vector (n,).
        start: a random vector (n,), in the dtype and on the device of the work.
        most: products at most.
        tolerance: bound of the residual of each wanted pair, as a share of its own eigenvalue's magnitude. Of an
            eigenvalue near 0 it is a share of the largest magnitude over sqrt(n): a random start holds about 1/sqrt(n)
            of every eigenvector, so that an eigenvalue it has not met yet would show in a residual above that.

    Returns:
        No values at all where a product is not finite.
    """
    size = start.numel()
    most = min(most, size)
    basis = torch.empty(most, size, dtype=start.dtype, device=start.device)
    diagonal, beside = list[float](), list[float]()
    vector = start / start.norm()
    for done in range(1, most + 1):
        basis[done - 1] = vector
        found = product(vector)
        alpha = float(torch.dot(found, vector))
        if not math.isfinite(alpha):
            return Spectrum(torch.empty(0), torch.empty(0), done, False)
        known = basis[:done]
        for _ in range(2):
            found = found - known.T @ (known @ found)
        beta = float(found.norm())
        diagonal.append(alpha)
        scale = max(map(abs, (*diagonal, *beside)))
        spent = beta <= scale * done * torch.finfo(start.dtype).eps  # an invariant subspace: all there is to see
        if spent or done == most or done % 5 == 0:
            values, vectors = _tridiagonal(diagonal, beside)
            residuals = (beta * vectors[-1]).abs()  # of each Ritz pair
            largest = values.abs().max()
            bounds = tolerance * values.abs().clamp(min=largest / math.sqrt(size))
            near = residuals <= bounds.clamp(min=4 * torch.finfo(start.dtype).eps * largest)
            exact = bool(near[:bottom].all() and near[-top:].all()) and done >= min(size, top + bottom)
            if exact or spent or done == most:
                return Spectrum(values.flip(0), vectors[0].square().flip(0), done, exact or spent or done == size)
        beside.append(beta)
        vector = found / beta
    raise AssertionError("most is at least 1")


def _tridiagonal(diagonal: list[float], beside: list[float]) -> tuple[Tensor, Tensor]:
    """Eigenvalues in ascending order (m,) and eigenvectors (m, m) in columns."""
    off = torch.tensor(beside[: len(diagonal) - 1], dtype=torch.float64)
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(matrix)
    return values, vectors
