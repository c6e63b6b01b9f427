"""ResNet-32: the residual network of He et al. for images of CIFAR's size.

Source: arXiv:1512.03385, section 4.2. The output layer starts small, so that the network guesses; the source does not
say how it starts.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity, which is subsampled and zero-padded where the shape changes ("A")."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.stride, self.grow = stride, after - before

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        if self.stride > 1 or self.grow:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.grow // 2, self.grow - self.grow // 2))
        return F.relu(out + x)


def resnet32(channels: int, classes: int) -> nn.Sequential:
    """The network of He et al. (2016) for CIFAR: 3 stages of 5 blocks with 16, 32 and 64 channels, 0.46M parameters.

    Args:
        channels: of the images.
    """
    layers: list[nn.Module] = [nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    before = 16
    for stage, width in enumerate((16, 32, 64)):
        for block in range(5):
            layers.append(ResidualBlock(before, width, stride=2 if stage and not block else 1))
            before = width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes)]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):  # the sums of 15 blocks are large: torch's default gives wild first guesses
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
    return network
