"""Eigenvalues by Lanczos against exact ones."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev

from vrcli.engine.probes.lanczos import lanczos
from vrcli.engine.probes.preconditioner import preconditioner
from vrcli.engine.probes.sharpness import Options, Sharpness, hessian_product
from vrcli.optim import registry


def matrix(values: list[float]) -> Tensor:
    """A symmetric matrix with these eigenvalues."""
    torch.manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64))
    return basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T


def found(values: list[float], **more: Any) -> Any:
    own = matrix(values)
    start = torch.randn(len(values), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return lanczos(lambda v: own @ v, start, **{"top": 3, "most": 200, "tolerance": 1e-6, **more})


def test_the_extreme_eigenvalues_come_out_of_a_few_products() -> None:
    values = [100.0, 50.0, 30.0, -20.0, *torch.linspace(-1, 1, 300).tolist()]
    spectrum = found(values)
    assert spectrum.values[:3].tolist() == pytest.approx([100, 50, 30], rel=1e-8)
    assert float(spectrum.values[-1]) == pytest.approx(-20, rel=1e-8)
    assert spectrum.converged
    assert spectrum.products < 100
    assert float(spectrum.weights.sum()) == pytest.approx(1)


def test_an_eigenvalue_that_has_converged_does_not_come_back_as_a_ghost() -> None:
    """Without orthogonalisation against all vectors, 100 comes several times."""
    spectrum = found([100.0, 10.0, 9.0, *torch.linspace(0, 1, 200).tolist()], most=150, tolerance=1e-15)
    assert spectrum.values[:3].tolist() == pytest.approx([100, 10, 9], rel=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_negative_eigenvalue_is_not_missed_among_many_near_zero(dtype: torch.dtype) -> None:
    """As the Hessians of large networks are; at the default tolerance. Near 0 a vector looks exact long before."""
    own = torch.cat([torch.tensor([247.0, 90.0, 40.0, -1.96]), torch.linspace(-1e-4, 3e-4, 200_000)]).to(dtype)
    start = torch.randn(len(own), dtype=dtype, generator=torch.Generator().manual_seed(0))
    spectrum = lanczos(lambda v: own * v, start, top=1, most=100, tolerance=Options().tolerance)
    assert spectrum.converged
    assert float(spectrum.values[-1]) == pytest.approx(-1.96, rel=1e-3)
    assert float(spectrum.values[0]) == pytest.approx(247, rel=1e-5)


def test_each_of_the_largest_is_as_exact_as_asked_for_by_its_own_magnitude() -> None:
    values = [1e3, 300.0, 200.0, 100.0, *torch.linspace(-50, 50, 300).tolist()]
    spectrum = found(values, top=4, tolerance=1e-3)
    assert spectrum.values[:4].tolist() == pytest.approx(values[:4], rel=1e-3)


@pytest.mark.parametrize("values", [[3.0], [2.0, 2.0, 2.0], [0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
def test_small_and_degenerate_operators_end_where_there_is_no_more_to_see(values: list[float]) -> None:
    spectrum = found(values)
    assert spectrum.converged
    assert float(spectrum.values[0]) == pytest.approx(max(values), abs=1e-12)
    assert spectrum.products <= len(values)


def test_a_product_that_is_not_finite_gives_no_eigenvalue() -> None:
    spectrum = lanczos(lambda v: v * math.nan, torch.ones(4), top=2, most=10, tolerance=1e-3)
    assert (len(spectrum.values), spectrum.products, spectrum.converged) == (0, 1, False)


def test_too_few_products_are_said() -> None:
    assert not found(torch.linspace(0, 1, 300).tolist(), most=5).converged


# -- a network --------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """With the fused operation that has no second derivative on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(len(x), 2, 8)
        mixed: Tensor = self.inner(x, x, x, need_weights=False)[0]
        out: Tensor = self.out(mixed.mean(1))
        return out


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 4)).double()
    if kind == "norm":
        return nn.Sequential(
            nn.Linear(16, 10), nn.BatchNorm1d(10, track_running_stats=False), nn.Tanh(), nn.Linear(10, 4)
        ).double()
    if kind == "attention":
        return Attention().double()
    return nn.Sequential(nn.Linear(16, 90), nn.Tanh(), nn.Linear(90, 15), nn.Tanh(), nn.Linear(15, 4)).double()


def measured(kind: str, optimizer: str, steps: int = 3, **options: Any) -> tuple[dict[str, float], Tensor, Tensor]:
    """What the probe says, the exact Hessian, and P."""
    model = network(kind)
    x, y = torch.randn(40, 16, dtype=torch.float64), torch.arange(40) % 4
    task = SimpleNamespace(loss=lambda net, batch: nn.functional.cross_entropy(net(batch[0]), batch[1]))
    built = registry.build(optimizer, model, {})
    for _ in range(steps):
        built.zero_grad()
        task.loss(model, (x, y)).backward()
        built.step()
    values = Sharpness(Options(tolerance=1e-8, iterations=1000, **options)).measure(view_of(task, model, built, (x, y)))
    names, parameters = zip(*model.named_parameters(), strict=True)
    sizes = [p.numel() for p in parameters]

    def loss(flat: Tensor) -> Tensor:
        parts = [part.view_as(p) for part, p in zip(flat.split(sizes), parameters, strict=True)]
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            out = functional_call(model, dict(zip(names, parts, strict=True)), (x,))
        return nn.functional.cross_entropy(out, y)

    whole = torch.cat([p.detach().flatten() for p in parameters])
    scaling = preconditioner(built)
    assert scaling is not None
    diagonal = scaling.diagonal or {}
    scale = torch.cat([diagonal.get(p, torch.ones_like(p)).flatten() for p in parameters])
    # Not `torch.func.hessian`, which errs by 0.017 behind batch norm, where this agrees with differences of gradients.
    return dict(values), jacrev(grad(loss))(whole).detach(), scale


def view_of(task: Any, model: nn.Module, optimizer: Any, batch: Any) -> Any:
    from vrcli.engine.probes.base import View

    spec = SimpleNamespace(seed=0)
    prepared: Any = SimpleNamespace(task=task, model=model, optimizer=optimizer, spec=spec, device=torch.device("cpu"))

    class Whole(View):
        def batch(self, size: int) -> Any:
            return batch

    return Whole(prepared)


def check_top_five(kind: str, optimizer: str) -> None:
    values, exact, scale = measured(kind, optimizer)
    root = scale.rsqrt()
    for prefix, own in (("", exact), ("preconditioned_", root[:, None] * exact * root)):
        eigenvalues = torch.linalg.eigvalsh(own).flip(0)
        if f"{prefix}1" not in values:
            assert optimizer == "sgd"  # whose P is 1
            continue
        for place in range(5):
            assert values[f"{prefix}{place + 1}"] == pytest.approx(float(eigenvalues[place]), rel=1e-4)
        assert values[f"{prefix}min"] == pytest.approx(float(eigenvalues[-1]), rel=1e-4)


@pytest.mark.parametrize(("kind", "optimizer"), [("mlp", "vradam"), ("norm", "sgd"), ("attention", "adam")])
def test_the_top_five_and_the_smallest_are_those_of_the_exact_hessian(kind: str, optimizer: str) -> None:
    check_top_five(kind, optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop", "adagrad", "sgd"])
def test_so_are_those_of_a_net_of_3000_parameters(optimizer: str) -> None:
    assert sum(p.numel() for p in network("large").parameters()) > 2900
    check_top_five("large", optimizer)


def test_a_loss_that_is_linear_has_no_curvature() -> None:
    p = torch.ones(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(p.sum(), [p], create_graph=True)
    assert hessian_product([p], [gradient])(torch.ones(3)).tolist() == [0, 0, 0]


# -- P and the thresholds ---------------------------------------------------------------------------------------------


def stepped(optimizer: str, steps: int = 2, **settings: Any) -> Any:
    torch.manual_seed(0)
    model = nn.Linear(2, 1, bias=False)
    built = registry.build(optimizer, model, settings)
    for _ in range(steps):
        built.zero_grad()
        model(torch.tensor([[1.0, 2.0]])).square().sum().backward()
        built.step()
    return model.weight, built


@pytest.mark.parametrize(
    ("optimizer", "settings", "threshold"),
    [
        ("sgd", {"lr": 0.1}, 20),
        ("sgd", {"lr": 0.1, "momentum": 0.9}, 38),
        ("sgd", {"lr": 0.1, "momentum": 0.9, "nesterov": True}, 38 / 2.8),
        ("sgd", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}, 76),
        ("adam", {"lr": 0.01}, 3800),
        ("adamw", {"lr": 0.01}, 3800),
        ("rmsprop", {"lr": 0.01}, 200),
        ("rmsprop", {"lr": 0.01, "momentum": 0.9}, 380),
        ("adagrad", {"lr": 0.01}, 200),
        ("nadam", {"lr": 0.01}, math.nan),
        ("vradam", {"lr": 0.01, "beta3": 0.0}, 3800),
        ("vrmomentum", {"lr": 0.01, "beta3": 0.0}, 3800),
    ],
)
def test_thresholds(optimizer: str, settings: dict[str, Any], threshold: float) -> None:
    _, built = stepped(optimizer, **settings)
    found = preconditioner(built)
    assert found is not None
    assert found.threshold == pytest.approx(threshold, nan_ok=True)


def test_a_schedule_that_has_come_to_zero_has_no_threshold() -> None:
    _, built = stepped("adamw", lr=0.01)
    built.param_groups[0]["lr"] = 0.0
    found = preconditioner(built)
    assert found is not None
    assert math.isnan(found.threshold)


@pytest.mark.parametrize(("optimizer", "momentum", "factor"), [("sgd", 0.0, 2), ("sgd", 0.9, 3.8)])
def test_a_quadratic_is_stable_below_the_threshold_and_not_above(
    optimizer: str, momentum: float, factor: float
) -> None:
    for share, stable in ((0.98, True), (1.02, False)):
        x = torch.tensor([1.0], requires_grad=True)
        built = torch.optim.SGD([x], lr=share * factor, momentum=momentum)
        for _ in range(1500):
            built.zero_grad()
            (x**2 / 2).sum().backward()  # of curvature 1
            built.step()
        assert (abs(float(x.detach())) < 1) is stable


def test_the_threshold_of_vradam_is_that_of_its_effective_rate() -> None:
    _, built = stepped("vradam", lr=0.01, beta3=1.0)
    found = preconditioner(built)
    rate = float(built.telemetry()["lr_effective"])
    assert found is not None
    assert rate < 0.01
    assert found.threshold == pytest.approx(38 / rate)


@pytest.mark.parametrize("name", ["adam", "adamw", "vradam"])
def test_p_is_what_the_update_was_divided_by(name: str) -> None:
    settings = {"lr": 0.01, "weight_decay": 0.0, **({"beta3": 0.0} if name == "vradam" else {})}
    before, _ = stepped(name, 1, **settings)
    after, built = stepped(name, 2, **settings)
    found = preconditioner(built)
    assert found is not None
    assert found.diagonal is not None
    velocity = built.state[after]["exp_avg"] / (1 - 0.9**2)
    assert torch.allclose(before - 0.01 * velocity / found.diagonal[after], after, atol=1e-7)


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [("rmsprop", {}), ("rmsprop", {"centered": True}), ("adagrad", {}), ("adagrad", {"lr_decay": 0.5})],
)
def test_p_is_what_the_gradient_was_divided_by(optimizer: str, settings: dict[str, Any]) -> None:
    before, _ = stepped(optimizer, 1, lr=0.01, weight_decay=0.0, **settings)
    after, built = stepped(optimizer, 2, lr=0.01, weight_decay=0.0, **settings)
    found = preconditioner(built)
    assert found is not None
    assert found.diagonal is not None
    x = torch.tensor([[1.0, 2.0]])
    gradient = 2 * (before @ x.T) * x
    assert torch.allclose(before - 0.01 * gradient / found.diagonal[after], after, atol=1e-7)


def test_with_amsgrad_p_has_the_largest_second_moment() -> None:
    p = torch.ones(2, requires_grad=True)
    built = torch.optim.Adam([p], lr=0.01, amsgrad=True)
    for scale in (10.0, 0.1):
        before = p.detach().clone()
        built.zero_grad()
        (scale * p).sum().backward()
        built.step()
        built.param_groups[0]["betas"] = (0.9, 0.5)  # forgets at once: the largest is the first
    found = preconditioner(built)
    assert found is not None
    assert found.diagonal is not None
    velocity = built.state[p]["exp_avg"] / (1 - 0.9**2)
    assert torch.allclose(before - 0.01 * velocity / found.diagonal[p], p, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["lamb", "muon", "lbfgs"])
def test_of_other_optimizers_nothing_is_claimed(optimizer: str) -> None:
    model = nn.Linear(2, 1)
    assert preconditioner(registry.build(optimizer, model, {}, steps=3)) is None


def test_a_class_of_ones_own_may_say_what_it_divides_by() -> None:
    from vrcli.engine.probes.preconditioner import Preconditioner

    class Own(torch.optim.SGD):
        def preconditioner(self) -> Preconditioner:
            return Preconditioner(None, 7.0)

    assert preconditioner(Own([nn.Parameter(torch.ones(1))], lr=0.1)) == Preconditioner(None, 7.0)


def test_tensors_with_effective_rates_of_their_own_have_no_one_threshold() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    built = registry.build("vradam", model, {"lr": 0.01, "beta3": 1.0, "norm_scope": "tensor"})
    model(torch.tensor([[1.0, 2.0]])).square().sum().backward()
    built.step()
    found = preconditioner(built)
    assert found is not None
    assert found.diagonal is not None
    assert math.isnan(found.threshold)


def test_several_learning_rates_have_no_one_threshold() -> None:
    own = [{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in (0.1, 0.2)]
    found = preconditioner(torch.optim.SGD(own))
    assert found is not None
    assert math.isnan(found.threshold)
