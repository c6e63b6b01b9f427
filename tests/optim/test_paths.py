"""The fast implementations against the readable ones, on random shapes, layouts and settings."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vrcli.optim import VRAdam, VRMomentum
from vrcli.optim import velocity as velocity_module
from vrcli.optim.fused import fused_adamw, fused_sgd, works

SHAPES = st.lists(st.lists(st.integers(0, 5), max_size=4).map(tuple), min_size=1, max_size=6)
SETTINGS = st.fixed_dictionaries(
    {
        "lr": st.sampled_from([0.0, 1e-3, 0.5]),
        "beta3": st.sampled_from([0.0, 0.3, 50.0]),
        "weight_decay": st.sampled_from([0.0, 0.1]),
        "power": st.sampled_from([1.0, 2.0, 2.5]),
        "normgrad": st.booleans(),
        "lr_cutoff": st.sampled_from([0.0, 2.0, 19.0]),
        "norm_scope": st.sampled_from(["global", "group", "tensor"]),
        "maximize": st.booleans(),
    }
)


def trained(optimizer_class, shapes, layout, seed, **chosen):
    generator = torch.Generator().manual_seed(seed)

    def tensor(shape, transposed):
        t = torch.randn(shape[::-1] if transposed else shape, generator=generator, dtype=torch.float64)
        return t.permute(tuple(reversed(range(t.ndim)))) if transposed else t

    params = [nn.Parameter(tensor(shape, layout & 1)) for shape in shapes]
    half = len(params) // 2
    groups = [{"params": part} for part in (params[:half], params[half:]) if part]
    optimizer = optimizer_class(groups, **chosen)
    for step in range(4):
        for i, p in enumerate(params):
            p.grad = tensor(p.shape, layout & 2) if (i + step) % 4 else None
        optimizer.step()
    return params, optimizer


@pytest.mark.parametrize("optimizer_class", [VRAdam, VRMomentum])
@pytest.mark.parametrize("fast", [{"foreach": True}, {"fused": True}, {}], ids=["foreach", "fused", "default"])
@given(shapes=SHAPES, layout=st.integers(0, 3), seed=st.integers(0, 99), chosen=SETTINGS, tiny=st.booleans())
@settings(deadline=None, max_examples=20, derandomize=True)
def test_fast_paths_equal_the_reference(optimizer_class, fast, shapes, layout, seed, chosen, tiny):
    with pytest.MonkeyPatch.context() as patch:
        if tiny:  # the same code at sizes where every tensor takes several passes
            patch.setattr(velocity_module, "CHUNK", 8)
            patch.setattr(velocity_module, "SMALL", 4)
        reference, slow = trained(optimizer_class, shapes, layout, seed, **chosen, foreach=False)
        got, quick = trained(optimizer_class, shapes, layout, seed, **chosen, **fast)
    for a, b in zip(got, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    for a, b in zip(quick.last_step, slow.last_step, strict=True):
        torch.testing.assert_close(a.gate, b.gate, rtol=1e-10, atol=1e-14)
    for name in optimizer_class.state_names:
        for p, q in zip(got, reference, strict=True):
            if q in slow.state:
                torch.testing.assert_close(quick.state[p][name], slow.state[q][name], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("optimizer_class", [VRAdam, VRMomentum])
@pytest.mark.parametrize("shape", [(3, 200_000), (600_000,), (2, 40, 40, 100)])
def test_large_tensors_in_float32(optimizer_class, shape):
    """The learning rate is right to 1e-6 although the norm runs over many chunks."""
    rates = []
    for chosen in ({"foreach": False}, {}, {"foreach": True}):
        p = nn.Parameter(torch.zeros(shape))
        p.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-2
        optimizer = optimizer_class([p], **chosen)
        for _ in range(2):
            optimizer.step()
        rates.append(optimizer.telemetry()["lr_effective"].item())
    assert rates[1] == pytest.approx(rates[0], rel=1e-6)
    assert rates[2] == pytest.approx(rates[0], rel=1e-6)


def test_scratch_is_small_and_stays():
    p = nn.Parameter(torch.zeros(1_000_000))
    p.grad = torch.ones_like(p)
    optimizer = VRAdam([p], fused=True)
    optimizer.step()
    (buffer,) = optimizer._scratch.values()
    optimizer.step()
    assert buffer.numel() <= 1 << 18
    assert next(iter(optimizer._scratch.values())) is buffer
    assert not any("scratch" in key for key in optimizer.state_dict())


@pytest.mark.parametrize("kernel", [fused_adamw, fused_sgd])
def test_kernel_feature_test(kernel, monkeypatch):
    """The test of a kernel notices a kernel that is missing or computes something else."""
    name = f"_{kernel.__name__}_"
    assert works(kernel, "cpu", torch.float32)
    assert not works(kernel, "cpu", torch.int32)
    for other in (lambda *args, **kwargs: None, None):
        works.cache_clear()
        if other is None:
            monkeypatch.delattr(torch, name)
        else:
            monkeypatch.setattr(torch, name, other)
        assert not works(kernel, "cpu", torch.float32)
        monkeypatch.undo()
    works.cache_clear()
