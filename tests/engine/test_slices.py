"""Directions of a plane are as long as the weights, filter by filter, and biases and norms stay where they are."""

from __future__ import annotations

import torch
from torch import nn

from vrcli.engine.slices import directions, plane


class Tied(nn.Module):
    """Convolution, its norm, and a table that is the last layer, too."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3)
        self.table, self.last, self.fixed = nn.Embedding(5, 4), nn.Linear(4, 5), nn.Linear(4, 4)
        self.last.weight = self.table.weight
        self.fixed.requires_grad_(False)


def test_each_filter_of_a_direction_is_as_long_as_that_of_the_weights() -> None:
    model = Tied()
    model.convolution.weight.data[1] *= 100
    model.convolution.weight.data[2] = 0
    weights = model.state_dict()
    x, y = directions(model, weights, seed=0)
    assert set(x) == set(y) == {"convolution.weight", "table.weight", "last.weight"}
    for direction in (x, y):
        for name in ("convolution.weight", "table.weight"):
            for own, other in zip(direction[name], weights[name], strict=True):
                torch.testing.assert_close(own.norm(), other.norm())
        assert torch.equal(direction["table.weight"], direction["last.weight"])
    assert not torch.allclose(x["table.weight"], y["table.weight"])


def test_directions_are_those_of_the_seed() -> None:
    model = Tied()
    (x, y), (again, _), (other, _) = (directions(model, model.state_dict(), seed) for seed in (3, 3, 4))
    assert torch.equal(x["convolution.weight"], again["convolution.weight"])
    assert not torch.equal(x["convolution.weight"], other["convolution.weight"])
    assert not torch.equal(x["convolution.weight"], y["convolution.weight"])


def test_the_middle_of_a_plane_has_the_very_weights_and_all_of_it_the_same_biases_and_statistics() -> None:
    model = Tied()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x, y = directions(model, weights, seed=0)
    places = list(plane(weights, x, y, [-1.0, 0.0, 1.0]))
    assert len(places) == 9
    for place in places:
        model.load_state_dict(place)  # what is tied agrees
        assert set(place) == set(weights)
        assert all(torch.equal(place[name], own) for name, own in weights.items() if name not in x)
    assert all(torch.equal(places[4][name], own) for name, own in weights.items())
    torch.testing.assert_close(places[5]["table.weight"], weights["table.weight"] + x["table.weight"])
    torch.testing.assert_close(places[1]["table.weight"], weights["table.weight"] - y["table.weight"])
