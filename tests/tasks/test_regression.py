"""Ill-conditioned least squares: its spectrum, its solution, and the gap to it."""

from __future__ import annotations

import pytest
import torch

from vrcli.tasks.base import TaskError
from vrcli.tasks.regression import Regression, RegressionConfig


def test_the_covariance_has_its_condition() -> None:
    task = Regression(RegressionConfig(points=20_000, features=4, condition=100.0))
    x = task.data(torch.Generator().manual_seed(0)).train.tensors[0][0].double()
    eigenvalues = torch.linalg.eigvalsh(x.T @ x / len(x))
    assert eigenvalues[0].item() == pytest.approx(0.01, rel=0.05)
    assert eigenvalues[-1].item() == pytest.approx(1, rel=0.05)


def test_the_gap_is_the_loss_above_its_least() -> None:
    task = Regression(RegressionConfig(points=50, features=5, condition=10.0))
    data = task.data(torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = task.model(data)
    start = task.evaluate(model, data.train)
    assert start["loss"] == pytest.approx(task.loss(model, data.train.tensors).item(), rel=1e-5)
    x, y, best = (t[0].double() for t in data.train.tensors)
    least = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    torch.testing.assert_close(best, least, rtol=1e-4, atol=1e-5)
    assert start["gap"] == pytest.approx(start["loss"] - (x @ least - y).square().mean().item(), rel=1e-4)
    with torch.no_grad():
        model.weight.copy_(best[None])
    assert task.evaluate(model, data.train)["gap"] < 1e-10


def test_fewer_points_than_features_are_refused() -> None:
    with pytest.raises(TaskError, match="--points must be at least --features, 20, for one solution, got 5"):
        Regression(RegressionConfig(points=5)).data(torch.Generator())
