"""Image data sets as uint8 tensors: the bundled digits, MNIST, CIFAR-10, and any local folder of labelled images.

Nothing here decodes twice: a folder's images are kept decoded in the user's cache folder (`VR_CACHE`, or the
platform's), under a name made of the files' paths, sizes and modification times. `datasets` (3 s) is imported only
to decode a folder for the first time, `torchvision` (3 s) only to download.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import pickle
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

import numpy as np
import torch
from torch import Tensor

from vrcli.tasks.base import Split, Splits, TaskError
from vrcli.tasks.images import Images, ImageSet, cache_dir, files_below, folder_of

#: torchvision opens connections without a time limit of its own.
_NETWORK_TIMEOUT_S = 30.0

#: MD5 sums of the uncompressed files, as torchvision states them.
_CIFAR10_FILES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load_images(dataset: str, data_dir: Path | None = None) -> ImageSet:
    """The data set of that name, or the images in the folder at that path.

    Args:
        data_dir: where the files of a named data set are, or are downloaded to; `None` for `cache_dir()`.

    Raises:
        TaskError: neither a known name nor a folder, or its data cannot be had.
    """
    named: Mapping[str, Callable[[Path | None], ImageSet]] = {
        "digits": lambda _: digits(),
        "mnist": mnist,
        "cifar10": cifar10,
    }
    if dataset in named:
        return named[dataset](data_dir)
    return image_folder(folder_of(dataset, named))


def image_files(dataset: str, data_dir: Path | None = None) -> list[Path] | None:
    """The files behind `load_images`, as far as they are there; None for what it does not know."""
    root = data_dir or cache_dir()
    if dataset == "digits":
        table = _digits_table()
        return [table] if table.is_file() else None
    if dataset == "mnist":
        return sorted((root / "MNIST" / "raw").glob("*-ubyte*")) or None
    if dataset == "cifar10":
        return [root / "cifar-10-batches-py" / name for name in _CIFAR10_FILES]
    return files_below(Path(dataset).expanduser())


def image_folder(path: Path) -> ImageSet:
    """Labelled images from any local folder that `datasets.load_dataset` reads; see `vrcli.tasks.folders`."""
    from vrcli.tasks.folders import load_folder

    return load_folder(path)


def digits() -> ImageSet:
    """scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels with 17 levels, stretched to 0..255."""
    table = _digits_table()
    if table.is_file():  # 64 levels and the label per line; importing scikit-learn for it takes seconds
        rows = np.loadtxt(table, delimiter=",", dtype=np.int64)
        levels, labels = rows[:, :64], rows[:, 64]
    else:
        from sklearn.datasets import load_digits

        levels, labels = load_digits(return_X_y=True)
    pixels = np.rint(levels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    images = Images(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)))
    return ImageSet("digits", images, tuple("0123456789"), origin="embedded")


def _digits_table() -> Path:
    found = importlib.util.find_spec("sklearn")
    return Path(str(found.origin)).parent / "datasets" / "data" / "digits.csv.gz" if found else Path()


def mnist(data_dir: Path | None = None) -> ImageSet:
    """MNIST in torchvision's layout, `MNIST/raw/` with the four idx files, gzipped or not; downloaded where missing.

    Raises:
        TaskError: the files are not there and cannot be downloaded, or are damaged.
    """
    root = data_dir or cache_dir()
    stems = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    raw = root / "MNIST" / "raw"
    if not all((raw / stem).is_file() or (raw / f"{stem}.gz").is_file() for stem in stems):
        with _download("mnist", root):
            from torchvision.datasets import MNIST

            MNIST(str(root), download=True)
    arrays = [_read_idx(raw, stem) for stem in stems]
    train, test = (
        Images(torch.from_numpy(x).unsqueeze(3), torch.from_numpy(y.astype(np.int64)))
        for x, y in (arrays[:2], arrays[2:])
    )
    if train.pixels.ndim != 4 or len(train.pixels) != len(train) or len(test.pixels) != len(test):
        raise TaskError(f"dataset 'mnist': the files in {raw} do not belong together; delete them to download again")
    return ImageSet("mnist", train, tuple("0123456789"), test=test)


def _read_idx(folder: Path, stem: str) -> np.ndarray:
    """One idx file: two zero bytes, the type (8 = unsigned byte), the number of axes, their sizes, the bytes."""
    plain, zipped = folder / stem, folder / f"{stem}.gz"
    try:
        content = plain.read_bytes() if plain.is_file() else gzip.decompress(zipped.read_bytes())
        axes = content[3]
        shape = np.frombuffer(content, ">i4", count=axes, offset=4)
        if content[:3] != b"\0\0\x08":
            raise ValueError("wrong magic number")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise TaskError(f"dataset 'mnist': {folder / stem} cannot be read ({error})") from error


def cifar10(data_dir: Path | None = None) -> ImageSet:
    """CIFAR-10 in torchvision's layout, `cifar-10-batches-py/`; downloaded with its checksum where missing.

    Raises:
        TaskError: the files are not there and cannot be downloaded, or are damaged.
    """
    root = data_dir or cache_dir()
    folder = root / "cifar-10-batches-py"
    if not all((folder / name).is_file() for name in _CIFAR10_FILES):
        with _download("cifar10", root):
            from torchvision.datasets import CIFAR10

            CIFAR10(str(root), download=True)
    parts = [_read_cifar_batch(folder / name, md5) for name, md5 in _CIFAR10_FILES.items()]
    train = Images(torch.cat([part.pixels for part in parts[:-1]]), torch.cat([part.labels for part in parts[:-1]]))
    return ImageSet("cifar10", train, _CIFAR10_CLASSES, test=parts[-1])


def _read_cifar_batch(path: Path, md5: str) -> Images:
    """One of the pickled files. Only a file with the published checksum is unpickled."""
    content = path.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise TaskError(f"dataset 'cifar10': {path} is damaged (wrong checksum); delete it to download it again")
    batch = pickle.loads(content, encoding="latin1")
    pixels = torch.from_numpy(batch["data"]).view(-1, 3, 32, 32).permute(0, 2, 3, 1).contiguous()  # (n, H, W, C)
    return Images(pixels, torch.tensor(batch["labels"]))


@contextmanager
def _download(dataset: str, root: Path) -> Iterator[None]:
    """A download into `root`, by one process at a time; what goes wrong becomes one line."""
    from filelock import FileLock

    shown = str(root).replace(str(Path.home()), "~", 1)
    before = socket.getdefaulttimeout()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{dataset}.lock"):
            socket.setdefaulttimeout(_NETWORK_TIMEOUT_S)
            yield
    except (URLError, HTTPException, TimeoutError, ConnectionError, RuntimeError) as error:
        raise TaskError(
            f"dataset {dataset!r} is not in {shown} and could not be downloaded ({_reason(error)}); "
            "use --dataset digits, or --data-dir with the files"
        ) from error
    except OSError as error:
        raise TaskError(f"dataset {dataset!r} cannot be kept in {shown}: {error.strerror}; use --data-dir") from error
    finally:
        socket.setdefaulttimeout(before)


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"the server answers {error.code}"
    if isinstance(error, RuntimeError) and "corrupted" in str(error):  # torchvision's word for a wrong checksum
        return "wrong checksum"
    return "no network"


def split_images(
    images: ImageSet, *, val_fraction: float, generator: torch.Generator, test_fraction: float = 0.2
) -> Splits:
    """Training, validation and test images, carved at random from the training images where the data have none.

    Args:
        val_fraction: share of the training images (what is left of them after the test images) held out for validation.
        test_fraction: share of the training images held out for the test.

    Returns:
        Splits of (pixels, labels). `info` holds `classes` (how many), `class_names`, and the shape `image` (H, W, C).

    Raises:
        TaskError: too few images for three splits.
    """
    rest = torch.randperm(len(images.train), generator=generator)
    about = [part for part in (images.origin, _size(images)) if part]
    val, test = images.val, images.test
    if test is None:
        count = max(1, round(len(rest) * test_fraction))
        test, rest = _rows(images.train, rest[:count]), rest[count:]
        about.append(f"{count:,} held out for the test")
    if val is None:
        count = max(1, round(len(rest) * val_fraction))
        val, rest = _rows(images.train, rest[:count]), rest[count:]
    if not len(rest):
        raise TaskError(f"dataset {images.name!r} has too few images ({len(images.train)}) to train, validate and test")
    train = images.train if images.val and images.test else _rows(images.train, rest)
    height, width, channels = train.pixels.shape[1:]
    info = {"classes": len(images.classes), "class_names": images.classes, "image": (height, width, channels)}
    rows = [Split((part.pixels, part.labels)) for part in (train, val, test)]
    return Splits(rows[0], rows[1], rows[2], images.name, ", ".join(about), info)


def _rows(images: Images, index: Tensor) -> Images:
    return Images(images.pixels[index], images.labels[index])


def _size(images: ImageSet) -> str:
    """ "1,797 images 8x8": all of them, in whatever split."""
    count = sum(len(part) for part in (images.train, images.val, images.test) if part is not None)
    height, width = images.train.pixels.shape[1:3]
    return f"{count:,} images {width}x{height}"
