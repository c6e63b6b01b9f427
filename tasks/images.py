"""What a set of labelled images is, and where data are kept between runs."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

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
