"""What a set of labelled images is, how it is augmented, and where data are kept between runs."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vrcli.tasks.base import TaskError


@dataclass(frozen=True)
class Images:
    """Images with their labels.

    Args:
        pixels: (n, H, W, C) uint8, black is 0 and white 255; C is 1 (grey) or 3 (red, green, blue).
        labels: (n,) int64, positions in `ImageSet.classes`.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageSet:
    """A data set as it comes, before anything is carved out of it.

    Args:
        name: short name for tables.
        train: what training and, where there is none, validation and test images are taken from.
        classes: names of the classes, in the order of the labels.
        origin: where it came from, in a word or two ("embedded").
    """

    name: str
    train: Images
    classes: tuple[str, ...]
    val: Images | None = None
    test: Images | None = None
    origin: str = ""


def folder_of(dataset: str, named: Iterable[str]) -> Path:
    """The folder that a data set's name means, where it is not one of the known names.

    Raises:
        TaskError: there is no such folder.
    """
    path = Path(dataset).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise TaskError(f"dataset {dataset!r} is a file; give the folder that contains it")
    names = list(named)
    close = difflib.get_close_matches(dataset, names, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]}?" if close else f": it is neither a folder nor one of {', '.join(names)}"
    raise TaskError(f"no dataset {dataset!r}{hint}")


def files_below(folder: Path) -> list[Path] | None:
    """Every file in a folder and below it, in a fixed order; None where there is no such folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else None


def cache_dir() -> Path:
    """Where downloads and decoded images are kept: `VR_CACHE`, or the platform's cache folder."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("VR_CACHE") or user_cache_dir("vr")).expanduser()


def augment(pixels: Tensor, generator: torch.Generator, *, flip: bool, padding: int) -> Tensor:
    """Random crops of the images padded with black, half of them mirrored; each image gets its own draw.

    Every pixel of the result is looked up in the padded batch: one gather of whole pixels, no loop over images.

    Args:
        pixels: (B, H, W, C), of any type.
        generator: on the same device.
    """
    if not (flip or padding):
        return pixels
    b, h, w, c = pixels.shape
    device = pixels.device
    image, rows, columns = (torch.arange(n, device=device) for n in (b, h, w))
    if flip:
        mirrored = torch.rand(b, 1, device=device, generator=generator) < 0.5
        columns = torch.where(mirrored, w - 1 - columns, columns)  # (B, W)
    if padding:
        top, left = torch.randint(2 * padding + 1, (2, b, 1), device=device, generator=generator)
        rows, columns = rows + top, columns + left
        pixels = F.pad(pixels, (0, 0, padding, padding, padding, padding))
    height, width = pixels.shape[1:3]
    source = (image[:, None] * height + rows) * width  # (B, H): where each row starts
    source = source[:, :, None] + columns.expand(b, w)[:, None, :]  # (B, H, W)
    return pixels.reshape(-1, c).index_select(0, source.flatten()).view(b, h, w, c)


def channel_statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, for pixels in 0..1, exact and without a float copy of the set."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in pixels.unbind(3):
        counts = torch.zeros(256, dtype=torch.int64)
        for start in range(0, len(channel), 4096):
            counts += torch.bincount(channel[start : start + 4096].flatten(), minlength=256)
        share = counts.double() / channel.numel()
        mean = float((share * levels).sum())
        means.append(mean)
        deviations.append(float((share * (levels - mean) ** 2).sum().sqrt()))
    return tuple(means), tuple(deviations)
