"""Muon against torch's own on matrices, against AdamW elsewhere, and the split between them."""

import pytest
import torch
from torch import nn

from vrcli.optim import Muon
from vrcli.optim.muon import orthogonalise, split_parameters


def trained(optimizer_of, shapes, steps=4):
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
    optimizer = optimizer_of(params)
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
    return params


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_matrices_as_in_torch(adjust, nesterov):
    settings = {"lr": 0.01, "adjust_lr_fn": adjust, "nesterov": nesterov}
    shapes = [(6, 4), (3, 8), (5, 5)]
    mine = trained(lambda params: Muon(params, **settings), shapes)
    theirs = trained(lambda params: torch.optim.Muon(params, **settings), shapes)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=4 * 0.01 * 0.05)  # torch iterates in bfloat16


def test_everything_else_as_adamw():
    settings = {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.2}
    mine = trained(lambda params: Muon([{"params": params, "use_muon": False}], **settings), [(4, 3), (5,), ()])
    theirs = trained(lambda params: torch.optim.AdamW(params, **settings), [(4, 3), (5,), ()])
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (12, 12)])
def test_update_is_nearly_orthogonal(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrix, 5))
    assert values.min() > 0.3
    assert values.max() < 1.4


def test_filters_are_flattened_in_any_layout():
    weights = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        p = nn.Parameter(torch.ones(6, 4, 3, 3).to(memory_format=memory_format))
        generator = torch.Generator().manual_seed(0)
        optimizer = Muon([p], 0.01)
        for _ in range(2):
            p.grad = torch.randn(p.shape, generator=generator)
            optimizer.step()
        weights.append(p.detach().contiguous())
    torch.testing.assert_close(*weights)
    assert not torch.equal(weights[0], torch.ones(6, 4, 3, 3))


def test_split():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Conv1d(4, 4, 3), nn.Linear(4, 2))
    model[1].bias.requires_grad_(False)
    matrices, others = split_parameters(model)
    assert [id(p) for p in matrices["params"]] == [id(model[1].weight), id(model[3].weight)]
    assert {id(p) for p in others["params"]} >= {id(model[0].weight), id(model[4].weight)}
    assert not any(p is model[1].bias for group in (matrices, others) for p in group["params"])
    assert (matrices["use_muon"], others["use_muon"]) == (True, False)
    (only,) = split_parameters(nn.Linear(3, 2))
    assert not only["use_muon"]


@pytest.mark.parametrize(
    "settings",
    [{"lr": -1}, {"weight_decay": -1}, {"momentum": 1}, {"ns_steps": 0}, {"adjust_lr_fn": "x"}, {"betas": (1, 0)}],
)
def test_refuses_bad_values_by_name(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Muon([nn.Parameter(torch.zeros(2, 2))], **settings)
