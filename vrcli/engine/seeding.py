"""Every random number of a run: streams that depend on the seed and a purpose, never on the optimizer."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 62-bit seed for one purpose, independent of every other purpose's."""
    words = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "little") >> 2


def generator(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator of that stream on `device`."""
    return torch.Generator(device=device).manual_seed(derive(seed, *purpose))


def seed_python(value: int) -> None:
    """Seed the global generators of Python and numpy, which some optimizers and augmentations draw from."""
    random.seed(value)
    np.random.seed(value % 2**32)


class GlobalNoise:
    """Seeds the global generators of the CPU and of one device, as dropout and sampled noise use them.

    `torch.manual_seed` reaches every backend and formats a stack trace for each one that is not initialised, which is
    slow enough to show in small steps; this touches the generators in use.
    """

    def __init__(self, device: torch.device) -> None:
        self._generators = [torch.default_generator]
        if device.type == "cuda":
            torch.cuda.init()
            index = torch.cuda.current_device() if device.index is None else device.index
            self._generators.append(torch.cuda.default_generators[index])
        elif device.type == "mps":
            self._generators.append(torch.mps._get_default_mps_generator())

    def seed(self, value: int) -> None:
        for each in self._generators:
            each.manual_seed(value)
