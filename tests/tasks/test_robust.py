"""Factorisation under outliers: what is corrupted, what is scored, and that the loss can resist."""

from __future__ import annotations

import pytest
import torch

from vrcli.tasks.base import TaskError
from vrcli.tasks.robust import Robust, RobustConfig


def built(**settings: object) -> tuple[Robust, object]:
    task = Robust(RobustConfig(rows=30, columns=40, rank=2, **settings))
    return task, task.data(torch.Generator().manual_seed(0))


def test_as_many_entries_as_said_are_off_by_the_magnitude() -> None:
    _, data = built(outliers=0.2, magnitude=4.0)
    clean = data.test.tensors[0]
    corrupted = data.train.tensors[0] + data.val.tensors[0]
    off = (corrupted - clean).abs()
    assert (off > 1e-4).sum() == round(0.2 * 1200)
    torch.testing.assert_close(off[off > 1e-4], torch.full((240,), 4.0))
    assert data.test.tensors[1].all()
    assert not (data.train.tensors[1] & data.val.tensors[1]).any()


@pytest.mark.parametrize(("criterion", "expected"), [("mse", 9.0), ("l1", 3.0), ("huber", 2.5)])
def test_the_criterion_is_a_mean_over_the_entries_of_the_batch(criterion: str, expected: float) -> None:
    task, _ = built(criterion=criterion, l2=0.0)
    mask = torch.zeros(1, 2, 2, dtype=torch.bool)
    mask[0, 0] = True
    batch = (torch.tensor([[[3.0, -3.0], [0.0, 0.0]]]), mask)
    assert task._misfit(torch.tensor([[0.0, 0.0], [7.0, 7.0]]), batch).item() == pytest.approx(expected)


def test_errors_are_those_of_the_clean_matrix() -> None:
    task, data = built()
    model = task.model(data)
    found = task.evaluate(model, data.test)
    off = model().double() - data.test.tensors[0][0]
    assert found["mae"] == pytest.approx(off.abs().mean().item())
    assert found["rmse"] == pytest.approx(off.square().mean().sqrt().item())


def test_what_leaves_nothing_to_validate_is_refused() -> None:
    with pytest.raises(TaskError, match=r"--val-fraction 0.0001 leaves none of 1,200 entries"):
        built(val_fraction=1e-4)
    with pytest.raises(TaskError, match="--rank must be below the smallest side, 4"):
        Robust(RobustConfig(rows=4, columns=9, rank=4)).data(torch.Generator())
