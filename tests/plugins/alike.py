"""One optimizer under several names, each of which is other code to whoever asks."""

from __future__ import annotations

import torch


class First(torch.optim.SGD):
    pass


class Second(torch.optim.SGD):
    pass


class Third(torch.optim.SGD):
    pass


class Fourth(torch.optim.SGD):
    pass
