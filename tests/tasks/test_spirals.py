"""Two spirals: where the points lie, and the picture of the boundary."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import nn

from vrcli.tasks.spirals import Spirals, SpiralsConfig


class Above(nn.Module):
    """Decides by the second coordinate."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("points", torch.tensor([[-3.0, 3.0]]))
        self.register_buffer("labels", torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 10 * x[:, 1:]


def test_points_lie_on_two_arms_that_turn_as_far_as_said() -> None:
    task = Spirals(SpiralsConfig(degrees=1200, radius=6, points=500))
    x, y = (t[0] for t in task.data(torch.Generator().manual_seed(0)).train.tensors)
    radius = x.norm(dim=1)
    assert 5.9 < radius.max() <= 6
    angle = torch.deg2rad(1200 * radius / 6) + torch.pi * y
    torch.testing.assert_close(x, radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1), rtol=0, atol=1e-3)
    assert y.sum() == 500


def test_the_network_is_the_sources_and_its_points_are_no_weights() -> None:
    task = Spirals(SpiralsConfig())
    model = task.model(task.data(torch.Generator().manual_seed(0)))
    assert [m.out_features for m in model if isinstance(m, nn.Linear)] == [24, 24, 24, 1]
    assert not any("points" in name or "labels" in name for name in model.state_dict())


def test_the_picture_shows_the_side_the_network_chooses_and_the_points() -> None:
    task = Spirals(SpiralsConfig())
    assert task.artifacts(Above(), epoch=1, last=False) == {}
    (data,) = task.artifacts(Above(), epoch=1, last=True).values()
    pixels = np.asarray(Image.open(BytesIO(data))).astype(int)
    top, bottom = pixels[40, 280], pixels[280, 280]
    assert top[0] > top[2], "vermilion above, where it decides for the second arm"
    assert bottom[2] > bottom[0], "blue below"
    at = round((1 - 3 / 6.6) * 319 / 2)
    assert pixels[at, at].tolist() == [213, 94, 0]
    assert Spirals(SpiralsConfig(picture=False)).artifacts(Above(), epoch=1, last=True) == {}
