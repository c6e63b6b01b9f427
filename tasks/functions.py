"""functions: classic test functions, whose minima are known.

Source:      arXiv:2604.06652: Rosenbrock from (-1.5, 1.5), a rotated ill-conditioned quadratic, 500 steps. Beale 1958;
             Himmelblau 1972; Rastrigin 1974; Styblinski and Tang 1990.
Deviations:  The source states neither the quadratic's condition number nor how many steps Rosenbrock gets. The gradient
             may carry noise; values are always those without it. All in float64, so that small gaps can be told.
Shapes:      a split has one row: its number (1, 1), and the quadratic's matrix (1, n, n); the point (n,)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from vrcli.tasks.base import Batch, Metric, Preset, Split, Splits, Task, TaskConfig, TaskError, assumed, stated
from vrcli.tasks.completion import FULL_BATCH
from vrcli.tasks.space import Real

#: Points per side of the grid that figures draw contours of.
_GRID = 81


def rosenbrock(x: Tensor) -> Tensor:
    """Sum of 100 (x_(i+1) - x_i^2)^2 + (1 - x_i)^2; x is (..., n)."""
    return (100 * (x[..., 1:] - x[..., :-1].square()).square() + (1 - x[..., :-1]).square()).sum(-1)


def beale(x: Tensor) -> Tensor:
    a, b = x.unbind(-1)
    first, second, third = ((c - a + a * b**k).square() for k, c in ((1, 1.5), (2, 2.25), (3, 2.625)))
    return first + second + third


def himmelblau(x: Tensor) -> Tensor:
    a, b = x.unbind(-1)
    return (a.square() + b - 11).square() + (a + b.square() - 7).square()


def styblinski_tang(x: Tensor) -> Tensor:
    """Half the sum of x_i^4 - 16 x_i^2 + 5 x_i."""
    return (x**4 - 16 * x.square() + 5 * x).sum(-1) / 2


def rastrigin(x: Tensor) -> Tensor:
    """Sum of x_i^2 + 10 (1 - cos(2 pi x_i)): a local minimum near every point of whole numbers, one of them global."""
    return (x.square() + 10 * (1 - (2 * math.pi * x).cos())).sum(-1)


class Landscape(NamedTuple):
    """One test function.

    Args:
        value: of points (..., n); None for the quadratic, whose matrix is data.
        minima: the global ones; one with a single coordinate has it in every dimension.
        least: the value there, divided by the number of dimensions.
        start: where the source, or usage, starts; repeated in higher dimensions.
        window: (low, high) of both axes of figures.
        dimension: the only one it is defined in; 0 for any.
    """

    value: Callable[[Tensor], Tensor] | None
    minima: tuple[tuple[float, ...], ...]
    start: tuple[float, float]
    window: tuple[tuple[float, float], tuple[float, float]]
    least: float = 0.0
    dimension: int = 0


LANDSCAPES = {
    "rosenbrock": Landscape(rosenbrock, ((1.0,),), (-1.5, 1.5), ((-2.0, 2.0), (-1.0, 3.0))),
    "quadratic": Landscape(None, ((0.0,),), (-1.5, 1.5), ((-2.0, 2.0), (-2.0, 2.0))),
    "beale": Landscape(beale, ((3.0, 0.5),), (1.0, 1.5), ((-1.0, 4.5), (-2.0, 2.0)), dimension=2),
    "himmelblau": Landscape(
        himmelblau,
        (
            (3.0, 2.0),
            (-2.805118086952745, 3.131312518250573),
            (-3.779310253377747, -3.283185991286170),
            (3.584428340330492, -1.848126526964404),
        ),
        (-0.5, -0.5),
        ((-5.0, 5.0), (-5.0, 5.0)),
        dimension=2,
    ),
    "rastrigin": Landscape(rastrigin, ((0.0,),), (1.3, -1.3), ((-2.0, 2.0), (-2.0, 2.0))),
    "styblinski-tang": Landscape(
        styblinski_tang, ((-2.903534027771177,),), (0.0, 0.0), ((-4.0, 4.0), (-4.0, 4.0)), least=-39.16616570377142
    ),
}


class FunctionsConfig(TaskConfig):
    dataset: Literal["synthetic"] = Field("synthetic", description="a formula; there are no data")
    function: Literal["rosenbrock", "quadratic", "beale", "himmelblau", "rastrigin", "styblinski-tang"] = Field(
        "rosenbrock", description="what is minimised"
    )
    dimension: int = Field(2, ge=2, description="coordinates of a point; beale and himmelblau have 2")
    condition: float = Field(100.0, ge=1, description="largest over smallest eigenvalue of the quadratic, which is 1")
    noise: float = Field(0.0, ge=0, description="standard deviation of the noise on each entry of the gradient")
    jitter: float = Field(0.0, ge=0, description="standard deviation of the start around its usual place, run by run")


class Point(nn.Module):
    """A point (n,); calling the model with the quadratic's matrix (n, n) gives the function's value there."""

    def __init__(self, config: FunctionsConfig) -> None:
        super().__init__()
        self.landscape = LANDSCAPES[config.function]
        usual = torch.tensor(self.landscape.start, dtype=torch.float64).repeat(config.dimension)[: config.dimension]
        self.x = nn.Parameter(usual + config.jitter * torch.randn(config.dimension, dtype=torch.float64))

    def forward(self, matrix: Tensor) -> Tensor:
        return value(self.landscape, self.x, matrix)


def value(landscape: Landscape, x: Tensor, matrix: Tensor) -> Tensor:
    """The function at points (..., n)."""
    if landscape.value is None:
        return (x @ matrix * x).sum(-1) / 2
    return landscape.value(x)


def minima(landscape: Landscape, dimension: int) -> Tensor:
    """The global minima, (m, n)."""
    rows = [torch.tensor(point, dtype=torch.float64).expand(dimension) for point in landscape.minima]
    return torch.stack(rows)


_MODE_B = {"mode": assumed("b", "full batch")}
_SGD = {"sgd": {"lr": assumed(1e-4, "larger ones diverge at the start")}}
_OPTIMIZERS = {
    "*": {"lr": assumed(0.01, "as in the paper's other tasks")},
    "flowadam": {"lr": assumed(0.01, "as in the paper's other tasks"), **_MODE_B},
}


class Functions(Task[FunctionsConfig]):
    name = "functions"
    summary = "test functions with known minima: rosenbrock, quadratic, beale, himmelblau, rastrigin, styblinski-tang"
    #: x and y are the first two coordinates, for pictures: less of them is neither better nor worse.
    metrics = (
        Metric("gap", "min"),
        Metric("distance", "min"),
        Metric("gradient", "min"),
        Metric("x", "min"),
        Metric("y", "min"),
    )
    revision = 2
    Config = FunctionsConfig
    # A point that is thrown far out may come back; one this far does not.
    diverged_above = 1e15
    presets = {
        "smoke": Preset(
            {
                "function": assumed("quadratic", "the cheapest"),
                "epochs": assumed(30, "a check, not a result"),
                **FULL_BATCH,
            },
            _OPTIMIZERS,
            "a quadratic, 30 steps",
        ),
        "quick": Preset(
            {
                "jitter": assumed(0.1, "seeds start at places of their own"),
                "epochs": assumed(500, "as in the paper"),
                **FULL_BATCH,
            },
            {
                "*": {"lr": assumed(0.1, "AdamW's best of 0.02, 0.05, 0.1 (1 seed)")},
                "flowadam": {"lr": assumed(0.02, "a longer flow takes many evaluations"), **_MODE_B},
                **_SGD,
            },
            "rosenbrock from around (-1.5, 1.5)",
        ),
        "paper": Preset(
            {
                "function": stated("rosenbrock", "Rosenbrock"),
                "dimension": assumed(2, "the start has two coordinates"),
                "jitter": stated(0.0, "from (-1.5, 1.5)"),
                "epochs": assumed(500, "as the quadratic"),
                **FULL_BATCH,
            },
            {**_OPTIMIZERS, **_SGD},
            "rosenbrock from (-1.5, 1.5), 500 steps",
        ),
        "paper-quadratic": Preset(
            {
                "function": stated("quadratic", "rotated ill-conditioned quadratic"),
                "dimension": assumed(10, "the source states none"),
                "condition": assumed(1000.0, "the source says only: ill-conditioned"),
                "epochs": stated(500, "500 steps"),
                **FULL_BATCH,
            },
            {**_OPTIMIZERS, "sgd": {"lr": assumed(1e-3, "below 2 over the largest eigenvalue")}},
            "rotated quadratic of condition 1000, 500 steps",
        ),
    }
    space = {"*": {"lr": Real(1e-4, 1.0, log=True, origin="two decades on both sides of 0.01")}}

    def files(self) -> list[Path]:
        return []

    def data(self, generator: torch.Generator) -> Splits:
        """One row for each split, as there are no data: only the number differs."""
        c = self.config
        only = LANDSCAPES[c.function].dimension
        if only and c.dimension != only:
            raise TaskError(f"--dimension must be {only} for {c.function}, got {c.dimension}")
        turned, _ = torch.linalg.qr(torch.randn(c.dimension, c.dimension, generator=generator, dtype=torch.float64))
        eigenvalues = torch.logspace(0, 1, c.dimension, c.condition, dtype=torch.float64)
        matrix = (turned * eigenvalues) @ turned.T
        train, val, test = (Split((torch.tensor([[float(i)]]), matrix.unsqueeze(0))) for i in range(3))
        return Splits(train, val, test, c.function, f"{c.function} in {c.dimension} dimensions", sampled=True)

    def model(self, data: Splits) -> nn.Module:
        point = Point(self.config)
        point.register_buffer("matrix", data.train.tensors[1][0], persistent=False)
        return point

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        found: Tensor = model(batch[1][0])
        if self.config.noise:  # a random slope is noise on the gradient
            x = next(model.parameters())
            found = found + self.config.noise * (torch.randn_like(x) * x).sum()
        return found

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        """Value above the least one, distance to the nearest global minimum, squared norm of the gradient (without
        noise), and the first two coordinates."""
        landscape, x = LANDSCAPES[self.config.function], next(model.parameters())
        with torch.enable_grad():
            found = model(split.tensors[1][0])
        (slope,) = torch.autograd.grad(found, x)
        gap = found.detach() - landscape.least * self.config.dimension
        distance = (minima(landscape, len(x)).to(x.device) - x).norm(dim=1).min()
        values = torch.stack([gap.clamp(min=0), distance, slope.square().sum(), x[0], x[1]]).tolist()
        return dict(zip((metric.name for metric in self.metrics), values, strict=True))

    def artifacts(self, model: nn.Module, *, epoch: int, last: bool) -> dict[str, bytes]:
        """What figures draw paths over: the gap on a grid of the first two coordinates, the others at a minimum's."""
        if not last:
            return {}
        landscape, n = LANDSCAPES[self.config.function], self.config.dimension
        axes = [torch.linspace(*ends, _GRID, dtype=torch.float64) for ends in landscape.window]
        points = minima(landscape, n)[0].repeat(_GRID, _GRID, 1)
        points[..., 0], points[..., 1] = torch.meshgrid(*axes, indexing="xy")
        gap = value(landscape, points, model.get_buffer("matrix").cpu()) - landscape.least * n
        body = {
            "function": self.config.function,
            "x": axes[0].tolist(),
            "y": axes[1].tolist(),
            "gap": [[float(f"{v:.6g}") for v in row] for row in gap.tolist()],
            "minima": minima(landscape, n)[:, :2].tolist(),
        }
        return {"landscape.json": json.dumps(body).encode()}
