"""Matrix and tensor completion: planted targets, disjoint splits, alternating least squares, and every optimizer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from vrcli.engine.events import Ended, Steps
from vrcli.engine.loop import train
from vrcli.engine.prepare import Prepared, prepare
from vrcli.optim.registry import catalogue, find
from vrcli.settings import resolve
from vrcli.tasks.base import Split, TaskError
from vrcli.tasks.completion import outer, planted
from vrcli.tasks.matrix import Matrix, MatrixConfig
from vrcli.tasks.tensor import Tensor3, TensorConfig

ROWS = [row for row in catalogue() if not row.refusal]
#: Their own rows say why they do not train here, though they run.
MAY_FAIL = {"kate", "dadaptadan", "dadaptsgd"}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def prepared(optimizer: str, **flags: Any) -> Prepared:
    return prepare(resolve(Matrix, optimizer, preset="smoke", flags=flags).request, Matrix)


def trained(ready: Prepared) -> tuple[list[float], Ended]:
    losses: list[float] = []
    for event in train(ready):
        if isinstance(event, Steps):
            losses += event.values["train_loss"]
        if isinstance(event, Ended):
            return losses, event
    raise AssertionError("the run never ended")


def alternating_least_squares(split: Split, rank: int, l2: float, sweeps: int = 300) -> list[torch.Tensor]:
    """Factors that minimise the task's own objective, each row of them in closed form while the others rest."""
    target, mask = (t[0].double() for t in split.tensors)
    torch.manual_seed(0)
    factors = [0.1 * torch.randn(n, rank, dtype=torch.float64) for n in target.shape]
    ridge = l2 * mask.sum() * torch.eye(rank, dtype=torch.float64)
    for _ in range(sweeps):
        for which, (t, m) in enumerate(((target, mask), (target.T, mask.T))):
            other = factors[1 - which]
            grams = torch.einsum("ij,jk,jl->ikl", m, other, other) + ridge
            factors[which] = torch.linalg.solve(grams, torch.einsum("ij,jk->ik", t * m, other).unsqueeze(2)).squeeze(2)
    return factors


@pytest.mark.parametrize(
    "optimizer", ["adamw", *(pytest.param(o, marks=pytest.mark.slow) for o in ("flowadam", "rad"))]
)
def test_alternating_least_squares_bounds_what_an_optimizer_reaches(optimizer: str) -> None:
    ready = prepared(optimizer, epochs=1500, eval_every=1500, lr=0.02, l2=0.001)
    config = ready.task.config
    trained(ready)
    batch = ready.data.train.tensors
    reached = ready.task.loss(ready.model, batch).item()  # of the last step: it is evaluated once
    factors = alternating_least_squares(ready.data.train, config.rank + config.extra_rank, config.l2)
    with torch.no_grad():
        for p, factor in zip(ready.model.parameters(), factors, strict=True):
            p.copy_(factor)
    bound = ready.task.loss(ready.model, batch).item()
    assert bound <= reached * (1 + 1e-4)
    assert reached <= 1.05 * bound


@pytest.mark.parametrize(
    "name",
    [pytest.param(r.name, marks=() if r.origin in ("vr", "torch") else pytest.mark.slow) for r in ROWS],
)
@pytest.mark.filterwarnings("ignore")
def test_every_optimizer_lowers_the_loss(name: str) -> None:
    losses, ended = trained(prepared(name, epochs=100, eval_every=100))
    if name in MAY_FAIL:
        assert find(name).note
    else:
        assert ended.status == "completed"
        assert losses[-1] < losses[0]


@pytest.mark.parametrize("shape", [(6, 9), (5, 6, 7), (3, 4, 5, 6)])
def test_a_planted_target_has_its_rank_and_size(shape: tuple[int, ...]) -> None:
    target = planted(shape, 2, generator())
    assert target.shape == shape
    for mode in range(len(shape)):
        assert torch.linalg.matrix_rank(target.movedim(mode, 0).flatten(1), rtol=1e-4) == 2


def test_outer_products_are_summed() -> None:
    a, b, c = (torch.randn(n, 3, generator=generator()) for n in (2, 4, 5))
    torch.testing.assert_close(outer([a, b, c]).view(2, 4, 5), torch.einsum("ir,jr,kr->ijk", a, b, c))


@pytest.mark.parametrize(
    ("task", "config"), [(Matrix, MatrixConfig(rank=3, rows=20, columns=30)), (Tensor3, TensorConfig())]
)
def test_each_entry_is_in_one_split_and_the_seen_ones_are_as_many_as_said(task: Any, config: Any) -> None:
    data = task(config).data(generator())
    masks = [split.tensors[1] for split in (data.train, data.val, data.test)]
    assert torch.equal(sum(mask.int() for mask in masks), torch.ones_like(masks[0], dtype=torch.int32))
    assert masks[0].sum() == round(config.density * masks[0].numel())
    for split, mask in zip((data.train, data.val, data.test), masks, strict=True):
        assert not split.tensors[0][~mask].any()


def test_the_planted_factors_leave_the_noise() -> None:
    task = Matrix(MatrixConfig(rows=60, columns=80, rank=2, noise=0.5, density=0.2))
    noisy = task.data(generator())
    clean = Matrix(task.config.model_copy(update={"noise": 0.0})).data(generator())
    assert noisy.test.tensors[1].sum() == clean.test.tensors[1].sum()
    model = task.model(noisy)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    scale = task.evaluate(model, clean.test)["rmse"]
    assert scale == pytest.approx(1 / math.sqrt(2), rel=0.3)  # entries of a rank 2 product of N(0, 1/2)
    assert task.evaluate(model, noisy.test)["rmse"] == pytest.approx(math.hypot(scale, 0.5), rel=0.1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rank": 20}, "--rank must be below the smallest side, 20, got 20"),
        ({"density": 1e-4}, "--density 0.0001 leaves none of 600 entries to fit"),
        ({"density": 0.999}, "--density 0.999 leaves 1 of 600 entries to validate and test"),
    ],
)
def test_what_leaves_nothing_to_fit_or_to_test_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(TaskError, match=said):
        Matrix(MatrixConfig(**{"rows": 20, "columns": 30, "rank": 2, **settings})).data(generator())
    with pytest.raises(TaskError, match="--rank must be below the smallest side, 30"):
        Tensor3(TensorConfig(rank=30)).data(generator())


def test_refusals_store_nothing(vr: Any, tmp_path: Any) -> None:
    done = vr("run", "matrix", "--preset", "smoke", "--opt", "adamw", "--density", "0.0001")
    assert (done.code, done.out) == (2, "")
    assert "--density 0.0001 leaves none of 600 entries to fit; take more" in done.err
    twice = vr("run", "matrix", "--preset", "smoke", "--opt", "adamw", "--until", "gradients:50", "--epochs", "3")
    assert (twice.code, twice.out) == (2, "")
    assert "--until gradients:50 and --epochs are two ends of one run" in twice.err
    both = vr("run", "matrix", "--preset", "smoke", "--opt", "adamw", "--until", "gradients:50,steps:3")
    assert both.code == 2
    listed = vr("runs", "list", "--format", "json")
    assert listed.out.strip() in ("", "[]")
