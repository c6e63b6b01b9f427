"""VRAdam against the paper's Algorithm 1 written again in numpy, against torch.optim.AdamW, and its promises."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from vrcli.optim import VRAdam

PATHS = {"reference": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}, "default": {}}
SHAPES = [(3, 4), (5,), (), (4, 3, 2, 2), (0,)]


@pytest.fixture(params=PATHS, ids=list(PATHS))
def path(request):
    return PATHS[request.param]


def parameters(shapes=SHAPES, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in shapes]


def gradients(params, generator, scale=0.1):
    for p in params:
        p.grad = (scale * torch.randn(p.shape, generator=generator, dtype=torch.float64)).to(p.dtype)


def train(params, optimizer, steps, *, seed=1, scale=0.1):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        gradients(params, generator, scale)
        optimizer.step()
    return params


def algorithm_1(thetas, gradient_lists, *, lr, b1, b2, b3, eps, decay, power, normgrad, cutoff):
    """The paper's pseudocode over numpy arrays; returns parameters and the effective learning rates."""
    thetas = [t.copy() for t in thetas]
    v, m = ([np.zeros_like(t) for t in thetas] for _ in range(2))
    rates = []
    for t, grads in enumerate(gradient_lists, start=1):
        v = [b1 * x + (1 - b1) * g for x, g in zip(v, grads, strict=True)]
        m = [b2 * x + (1 - b2) * g * g for x, g in zip(m, grads, strict=True)]
        norm = sum((np.abs(x) ** power).sum() for x in (grads if normgrad else v))
        eta = lr / (1 + min(b3 * norm, cutoff))
        rates.append(eta)
        for i, theta in enumerate(thetas):
            vh, mh = v[i] / (1 - b1**t), m[i] / (1 - b2**t)
            thetas[i] = theta * (1 - eta * decay) - eta * vh / (np.sqrt(mh) + eps)
    return thetas, rates


@pytest.mark.parametrize("normgrad", [False, True])
@pytest.mark.parametrize(("power", "cutoff"), [(2, 19), (2, 0.05), (3, 19), (1, 4)])
def test_equals_algorithm_1(path, power, normgrad, cutoff):
    params = parameters()
    start = [p.detach().numpy().copy() for p in params]
    optimizer = VRAdam(
        params, 0.02, (0.8, 0.99), 0.7, 1e-6, 0.1, power=power, normgrad=normgrad, lr_cutoff=cutoff, **path
    )
    generator, seen, rates = torch.Generator().manual_seed(1), [], []
    for _ in range(12):
        gradients(params, generator)
        seen.append([p.grad.numpy() for p in params])
        optimizer.step()
        rates.append(float(optimizer.telemetry()["lr_effective"]))
    settings = {"lr": 0.02, "b1": 0.8, "b2": 0.99, "b3": 0.7, "eps": 1e-6, "decay": 0.1}
    settings |= {"power": power, "normgrad": normgrad, "cutoff": cutoff}
    thetas, expected_rates = algorithm_1(start, seen, **settings)
    np.testing.assert_allclose(rates, expected_rates, rtol=1e-12)
    for p, theta in zip(params, thetas, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), theta, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("off", [{"beta3": 0.0}, {"lr_cutoff": 0.0}])
def test_without_penalty_it_is_adamw(path, off):
    mine, theirs = parameters(), parameters()
    settings = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}
    train(mine, VRAdam(mine, **settings, **off, **path), 200)
    train(theirs, torch.optim.AdamW(theirs, **settings), 200)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_step_length_bound(path, scale):
    params = parameters([(50,), (7, 3)])
    optimizer = VRAdam(params, 0.3, beta3=2.5, lr_cutoff=math.inf, **path)
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        gradients(params, generator, scale)
        optimizer.step()
        told = optimizer.telemetry()
        assert told["lr_effective"] * told["velocity_norm"] <= 0.3 / (2 * math.sqrt(2.5)) * (1 + 1e-12)


def test_gate_never_below_the_cutoff(path):
    params = parameters()
    optimizer = VRAdam(params, 0.1, lr_cutoff=19, **path)
    train(params, optimizer, 3, scale=1e4)
    torch.testing.assert_close(optimizer.telemetry()["lr_effective"].item(), 0.1 / 20)
    torch.testing.assert_close(optimizer.telemetry()["gate"].item(), 1 / 20)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_gradients_are_not_hidden(path, bad):
    params = parameters([(4,), (3,)])
    optimizer = VRAdam(params, **path)
    train(params, optimizer, 2)
    generator = torch.Generator().manual_seed(0)
    gradients(params, generator)
    params[0].grad[1] = bad
    optimizer.step()
    assert not params[0][1].isfinite()
    if math.isnan(bad):
        assert optimizer.telemetry()["lr_effective"].isnan()
        assert params[1].isnan().all(), "the norm is global: no parameter may look healthy"


def test_overflowing_norm_without_penalty_stays_adamw():
    params = [nn.Parameter(torch.zeros(3))]
    optimizer = VRAdam(params, beta3=0.0)
    params[0].grad = torch.full((3,), 1e19)  # its square exceeds float32
    optimizer.step()
    assert optimizer.telemetry()["gate"] == 1


def test_maximize_is_minimising_the_negative(path):
    down, up = parameters(), parameters()
    train(down, VRAdam(down, 0.01, **path), 5, scale=0.1)
    train(up, VRAdam(up, 0.01, maximize=True, **path), 5, scale=-0.1)
    for a, b in zip(down, up, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=0)


def norms(velocities):
    return [float((v.double() ** 2).sum()) for v in velocities]


def test_norm_scopes(path):
    """Everything, a group, or one tensor: the gate follows the velocity of exactly that."""
    for scope in ("global", "group", "tensor"):
        params = parameters([(6,), (2, 3), (4,)])
        groups = [{"params": params[:2]}, {"params": params[2:]}]
        optimizer = VRAdam(groups, 0.01, norm_scope=scope, **path)
        train(params, optimizer, 4)
        squares = norms(optimizer.state[p]["exp_avg"] for p in params)
        expected = {
            "global": [[sum(squares)], [sum(squares)]],
            "group": [[squares[0] + squares[1]], [squares[2]]],
            "tensor": [squares[:2], squares[2:]],
        }[scope]
        for last, sums in zip(optimizer.last_step, expected, strict=True):
            np.testing.assert_allclose(last.power_sum.reshape(-1), sums, rtol=1e-12)
            np.testing.assert_allclose(last.lr.reshape(-1), 0.01 / (1 + np.array(sums)), rtol=1e-12)


def test_scope_tensor_equals_one_optimizer_per_tensor(path):
    together, apart = parameters([(6,), (2, 3)]), parameters([(6,), (2, 3)])
    one = VRAdam(together, 0.01, norm_scope="tensor", **path)
    two = [VRAdam([p], 0.01, **path) for p in apart]
    for optimizers, params in (([one], together), (two, apart)):
        generator = torch.Generator().manual_seed(1)
        for _ in range(5):
            gradients(params, generator)
            for optimizer in optimizers:
                optimizer.step()
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


def test_groups_keep_their_own_settings(path):
    """Two groups of scope "group" with different settings equal two optimizers."""
    settings = [{"lr": 0.01, "betas": (0.5, 0.9), "power": 3.0}, {"lr": 0.1, "beta3": 4.0, "normgrad": True}]
    together, apart = parameters([(6,), (2, 3)]), parameters([(6,), (2, 3)])
    groups = [{"params": [p], **s} for p, s in zip(together, settings, strict=True)]
    train(together, VRAdam(groups, norm_scope="group", **path), 5)
    optimizers = [VRAdam([p], **s, **path) for p, s in zip(apart, settings, strict=True)]
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        gradients(apart, generator)
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


def test_global_norm_over_groups_with_different_powers(path):
    params = parameters([(6,), (2, 3)])
    groups = [{"params": params[:1], "power": 3.0}, {"params": params[1:], "normgrad": True}]
    optimizer = VRAdam(groups, 0.01, **path)
    train(params, optimizer, 3)
    cubes = sum(float(optimizer.state[p]["exp_avg"].abs().pow(3).sum()) for p in params)
    squares = sum(float(p.grad.pow(2).sum()) for p in params)
    np.testing.assert_allclose([float(last.power_sum) for last in optimizer.last_step], [cubes, squares], rtol=1e-12)


def test_parameters_may_rest_and_come_back(path):
    """A parameter without gradients keeps its own step count, as in torch.optim.AdamW."""
    mine, theirs = parameters(), parameters()
    optimizers = [VRAdam(mine, beta3=0.0, weight_decay=0.01, **path), torch.optim.AdamW(theirs)]
    for params, optimizer in zip((mine, theirs), optimizers, strict=True):
        generator = torch.Generator().manual_seed(1)
        for step in range(12):
            gradients(params, generator)
            for i, p in enumerate(params):
                if (step + i) % 3 == 0:
                    p.grad = None
            params[1].requires_grad_(step < 6)
            if step >= 6:
                params[1].grad = None
            optimizer.step()
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_one_step_count_while_all_agree():
    params = parameters()
    optimizer = VRAdam(params)
    train(params, optimizer, 2)
    assert len({id(optimizer.state[p]["step"]) for p in params}) == 1
    params[0].grad = None
    optimizer.step()
    assert [float(optimizer.state[p]["step"]) for p in params] == [2.0, 3.0, 3.0, 3.0, 3.0]


@pytest.mark.parametrize("how", ["load_state_dict", "torch.save", "deepcopy"])
def test_round_trip_continues_identically(path, how, tmp_path):
    params = parameters(dtype=torch.float32)
    optimizer = VRAdam(params, 0.01, power=3.0, **path)
    train(params, optimizer, 5)
    if how == "deepcopy":
        others, twin = copy.deepcopy((params, optimizer))
    else:
        others = [nn.Parameter(p.detach().clone()) for p in params]
        twin = VRAdam(others, 0.5, **path)
        state = optimizer.state_dict()
        if how == "torch.save":
            torch.save(state, tmp_path / "state.pt")
            state = torch.load(tmp_path / "state.pt", weights_only=True)
        twin.load_state_dict(state)
    train(params, optimizer, 5, seed=2)
    train(others, twin, 5, seed=2)
    for a, b in zip(params, others, strict=True):
        assert torch.equal(a, b)
    assert len({id(twin.state[p]["step"]) for p in others}) == 1


def test_loads_a_state_without_newer_settings():
    params = parameters()
    optimizer = VRAdam(params, 0.01)
    train(params, optimizer, 2)
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        del group["norm_scope"]
    twin = VRAdam(parameters(), 0.01)
    twin.load_state_dict(state)
    assert twin.param_groups[0]["norm_scope"] == "global"


def test_scheduler_drives_the_maximal_rate(path):
    params = parameters()
    optimizer = VRAdam(params, 0.1, beta3=0.0, **path)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    rates = []
    for _ in range(3):
        train(params, optimizer, 1)
        scheduler.step()
        rates.append(float(optimizer.telemetry()["lr_effective"]))
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.025])


@pytest.mark.parametrize("shape", [(), (1,)])
def test_tensor_lr(path, shape):
    number, tensor = parameters(), parameters()
    rate = torch.full(shape, 0.01, dtype=torch.float64)
    train(number, VRAdam(number, 0.01, **path), 5)
    optimizer = VRAdam(tensor, rate, **path)
    train(tensor, optimizer, 5)
    for a, b in zip(number, tensor, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=0)
    rate.fill_(0.0)
    before = [p.detach().clone() for p in tensor]
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, tensor, strict=True))


def test_closure(path):
    p = nn.Parameter(torch.tensor([2.0, -3.0]))
    optimizer = VRAdam([p], 0.3, beta3=0.01, **path)

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    with torch.no_grad():
        losses = [float(optimizer.step(closure)) for _ in range(50)]
    assert losses[0] == 13.0
    assert losses[-1] < 1


def test_gradients_of_other_strides(path):
    """Channels-last parameters, contiguous gradients and the reverse: as if everything were contiguous."""
    shape = (8, 64, 8, 8)  # larger than what is joined before measuring
    plain = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    last = nn.Parameter(plain.detach().to(memory_format=torch.channels_last, copy=True))
    mixed = nn.Parameter(plain.detach().clone())
    optimizers = [VRAdam([p], 0.01, **path) for p in (plain, last, mixed)]
    generator = torch.Generator().manual_seed(1)
    for step in range(4):
        grad = torch.randn(shape, generator=generator, dtype=torch.float64) * 1e-3
        plain.grad, last.grad = grad, grad.to(memory_format=torch.channels_last)
        mixed.grad = last.grad if step % 2 else grad
        for optimizer in optimizers:
            optimizer.step()
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, plain, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(mixed, plain, rtol=1e-12, atol=1e-14)


def test_state_loaded_from_another_layout(path):
    """Moments of a contiguous model under channels-last parameters."""
    shape = (4, 8, 3, 3)
    plain = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    optimizer = VRAdam([plain], 0.01, **path)
    train([plain], optimizer, 2)
    last = nn.Parameter(plain.detach().to(memory_format=torch.channels_last, copy=True))
    twin = VRAdam([last], 0.01, **path)
    twin.load_state_dict(optimizer.state_dict())
    train([plain], optimizer, 2, seed=5)
    train([last], twin, 2, seed=5)
    torch.testing.assert_close(last, plain, rtol=1e-12, atol=1e-14)


def test_views_into_one_buffer(path):
    """Parameters that are strided views: neighbours in memory stay untouched."""
    buffer = torch.zeros(6, 10, dtype=torch.float64)
    view = nn.Parameter(buffer[:, ::2])
    free = nn.Parameter(torch.zeros(6, 5, dtype=torch.float64))
    for p in (view, free):
        train([p], VRAdam([p], 0.01, **path), 3)
    torch.testing.assert_close(view, free, rtol=1e-12, atol=0)
    assert not buffer[:, 1::2].any()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_lower_precision_follows_float64(path, dtype, tolerance):
    exact, low = parameters(), parameters(dtype=dtype)
    optimizer, twin = VRAdam(exact, 1e-2, **path), VRAdam(low, 1e-2, **path)
    train(exact, optimizer, 5)
    train(low, twin, 5)
    for a, b in zip(exact, low, strict=True):
        torch.testing.assert_close(b.double(), a.detach(), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(
        twin.telemetry()["lr_effective"], optimizer.telemetry()["lr_effective"], rtol=tolerance, atol=0
    )


def test_mixed_precisions_share_the_norm(path):
    params = [*parameters([(6,)]), *parameters([(4,)], dtype=torch.float32)]
    optimizer = VRAdam(params, 0.01, **path)
    train(params, optimizer, 3)
    total = sum(norms(optimizer.state[p]["exp_avg"] for p in params))
    np.testing.assert_allclose([float(last.power_sum) for last in optimizer.last_step], [total] * 2, rtol=1e-6)


def test_grad_scaler(path):
    """Scaled gradients give the steps of unscaled ones; a non-finite one skips its step."""
    plain, scaled = parameters(dtype=torch.float32), parameters(dtype=torch.float32)
    optimizers = [VRAdam(p, 0.01, **path) for p in (plain, scaled)]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for params, optimizer in zip((plain, scaled), optimizers, strict=True):
        generator = torch.Generator().manual_seed(1)
        for _ in range(3):
            gradients(params, generator)
            if params is plain:
                optimizer.step()
            else:
                for p in params:
                    p.grad = scaler.scale(p.grad)
                scaler.step(optimizer)
                scaler.update()
    for a, b in zip(plain, scaled, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    before = [p.detach().clone() for p in scaled]
    scaled[0].grad = torch.full_like(scaled[0], math.inf)
    scaler.step(optimizers[1])
    assert all(torch.equal(a, b) for a, b in zip(before, scaled, strict=True))


@pytest.mark.parametrize("backend", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_torch_compile(backend):
    plain, compiled = parameters([(3, 4), (5,)]), parameters([(3, 4), (5,)])
    optimizer, twin = VRAdam(plain, 0.01), VRAdam(compiled, torch.tensor(0.01, dtype=torch.float64))
    step = torch.compile(twin.step, backend=backend)
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    for _ in range(3):
        gradients(plain, generators[0])
        gradients(compiled, generators[1])
        optimizer.step()
        step()
    for a, b in zip(plain, compiled, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


def test_telemetry_is_tensors_and_empty_before_the_first_step():
    params = parameters()
    optimizer = VRAdam(params)
    assert optimizer.telemetry() == {}
    train(params, optimizer, 1)
    told = optimizer.telemetry()
    assert set(told) == {"lr_effective", "velocity_norm", "gate"}
    assert all(isinstance(value, torch.Tensor) and value.ndim == 0 for value in told.values())
    velocity = math.sqrt(sum(norms(optimizer.state[p]["exp_avg"] for p in params)))
    np.testing.assert_allclose(float(told["velocity_norm"]), velocity, rtol=1e-12)


def test_no_gradient_no_step():
    params = parameters()
    optimizer = VRAdam(params)
    optimizer.step()
    assert not optimizer.state


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"lr": -1.0}, "lr"),
        ({"lr": math.nan}, "lr"),
        ({"lr": math.inf}, "lr"),
        ({"lr": torch.tensor(math.nan)}, "lr"),
        ({"lr": torch.tensor([0.1, 0.2])}, "lr"),
        ({"betas": (1.0, 0.9)}, "betas"),
        ({"betas": (0.9, -0.1)}, "betas"),
        ({"beta3": -1.0}, "beta3"),
        ({"beta3": math.nan}, "beta3"),
        ({"eps": -1e-8}, "eps"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"power": 0.0}, "power"),
        ({"lr_cutoff": -1.0}, "lr_cutoff"),
        ({"lr_cutoff": math.nan}, "lr_cutoff"),
        ({"norm_scope": "layer"}, "norm_scope"),
    ],
)
def test_refuses_bad_values_by_name(settings, named):
    with pytest.raises(ValueError, match=named):
        VRAdam(parameters(), **settings)
    with pytest.raises(ValueError, match=named):
        VRAdam([{"params": parameters(), **settings}])


def test_refuses_tensors_it_cannot_train():
    with pytest.raises(TypeError, match="complex64"):
        VRAdam([torch.zeros(2, dtype=torch.complex64, requires_grad=True)])
    embedding = nn.Embedding(4, 2, sparse=True)
    optimizer = VRAdam(embedding.parameters())
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    with pytest.raises(RuntimeError, match="fused and foreach"):
        VRAdam(parameters(), fused=True, foreach=True)


def test_without_the_fused_kernel(monkeypatch):
    """Where torch has no such kernel, fused=True is refused and the default still works."""
    from vrcli.optim import velocity_optimizer

    monkeypatch.setattr(velocity_optimizer, "works", lambda *_: False)
    with pytest.raises(RuntimeError, match="no fused kernel"):
        VRAdam(parameters(), fused=True)
    mine, theirs = parameters(), parameters()
    train(mine, VRAdam(mine, 0.01), 3)
    monkeypatch.undo()
    train(theirs, VRAdam(theirs, 0.01), 3)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_cuda_does_not_synchronise(path, scope):
    device_params = [nn.Parameter(p.detach().float().cuda()) for p in parameters()]
    optimizer = VRAdam(device_params, 0.01, norm_scope=scope, **path)
    for p in device_params:
        p.grad = torch.full_like(p, 0.1)
    optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            optimizer.step()
            told = optimizer.telemetry()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    host = [nn.Parameter(p.detach().float()) for p in parameters()]
    twin = VRAdam(host, 0.01, norm_scope=scope, foreach=False)
    for p in host:
        p.grad = torch.full_like(p, 0.1)
    for _ in range(4):
        twin.step()
    for a, b in zip(device_params, host, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(told["lr_effective"].cpu().double(), twin.telemetry()["lr_effective"], rtol=1e-5, atol=0)


@pytest.mark.gpu
def test_cuda_graph_capture():
    params = [nn.Parameter(p.detach().float().cuda()) for p in parameters([(30, 4), (5,)])]
    optimizer = VRAdam(params, torch.tensor(0.01, device="cuda"), capturable=True)
    for p in params:
        p.grad = torch.full_like(p, 0.1)
    for _ in range(3):
        optimizer.step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    before = params[0].detach().clone()
    graph.replay()
    torch.cuda.synchronize()
    assert not torch.equal(before, params[0])
