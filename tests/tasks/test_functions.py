"""Test functions against their analytic gradients and known minima, and the task around them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from vrcli.tasks.base import TaskError
from vrcli.tasks.functions import LANDSCAPES, Functions, FunctionsConfig, minima, value


def rosenbrock_gradient(x: Tensor) -> Tensor:
    found = torch.zeros_like(x)
    found[:-1] += -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    found[1:] += 200 * (x[1:] - x[:-1] ** 2)
    return found


def beale_gradient(p: Tensor) -> Tensor:
    x, y = p
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    return torch.stack(
        [2 * a * (y - 1) + 2 * b * (y**2 - 1) + 2 * c * (y**3 - 1), 2 * a * x + 4 * b * x * y + 6 * c * x * y**2]
    )


def himmelblau_gradient(p: Tensor) -> Tensor:
    x, y = p
    a, b = x**2 + y - 11, x + y**2 - 7
    return torch.stack([4 * x * a + 2 * b, 2 * a + 4 * y * b])


GRADIENTS = {
    "rosenbrock": rosenbrock_gradient,
    "beale": beale_gradient,
    "himmelblau": himmelblau_gradient,
    "rastrigin": lambda x: 2 * x + 20 * math.pi * (2 * math.pi * x).sin(),
    "styblinski-tang": lambda x: 2 * x**3 - 16 * x + 2.5,
}
EACH = [(name, n) for name, one in LANDSCAPES.items() for n in ([2] if one.dimension else [2, 5])]


def built(**settings: Any) -> tuple[Functions, Any]:
    task = Functions(FunctionsConfig(**settings))
    return task, task.data(torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "n"), EACH)
def test_gradients_are_the_analytic_ones(name: str, n: int) -> None:
    task, data = built(function=name, dimension=n)
    model, batch = task.model(data), data.train.tensors
    matrix = batch[1][0]
    for seed in range(5):
        point = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with torch.no_grad():
            model.x.copy_(point)
        model.zero_grad()
        task.loss(model, batch).backward()
        expected = matrix @ point if name == "quadratic" else GRADIENTS[name](point)
        torch.testing.assert_close(model.x.grad, expected, rtol=1e-12, atol=1e-10)
        with torch.no_grad():
            measured = task.evaluate(model, data.val)["gradient"]
        assert measured == pytest.approx(float(expected.square().sum()), rel=1e-10)


@pytest.mark.parametrize(("name", "n"), EACH)
def test_minima_are_where_they_are_said_to_be(name: str, n: int) -> None:
    task, data = built(function=name, dimension=n)
    model = task.model(data)
    matrix = data.train.tensors[1][0]
    for point in minima(LANDSCAPES[name], n):
        with torch.no_grad():
            model.x.copy_(point)
        found = task.evaluate(model, data.test)
        assert found["gap"] < 1e-11
        assert found["distance"] == 0
        model.zero_grad()
        task.loss(model, data.train.tensors).backward()
        assert model.x.grad.abs().max() < 1e-6
        around = point + 0.05 * torch.randn(200, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        least = LANDSCAPES[name].least * n
        assert value(LANDSCAPES[name], around, matrix).min() > least


def test_the_quadratic_has_its_condition() -> None:
    _, data = built(function="quadratic", dimension=6, condition=50.0)
    eigenvalues = torch.linalg.eigvalsh(data.train.tensors[1][0])
    torch.testing.assert_close(eigenvalues[[0, -1]], torch.tensor([1.0, 50.0], dtype=torch.float64))


def test_noise_is_on_the_gradient_and_not_on_what_is_measured() -> None:
    task, data = built(function="quadratic", dimension=2000, condition=1.0, noise=0.5)
    model = task.model(data)
    torch.manual_seed(0)
    task.loss(model, data.train.tensors).backward()
    assert (model.x.grad - model.x.detach()).std() == pytest.approx(0.5, rel=0.05)
    assert task.evaluate(model, data.val) == task.evaluate(model, data.val)
    assert task.evaluate(model, data.val)["gradient"] == pytest.approx(float(model.x.detach().square().sum()))


def test_runs_start_at_the_usual_place_or_around_it() -> None:
    task, data = built(function="rosenbrock", dimension=4)
    assert task.model(data).x.tolist() == [-1.5, 1.5, -1.5, 1.5]
    task, data = built(jitter=0.1)
    starts = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        starts.append(task.model(data).x.detach())
    assert not torch.equal(*starts)


@pytest.mark.parametrize("name", ["beale", "himmelblau"])
def test_functions_of_two_coordinates_have_two(name: str) -> None:
    with pytest.raises(TaskError, match=f"--dimension must be 2 for {name}, got 3"):
        built(function=name, dimension=3)


@pytest.mark.parametrize(("name", "n"), EACH)
def test_the_landscape_is_the_function_around_its_minima(name: str, n: int) -> None:
    task, data = built(function=name, dimension=n)
    model = task.model(data)
    assert task.artifacts(model, epoch=1, last=False) == {}
    found = json.loads(task.artifacts(model, epoch=1, last=True)["landscape.json"])
    rows = torch.tensor(found["gap"])
    assert rows.shape == (len(found["y"]), len(found["x"]))
    assert rows.min() >= 0
    for x, y in found["minima"]:
        assert found["x"][0] < x < found["x"][-1]
        assert found["y"][0] < y < found["y"][-1]
    point = minima(LANDSCAPES[name], n)[0].clone()
    point[0], point[1] = found["x"][7], found["y"][20]
    expected = value(LANDSCAPES[name], point, data.train.tensors[1][0]) - LANDSCAPES[name].least * n
    assert found["gap"][20][7] == pytest.approx(expected.item(), rel=1e-4)
