"""ResNet-32 and ResNet-18: residual networks of He et al. for images of CIFAR's size.

Source: arXiv:1512.03385, section 4.2 (ResNet-32) and Table 1 (ResNet-18). The output layer of ResNet-32 starts small,
so that the network guesses; the source does not say how it starts. ResNet-18 has the form that is usual on CIFAR: a 3x3
convolution without pooling before the stages, projections where the shape changes ("B"), torch's initial weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class Projection(nn.Conv2d):
    """A 1x1 convolution of every `stride`-th pixel, which are picked first where there are few channels.

    The backward pass of the convolution that strides itself writes beyond its memory in torch 2.15, on processors with
    AVX2 and no AVX-512, with fewer than 8 channels that come last: the process aborts.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__(before, after, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.in_channels >= 8:
            return super().forward(x)
        across = self.stride[0]
        return F.conv2d(x[:, :, ::across, ::across], self.weight)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity.

    Args:
        projection: where the shape changes, a 1x1 convolution stands for the identity ("B"); otherwise it is subsampled
            and zero-padded ("A").
    """

    def __init__(self, before: int, after: int, stride: int, *, projection: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.stride, self.grow = stride, after - before
        self.shortcut: nn.Module | None = None
        if projection and (stride > 1 or self.grow):
            self.shortcut = nn.Sequential(Projection(before, after, stride), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.stride > 1 or self.grow:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.grow // 2, self.grow - self.grow // 2))
        return F.relu(out + x)


def resnet32(channels: int, classes: int) -> nn.Sequential:
    """The network of He et al. (2016) for CIFAR: 3 stages of 5 blocks with 16, 32 and 64 channels, 0.46M parameters.

    Args:
        channels: of the images.
    """
    network = _resnet(channels, classes, (16, 32, 64), blocks=5, projection=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):  # the sums of 15 blocks are large: torch's default gives wild first guesses
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
    return network


def resnet18(channels: int, classes: int, width: int) -> nn.Sequential:
    """4 stages of 2 blocks with `width`, 2, 4 and 8 times as many channels; 11.2M parameters for a width of 64.

    Args:
        channels: of the images.
    """
    return _resnet(channels, classes, [width << stage for stage in range(4)], blocks=2, projection=True)


def _resnet(channels: int, classes: int, widths: Sequence[int], *, blocks: int, projection: bool) -> nn.Sequential:
    before = widths[0]
    layers: list[nn.Module] = [
        nn.Conv2d(channels, before, 3, padding=1, bias=False), nn.BatchNorm2d(before), nn.ReLU()
    ]  # fmt: skip
    for stage, width in enumerate(widths):
        for block in range(blocks):
            layers.append(ResidualBlock(before, width, 2 if stage and not block else 1, projection=projection))
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))
