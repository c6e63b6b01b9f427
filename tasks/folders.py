"""Any local folder of labelled images, decoded once and kept.

The folder is whatever `datasets.load_dataset` reads: parquet files with an image column, one folder per class, a
`metadata.csv`. Decoded images are kept as an uncompressed .npz, whose own checksums tell a damaged file.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vrcli.leftovers import part_name, remove, remove_leftovers, scratch_folder
from vrcli.tasks.base import TaskError
from vrcli.tasks.images import Images, ImageSet, cache_dir, files_below

if TYPE_CHECKING:  # takes seconds to import, and is needed only where a folder is decoded
    from datasets import Dataset, Features

#: Raised whenever what is kept, or how it is decoded, changes: older files are then made anew.
_FORMAT = 1
_IMAGE_NAMES = ("image", "img", "images", "picture", "photo", "x")
_LABEL_NAMES = ("label", "labels", "class", "category", "target", "y")
_GREY_MODES = ("1", "L", "LA")
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L")
_CHUNK = 1000
_WHAT = ("train", "val", "test")


def load_folder(path: Path) -> ImageSet:
    """The images in a folder, from the cache if the folder's files are as they were when it was written.

    Splits called train, validation and test are used as they are; a split on its own serves as training images,
    and a validation or test split without labels is left out.

    Raises:
        TaskError: no images, no label column, images of different sizes, or an image that cannot be decoded.
    """
    path = path.resolve()
    target = _cache_file(path)
    arrays = _read_cache(target)
    if arrays is None:
        arrays = _decode_folder(path)
        _write_cache(target, arrays)
    parts = {
        what: Images(torch.from_numpy(arrays[f"{what}_pixels"]), torch.from_numpy(arrays[f"{what}_labels"]))
        for what in _WHAT
        if f"{what}_pixels" in arrays
    }
    classes = tuple(str(name) for name in arrays["classes"])
    return ImageSet(path.name, parts["train"], classes, parts.get("val"), parts.get("test"), origin="local folder")


def _cache_file(path: Path) -> Path:
    """The name says which folder (first part) in which state (second part)."""
    state = hashlib.blake2b(f"{_FORMAT}".encode(), digest_size=8)
    for file in files_below(path) or []:
        about = file.stat()
        state.update(f"{file.relative_to(path)}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
    folder = hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()
    return cache_dir() / "images" / f"{path.name}-{folder}-{state.hexdigest()}.npz"


def _read_cache(file: Path) -> dict[str, np.ndarray] | None:
    try:
        with np.load(file, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):  # absent or damaged: decoded again
        return None


def _write_cache(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Put in place at once, so that no reader meets half a file; earlier states of the same folder go."""
    # The cache only saves time: a full disk or a read-only home must not stop a run that has its data.
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(file.parent)
        part = file.with_name(part_name(file.suffix))
        try:
            np.savez(part, allow_pickle=False, **arrays)
            os.replace(part, file)
        finally:
            remove(part)
        for old in file.parent.glob(f"{file.stem.rpartition('-')[0]}-*.npz"):
            if old != file:
                old.unlink(missing_ok=True)


def _decode_folder(path: Path) -> dict[str, np.ndarray]:
    """`{split}_pixels` (n, H, W, C) uint8 and `{split}_labels` (n,) int64 of each split, and `classes`."""
    import datasets

    with scratch_folder() as scratch:
        datasets.disable_progress_bars()
        try:
            found = datasets.load_dataset(str(path), cache_dir=str(scratch))
        except Exception as error:  # the readers raise whatever their file formats raise
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise TaskError(f"no images can be read from {path}: {reason}") from error
        finally:
            datasets.enable_progress_bars()
        splits = {str(name): split for name, split in found.items() if len(split)}
        if not splits:
            raise TaskError(f"no images in {path}")
        image, label = _columns(next(iter(splits.values())).features, path)
        labels = {name: split[label][:] for name, split in splits.items()}
        chosen = _choose(labels, path)
        arrays = {
            f"{what}_pixels": _decode(splits[name].cast_column(image, datasets.Image(decode=False)), image, path)
            for what, name in chosen.items()
        }
        feature = splits[chosen["train"]].features[label]
        numbers, classes = _number({what: labels[name] for what, name in chosen.items()}, feature, label, path)
        del found, splits  # they map the files in the scratch folder
    _same_shape(arrays, path)
    return {**arrays, **numbers, "classes": np.array(classes, dtype=np.str_)}


def _columns(features: Features, path: Path) -> tuple[str, str]:
    """The image column and the label column, by their types first and by their names where types leave a choice."""
    import datasets

    def is_image(feature: Any) -> bool:
        encoded = isinstance(feature, dict) and {"bytes", "path"} == set(feature)  # parquet without the type's name
        return isinstance(feature, datasets.Image) or encoded

    def is_label(feature: Any) -> bool:
        return isinstance(feature, datasets.Value) and feature.dtype.startswith(("int", "uint", "string", "bool"))

    images = [name for name, feature in features.items() if is_image(feature)]
    if not images:
        raise TaskError(f"no images in {path}: its columns are {', '.join(features)}, none of them images")
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    labels = labels or [name for name, feature in features.items() if is_label(feature)]
    if not labels:
        raise TaskError(f"no label column in {path}: its columns are {', '.join(features)}")
    return _named(images, _IMAGE_NAMES, "image", path), _named(labels, _LABEL_NAMES, "label", path)


def _named(candidates: list[str], names: tuple[str, ...], what: str, path: Path) -> str:
    if len(candidates) == 1:
        return candidates[0]
    for name in names:
        if name in candidates:
            return name
    raise TaskError(f"{path} has several {what} columns ({', '.join(candidates)}); call the one to use {names[0]!r}")


def _choose(labels: Mapping[str, list[Any]], path: Path) -> dict[str, str]:
    """Which of the folder's splits serve as train, val and test."""
    labelled = {name for name, values in labels.items() if not any(v is None or v == -1 for v in values)}
    train = "train" if "train" in labels else next(iter(labels))
    if train not in labelled:
        raise TaskError(f"images without a label in the {train} split of {path}")
    chosen = {"train": train}
    for what, names in (("val", ("validation", "val", "valid")), ("test", ("test",))):
        name = next((name for name in names if name in labelled - {train}), None)
        if name:
            chosen[what] = name
    return chosen


def _decode(split: Dataset, column: str, path: Path) -> np.ndarray:
    """(n, H, W, C) uint8, with one channel if every image is grey and three otherwise."""
    sizes: Counter[tuple[int, ...]] = Counter()
    pixels = np.empty((len(split), 0, 0, 1), np.uint8)
    for start in range(0, len(split), _CHUNK):
        rows = split[start : start + _CHUNK][column]
        images = [_decode_one(row, start + i, path) for i, row in enumerate(rows)]
        sizes.update(image.shape[:2] for image in images)
        if len(sizes) > 1:
            continue  # the rest is only counted
        channels = max(image.shape[2] for image in images)
        if not pixels.size:
            pixels = np.empty((len(split), *images[0].shape[:2], channels), np.uint8)
        elif channels > pixels.shape[3]:
            pixels = np.repeat(pixels, channels, axis=3)
        for i, image in enumerate(images):
            pixels[start + i] = image  # a grey one spreads over the channels
    if len(sizes) > 1:
        raise _sizes_differ(sizes, path)
    return pixels


def _decode_one(row: Mapping[str, Any] | None, number: int, path: Path) -> np.ndarray:
    """(H, W, C) uint8."""
    from PIL import Image

    if row is None:
        raise TaskError(f"image {number} in {path} is missing")
    where = row.get("path") or f"number {number}"
    try:
        with Image.open(io.BytesIO(row["bytes"]) if row["bytes"] is not None else row["path"]) as image:
            if image.mode in _DEEP_MODES:
                raise TaskError(f"image {where} in {path} has more than 8 bits per channel (mode {image.mode})")
            pixels = np.asarray(image.convert("L" if image.mode in _GREY_MODES else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise TaskError(f"image {where} in {path} cannot be decoded ({error})") from error
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _same_shape(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Make all splits equal in channels, and refuse splits of different sizes."""
    sizes: Counter[tuple[int, ...]] = Counter()
    for pixels in arrays.values():
        sizes[pixels.shape[1:3]] += len(pixels)
    if len(sizes) > 1:
        raise _sizes_differ(sizes, path)
    channels = max(pixels.shape[3] for pixels in arrays.values())
    for name, pixels in arrays.items():
        if pixels.shape[3] != channels:
            arrays[name] = np.repeat(pixels, channels, axis=3)


def _sizes_differ(sizes: Counter[tuple[int, ...]], path: Path) -> TaskError:
    shown = ", ".join(f"{width}x{height} ({n:,})" for (height, width), n in sizes.most_common(4))
    more = ", ..." if len(sizes) > 4 else ""
    return TaskError(f"the images in {path} have different sizes: {shown}{more}; resize them to one")


def _number(
    labels: Mapping[str, list[Any]], feature: Any, column: str, path: Path
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Labels as 0, 1, ... and the classes' names: the feature's own, or the sorted values."""
    import datasets

    if isinstance(feature, datasets.ClassLabel):
        values: list[Any] = list(range(feature.num_classes))
        names = list(feature.names)
    else:
        values = sorted({value for part in labels.values() for value in part})
        names = [str(value) for value in values]
    if len(values) < 2:
        raise TaskError(f"column {column!r} of {path} holds a single value, {names[0]!r}: nothing to tell apart")
    rank = {value: number for number, value in enumerate(values)}
    numbers = {f"{what}_labels": np.array([rank[v] for v in part], np.int64) for what, part in labels.items()}
    return numbers, names
