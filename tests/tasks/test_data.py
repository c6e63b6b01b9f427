"""Image data: where it comes from, how it is split, what is kept of a folder, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vrcli.tasks import data, folders
from vrcli.tasks.base import TaskError
from vrcli.tasks.data import load_images, split_images
from vrcli.tasks.images import Images, ImageSet


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(seed: int, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> Image.Image:
    """A picture of its own for every seed; size is (width, height)."""
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), mode)


def image_classes(root: Path, counts: dict[str, int], **options: Any) -> Path:
    """A folder of one folder per class, as `datasets` calls it."""
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(100 * number + i, **options).save(root / name / f"{i}.png")
    return root


def parquet(path: Path, columns: dict[str, list[Any]], features: dict[str, Any] | None = None) -> None:
    import datasets

    path.parent.mkdir(parents=True, exist_ok=True)
    given = datasets.Features(features) if features else None
    datasets.Dataset.from_dict(columns, features=given).to_parquet(str(path))


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


# -- the bundled digits -----------------------------------------------------------------------------------------------


def test_digits_without_the_table_come_through_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = data.digits()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    slow = data.digits()
    assert torch.equal(quick.train.pixels, slow.train.pixels)
    assert torch.equal(quick.train.labels, slow.train.labels)


def test_digits_keep_every_level_of_the_original() -> None:
    from sklearn.datasets import load_digits

    found, original = data.digits(), load_digits()
    assert found.train.pixels.shape == (1797, 8, 8, 1)
    assert found.train.pixels.dtype == torch.uint8
    assert found.train.pixels.max() == 255
    back = (found.train.pixels.squeeze(3).double() * 16 / 255).round().numpy()
    assert np.array_equal(back, original.images)
    assert np.array_equal(found.train.labels.numpy(), original.target)


# -- splits -----------------------------------------------------------------------------------------------------------


def numbered(count: int) -> Images:
    """Images whose label is their number."""
    return Images(torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1), torch.arange(count))


@pytest.mark.parametrize("has_val", [False, True])
@pytest.mark.parametrize("has_test", [False, True])
def test_each_image_is_in_one_split(has_val: bool, has_test: bool) -> None:
    given = ImageSet("x", numbered(50), ("a", "b"), numbered(7) if has_val else None, numbered(9) if has_test else None)
    splits = split_images(given, val_fraction=0.25, test_fraction=0.2, generator=generator())
    sizes = [len(split) for split in (splits.train, splits.val, splits.test)]
    test = 9 if has_test else 10
    left = 50 if has_test else 40
    assert sizes == ([left, 7, test] if has_val else [left - round(left / 4), round(left / 4), test])
    carved = [splits.train, *([] if has_val else [splits.val]), *([] if has_test else [splits.test])]
    labels = torch.cat([split.tensors[1] for split in carved])
    assert sorted(labels.tolist()) == list(range(50))
    for split in (splits.train, splits.val, splits.test):
        assert torch.equal(split.tensors[0].flatten().long(), split.tensors[1])
    assert ("held out for the test" in splits.about) == (not has_test)


def test_the_split_follows_the_generator() -> None:
    given = ImageSet("x", numbered(50), ("a", "b"))
    first, again, other = (split_images(given, val_fraction=0.2, generator=generator(s)) for s in (1, 1, 2))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_too_few_images() -> None:
    with pytest.raises(TaskError, match="too few images"):
        split_images(ImageSet("x", numbered(2), ("a", "b")), val_fraction=0.2, generator=generator())


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("cifar", "no dataset 'cifar'; did you mean cifar10?"),
        ("/nowhere/at/all", "neither a folder nor one of digits, mnist, cifar10"),
    ],
)
def test_an_unknown_name(dataset: str, message: str) -> None:
    with pytest.raises(TaskError, match="no dataset") as error:
        load_images(dataset)
    assert message in str(error.value)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").touch()
    with pytest.raises(TaskError, match=r"is a file; give the folder"):
        load_images(str(tmp_path / "x.parquet"))


# -- files in torchvision's layouts -----------------------------------------------------------------------------------


def write_mnist(root: Path, *, zipped: bool, train: int = 5, test: int = 3) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for kind, array in (("images-idx3", pixels), ("labels-idx1", np.arange(count, dtype=np.uint8) % 10)):
            content = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            content += array.tobytes()
            name = f"{part}-{kind}-ubyte"
            if zipped:
                (raw / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (raw / name).write_bytes(content)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.usefixtures("_offline")
def test_mnist_files_are_read_as_they_lie(tmp_path: Path, zipped: bool) -> None:
    write_mnist(tmp_path, zipped=zipped)
    found = load_images("mnist", tmp_path)
    expected = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    assert np.array_equal(found.train.pixels.squeeze(3).numpy(), expected)
    assert found.train.labels.tolist() == [0, 1, 2, 3, 4]
    assert found.test is not None
    assert len(found.test) == 3


@pytest.mark.parametrize("damage", [b"", b"\0\0\x08\x01", b"nonsense that is long enough"])
def test_a_damaged_mnist_file_is_named(tmp_path: Path, damage: bytes) -> None:
    write_mnist(tmp_path, zipped=False)
    (tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte").write_bytes(damage)
    with pytest.raises(TaskError, match="train-labels-idx1-ubyte"):
        load_images("mnist", tmp_path)


def test_mnist_files_that_do_not_belong_together(tmp_path: Path) -> None:
    write_mnist(tmp_path, zipped=False)
    labels = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    labels.write_bytes(struct.pack(">HBBI", 0, 8, 1, 2) + b"\1\2")
    with pytest.raises(TaskError, match="do not belong together"):
        load_images("mnist", tmp_path)


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Six small batch files, whose checksums are made the expected ones. Returns all pixels, (n, H, W, C)."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    every = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    sums = {}
    for i, name in enumerate(data._CIFAR10_FILES):
        planes = every[2 * i : 2 * i + 2].transpose(0, 3, 1, 2).reshape(2, -1)
        content = pickle.dumps({"data": planes, "labels": [i, i + 1]})
        (folder / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(data, "_CIFAR10_FILES", sums)
    return every


@pytest.mark.usefixtures("_offline")
def test_cifar10_files_are_read_as_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = write_cifar(tmp_path, monkeypatch)
    found = load_images("cifar10", tmp_path)
    assert np.array_equal(found.train.pixels.numpy(), every[:10])
    assert found.train.labels.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert found.test is not None
    assert np.array_equal(found.test.pixels.numpy(), every[10:])
    assert len(found.classes) == 10


def test_a_cifar10_file_with_a_wrong_checksum_is_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar(tmp_path, monkeypatch)
    bomb = b"cos\nsystem\n(S'touch " + os.fsencode(tmp_path / "harm") + b"'\ntR."
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(bomb)
    with pytest.raises(TaskError, match="data_batch_3 is damaged"):
        load_images("cifar10", tmp_path)
    assert not (tmp_path / "harm").exists()


def stub_torchvision(monkeypatch: pytest.MonkeyPatch, download: Callable[..., object]) -> None:
    """torchvision.datasets with constructors that do `download`: the real one takes seconds to import."""
    import types

    module = types.ModuleType("torchvision.datasets")
    module.CIFAR10 = module.MNIST = download  # type: ignore[attr-defined]  # a stand-in
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_without_data_and_network_the_error_names_the_ways_out(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urllib.error import URLError

    def fail(*_: object, **__: object) -> None:
        raise URLError("unreachable")

    stub_torchvision(monkeypatch, fail)
    before = socket.getdefaulttimeout()
    with pytest.raises(TaskError) as error:
        load_images(dataset, tmp_path)
    assert str(error.value) == (
        f"dataset '{dataset}' is not in {tmp_path} and could not be downloaded (no network); "
        "use --dataset digits, or --data-dir with the files"
    )
    assert socket.getdefaulttimeout() == before


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RuntimeError("File not found or corrupted."), "wrong checksum"), (TimeoutError(), "no network")],
)
def test_why_a_download_failed(error: Exception, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    stub_torchvision(monkeypatch, fail)
    with pytest.raises(TaskError, match=rf"\({reason}\)"):
        load_images("mnist", tmp_path)


def test_a_download_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(root: str, *, download: bool) -> None:
        assert download
        write_mnist(Path(root), zipped=True)

    stub_torchvision(monkeypatch, download)
    assert len(load_images("mnist", tmp_path / "new").train) == 5


def test_downloads_go_to_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VR_CACHE", str(tmp_path / "mine"))
    stub_torchvision(monkeypatch, lambda root, download: write_mnist(Path(root), zipped=True))
    load_images("mnist")
    assert (tmp_path / "mine" / "MNIST").is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TaskError, match=r"cannot be kept in .* use --data-dir"):
        load_images("mnist", tmp_path / "new")


@pytest.mark.network
def test_mnist_from_its_mirror(tmp_path: Path) -> None:
    found = load_images("mnist", tmp_path)
    assert (len(found.train), float(found.train.pixels.double().mean()) / 255) == (
        60000,
        pytest.approx(0.1307, abs=1e-4),
    )


# -- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_offline")
def test_one_folder_per_class(tmp_path: Path) -> None:
    found = load_images(str(image_classes(tmp_path / "pets", {"cat": 4, "dog": 3})))
    assert (found.name, found.classes) == ("pets", ("cat", "dog"))
    assert found.train.pixels.shape == (7, 6, 8, 3)
    by_label = {int(label): [] for label in found.train.labels}
    for pixels, label in zip(found.train.pixels, found.train.labels.tolist(), strict=True):
        by_label[label].append(pixels.numpy().tobytes())
    assert sorted(by_label[0]) == sorted(np.asarray(picture(i)).tobytes() for i in range(4))
    assert sorted(by_label[1]) == sorted(np.asarray(picture(100 + i)).tobytes() for i in range(3))
    assert (found.val, found.test) == (None, None)


def test_splits_of_their_own_are_kept(tmp_path: Path) -> None:
    for split, counts in {"train": (3, 3), "validation": (2, 1), "test": (1, 2)}.items():
        image_classes(tmp_path / split, dict(zip("ab", counts, strict=True)))
    found = load_images(str(tmp_path))
    assert [len(part) for part in (found.train, found.val, found.test) if part is not None] == [6, 3, 3]


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (["no", "yes", "no"], ("no", "yes"), [0, 1, 0]),
        ([7, 3, 5], ("3", "5", "7"), [2, 0, 1]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
    ],
)
def test_labels_of_other_types(tmp_path: Path, labels: list[Any], classes: tuple[str, ...], numbers: list[int]) -> None:
    parquet(tmp_path / "train.parquet", {"picture": [picture(i) for i in range(3)], "kind": labels})
    found = load_images(str(tmp_path))
    assert found.classes == classes
    assert found.train.labels.tolist() == numbers


def test_class_names_come_from_the_data(tmp_path: Path) -> None:
    import datasets

    features = {
        "img": datasets.Image(),
        "id": datasets.Value("int64"),
        "label": datasets.ClassLabel(names=["x", "y", "z"]),
    }
    columns = {"img": [picture(i) for i in range(3)], "id": [5, 6, 7], "label": [2, 0, 2]}
    parquet(tmp_path / "train.parquet", columns, features)
    found = load_images(str(tmp_path))
    assert found.classes == ("x", "y", "z")
    assert found.train.labels.tolist() == [2, 0, 2]


def test_encoded_images_without_their_type(tmp_path: Path) -> None:
    def encoded(i: int) -> dict[str, Any]:
        buffer = io.BytesIO()
        picture(i).save(buffer, "png")
        return {"bytes": buffer.getvalue(), "path": f"{i}.png"}

    parquet(tmp_path / "train.parquet", {"image": [encoded(i) for i in range(3)], "label": [0, 1, 1]})
    found = load_images(str(tmp_path))
    assert np.array_equal(found.train.pixels[2].numpy(), np.asarray(picture(2)))


def test_a_test_split_without_labels_is_left_out(tmp_path: Path) -> None:
    import datasets

    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])}
    parquet(tmp_path / "train.parquet", {"image": [picture(i) for i in range(4)], "label": [0, 1, 0, 1]}, features)
    parquet(tmp_path / "test.parquet", {"image": [picture(9)], "label": [-1]}, features)
    assert load_images(str(tmp_path)).test is None


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    found = load_images(str(image_classes(tmp_path, {"a": 2, "b": 2}, mode="L")))
    assert found.train.pixels.shape == (4, 6, 8, 1)
    every = {pixels.numpy().tobytes() for pixels in found.train.pixels}
    assert np.asarray(picture(0, mode="L")).tobytes() in every


def test_one_colour_image_makes_all_of_them_colour(tmp_path: Path) -> None:
    image_classes(tmp_path, {"a": 2, "b": 2}, mode="L")
    picture(50, mode="RGB").save(tmp_path / "b" / "z.png")
    found = load_images(str(tmp_path))
    assert found.train.pixels.shape == (5, 6, 8, 3)
    every = {pixels.numpy().tobytes() for pixels in found.train.pixels}
    assert np.asarray(picture(0, mode="L").convert("RGB")).tobytes() in every


def test_transparent_images_lose_their_transparency(tmp_path: Path) -> None:
    found = load_images(str(image_classes(tmp_path, {"a": 2, "b": 2}, mode="RGBA")))
    assert found.train.pixels.shape == (4, 6, 8, 3)


# -- what is refused --------------------------------------------------------------------------------------------------


def refused(folder: Path) -> str:
    with pytest.raises(TaskError) as error:
        load_images(str(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_mixed_sizes_are_named(tmp_path: Path) -> None:
    image_classes(tmp_path, {"a": 3, "b": 1})
    picture(60, size=(10, 4)).save(tmp_path / "b" / "z.png")
    assert "different sizes: 8x6 (4), 10x4 (1); resize them to one" in refused(tmp_path)


def test_splits_of_different_sizes_are_named(tmp_path: Path) -> None:
    image_classes(tmp_path / "train", {"a": 2, "b": 2})
    image_classes(tmp_path / "test", {"a": 1, "b": 1}, size=(9, 9))
    assert "8x6 (4), 9x9 (2)" in refused(tmp_path)


def test_an_empty_folder(tmp_path: Path) -> None:
    assert f"no images can be read from {tmp_path}" in refused(tmp_path)


def test_a_folder_of_text(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("word,label\nhello,0\nbye,1\n")
    assert refused(tmp_path).endswith("its columns are word, label, none of them images")


def test_images_without_labels(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", {"image": [picture(i) for i in range(3)], "score": [0.1, 0.2, 0.3]})
    assert "no label column" in refused(tmp_path)


def test_several_columns_of_a_kind(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", {"image": [picture(i) for i in range(2)], "u": [0, 1], "v": [1, 0]})
    assert "several label columns (u, v); call the one to use 'label'" in refused(tmp_path)


def test_a_single_class(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", {"image": [picture(i) for i in range(2)], "label": ["same", "same"]})
    assert "single value, 'same'" in refused(tmp_path)


def test_an_image_that_cannot_be_decoded(tmp_path: Path) -> None:
    image_classes(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "b" / "z.png").write_bytes(b"not a png")
    message = refused(tmp_path)
    assert "z.png" in message
    assert "cannot be decoded" in message


def test_deep_images(tmp_path: Path) -> None:
    image_classes(tmp_path, {"a": 2, "b": 2})
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(tmp_path / "b" / "z.png")
    assert "more than 8 bits" in refused(tmp_path)


# -- what is kept of a folder -----------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose images are in the cache, and nothing that could decode them."""
    folder = image_classes(tmp_path / "pets", {"cat": 4, "dog": 3})
    load_images(str(folder))

    def fail(path: Path) -> dict[str, np.ndarray]:
        raise AssertionError("decoded again")

    monkeypatch.setattr(folders, "_decode_folder", fail)
    return folder


def cached() -> list[Path]:
    return sorted((data.cache_dir() / "images").iterdir())


def test_a_second_load_decodes_nothing(kept: Path) -> None:
    found = load_images(str(kept))
    assert found.classes == ("cat", "dog")
    assert len(found.train) == 7
    assert len(cached()) == 1


def test_the_kept_images_are_the_decoded_ones(tmp_path: Path) -> None:
    folder = image_classes(tmp_path / "pets", {"cat": 4, "dog": 3})
    first, second = (load_images(str(folder)) for _ in range(2))
    assert torch.equal(first.train.pixels, second.train.pixels)
    assert torch.equal(first.train.labels, second.train.labels)


@pytest.mark.parametrize("change", ["content", "new", "gone"])
def test_a_changed_folder_is_decoded_again(kept: Path, change: str) -> None:
    if change == "content":
        os.utime(kept / "cat" / "0.png", ns=(1, 1))
    elif change == "new":
        picture(7).save(kept / "cat" / "new.png")
    else:
        (kept / "cat" / "0.png").unlink()
    with pytest.raises(AssertionError, match="decoded again"):
        load_images(str(kept))


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "nonsense"])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: str) -> None:
    folder = image_classes(tmp_path / "pets", {"cat": 4, "dog": 3})
    right = load_images(str(folder))
    (file,) = cached()
    content = bytearray(file.read_bytes())
    where = content.index(right.train.pixels.numpy().tobytes())
    content[where + 10] ^= 0xFF
    file.write_bytes(
        {"empty": b"", "cut": file.read_bytes()[:-100], "flipped": bytes(content), "nonsense": b"x" * 999}[damage]
    )
    assert torch.equal(load_images(str(folder)).train.pixels, right.train.pixels)
    assert file.read_bytes() != bytes(content)
    assert torch.equal(load_images(str(folder)).train.pixels, right.train.pixels)


def test_earlier_states_of_a_folder_are_not_kept(tmp_path: Path) -> None:
    folder = image_classes(tmp_path / "pets", {"cat": 4, "dog": 3})
    other = image_classes(tmp_path / "else" / "pets", {"cat": 2, "dog": 2})
    load_images(str(folder))
    load_images(str(other))
    before = cached()
    picture(7).save(folder / "cat" / "new.png")
    assert len(load_images(str(folder)).train) == 8
    assert len(cached()) == len(before) == 2
    assert cached() != before


def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VR_CACHE", str(tmp_path / "file"))
    assert len(load_images(str(image_classes(tmp_path / "pets", {"cat": 4, "dog": 3}))).train) == 7


@pytest.mark.slow
def test_importing_the_loaders_is_cheap() -> None:
    code = (
        "import sys; from vrcli.tasks import data; data.digits();"
        "print([m for m in ('torchvision', 'datasets', 'pandas', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
