"""The cnn task: augmentation against one image at a time, the two networks, the criteria, presets, learning."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from vrcli.engine.events import Ended
from vrcli.engine.loop import train
from vrcli.engine.prepare import prepare
from vrcli.settings import resolve
from vrcli.tasks.base import Split, Splits
from vrcli.tasks.cnn import Cnn, CnnConfig, Normalise, reference_cnn
from vrcli.tasks.images import Images, ImageSet, augment, channel_statistics
from vrcli.tasks.resnet import ResidualBlock, resnet18, resnet32


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(seed))


def loaded(**settings: Any) -> tuple[Cnn, Splits]:
    task = Cnn(CnnConfig(**settings))
    return task, task.data(generator())


@pytest.fixture
def _cifar_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 random colour images of 16x16 in ten classes, under the name of any data set."""
    images = Images(noise(100, 16, 16, 3), torch.arange(100) % 10)
    test = Images(noise(20, 16, 16, 3, seed=1), torch.arange(20) % 10)
    found = ImageSet("cifar10", images, tuple("abcdefghij"), test=test)
    monkeypatch.setattr("vrcli.tasks.cnn.load_images", lambda dataset, data_dir: found)


# -- augmentation -----------------------------------------------------------------------------------------------------


def one_by_one(pixels: Tensor, flip: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """The same crops and flips, one image at a time."""
    height, width = pixels.shape[1:3]
    result = []
    for image, mirrored, y, x in zip(pixels.numpy(), flip.tolist(), top.tolist(), left.tolist(), strict=True):
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        cropped = padded[y : y + height, x : x + width]
        result.append(cropped[:, ::-1] if mirrored else cropped)
    return torch.from_numpy(np.stack(result).copy())


@pytest.mark.parametrize("shape", [(64, 32, 32, 3), (33, 8, 8, 1), (5, 4, 9, 3)])
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("flip", [False, True])
def test_augmentation_is_a_crop_and_a_flip_of_each_image(
    shape: tuple[int, int, int, int], padding: int, flip: bool
) -> None:
    pixels = noise(*shape)
    found = augment(pixels, generator(7), flip=flip, padding=padding)
    g, b = generator(7), len(pixels)
    mirrored = torch.rand(b, 1, generator=g)[:, 0] < 0.5 if flip else torch.zeros(b, dtype=torch.bool)
    top, left = torch.randint(2 * padding + 1, (2, b, 1), generator=g)[:, :, 0] if padding else torch.zeros(2, b).long()
    assert torch.equal(found, one_by_one(pixels, mirrored, top, left, padding))


def test_every_offset_and_both_orientations_occur_equally_often() -> None:
    # A white pixel in the middle of a 5x5 image tells where the crop was.
    pixels = torch.zeros(20_000, 5, 5, 1, dtype=torch.uint8)
    pixels[:, 2, 2] = 255
    pixels[:, 2, 1] = 100  # lies left of it unless mirrored
    found = augment(pixels, generator(), flip=True, padding=1).squeeze(3)
    white = (found == 255).flatten(1).long().argmax(1)
    counts = white.bincount(minlength=25).view(5, 5)[1:4, 1:4]
    assert counts.sum() == 20_000
    assert (counts - 20_000 / 9).abs().max() < 4 * math.sqrt(20_000 / 9)
    mirrored = (found == 100).flatten(1).long().argmax(1) > white
    assert abs(mirrored.float().mean().item() - 0.5) < 4 * 0.5 / math.sqrt(20_000)


def test_without_augmentation_nothing_is_drawn_or_copied() -> None:
    g, pixels = generator(3), noise(4, 8, 8, 1)
    state = g.get_state()
    assert augment(pixels, g, flip=False, padding=0) is pixels
    assert torch.equal(g.get_state(), state)


def test_training_batches_are_augmented_and_evaluation_is_not() -> None:
    task, data = loaded(crop_padding=2)
    index = torch.arange(50)
    first, again, other = (task.train_batch(data.train, index, generator(s))[0] for s in (1, 1, 2))
    plain = data.train.tensors[0][index]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, plain)
    assert torch.equal(data.val.tensors[0], loaded()[1].val.tensors[0])


class Recorder(nn.Module):
    """Keeps the pixels it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(10))
        self.seen: list[Tensor] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.seen.append(pixels)
        return self.weight.expand(len(pixels), -1)


def test_the_released_fault_augments_the_validation_images_only_and_anew_for_other_weights() -> None:
    task, data = loaded(crop_padding=2, augment_validation=True)
    model = Recorder()

    def shown(split: Split) -> Tensor:
        model.seen.clear()
        task.evaluate(model, split)
        return torch.cat(model.seen)

    for split in (data.train, data.test):
        assert torch.equal(shown(split), split.tensors[0])
    first, again = shown(data.val), shown(data.val)
    nn.init.ones_(model.weight)
    other = shown(data.val)
    assert torch.equal(first, again)
    unchanged = [
        (a == b).flatten(1).all(1).double().mean() for a, b in combinations((data.val.tensors[0], first, other), 2)
    ]
    assert max(unchanged) < 0.1  # 25 crops, of which some agree where the digit leaves an edge free
    assert loaded()[1].fingerprint() != data.fingerprint()


# -- normalisation ----------------------------------------------------------------------------------------------------


def test_channel_statistics_are_those_of_the_float_images() -> None:
    pixels = (noise(9000, 3, 2, 3).float() * torch.tensor([1.0, 0.5, 0.1])).byte()
    mean, std = channel_statistics(pixels)
    reference = pixels.double() / 255
    assert mean == pytest.approx(reference.mean((0, 1, 2)).tolist(), rel=1e-12)
    assert std == pytest.approx(reference.std((0, 1, 2), correction=0).tolist(), rel=1e-9)


@pytest.mark.parametrize("channels_last", [False, True])
def test_training_images_are_normalised(channels_last: bool) -> None:
    pixels = noise(500, 6, 4, 3) // torch.tensor([1, 2, 4], dtype=torch.uint8)
    images = Normalise(*channel_statistics(pixels), width=4, channels_last=channels_last)(pixels)
    assert images.shape == (500, 3, 6, 4)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert images.is_contiguous(memory_format=layout)
    assert images.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    assert images.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-4)


def test_an_image_without_contrast_stays_finite() -> None:
    pixels = torch.full((4, 8, 8, 1), 7, dtype=torch.uint8)
    assert torch.isfinite(Normalise(*channel_statistics(pixels), width=8, channels_last=True)(pixels)).all()


@pytest.mark.usefixtures("_cifar_like")
def test_the_usual_constants_of_cifar10() -> None:
    task, data = loaded(normalisation="cifar10")
    images = task.model(data)[0](data.test.tensors[0])
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
    std = torch.tensor([0.247, 0.243, 0.261]).view(3, 1, 1)
    expected = (data.test.tensors[0].permute(0, 3, 1, 2) / 255 - mean) / std
    torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-5)


# -- networks ---------------------------------------------------------------------------------------------------------


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_the_reference_network_has_the_papers_shape() -> None:
    network = reference_cnn((32, 32, 3), 64, 512, 10)
    convolutions = [m for m in network if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 64, 128, 128, 256, 256]
    assert {c.kernel_size for c in convolutions} == {(3, 3)}
    assert [(m.in_features, m.out_features) for m in network if isinstance(m, nn.Linear)] == [(4096, 512), (512, 10)]
    # 3x3 kernels with bias, two parameters of batch norm per channel, two linear layers
    pairs = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    expected = sum(9 * a * b + 3 * b for a, b in pairs) + 4096 * 512 + 512 + 512 * 10 + 10
    assert count(network) == expected == 3_249_994


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (5, 7, 3), (1, 1, 1)])
@pytest.mark.parametrize("model", ["cnn", "resnet32", "resnet18"])
def test_networks_take_images_of_any_size(shape: tuple[int, int, int], model: str) -> None:
    height, width, channels = shape
    makers = {
        "cnn": lambda: reference_cnn(shape, 4, 8, 7),
        "resnet32": lambda: resnet32(channels, 7),
        "resnet18": lambda: resnet18(channels, 7, 4),
    }
    network = makers[model]()
    assert network.eval()(torch.randn(2, channels, height, width)).shape == (2, 7)


def test_resnet32_has_its_published_size() -> None:
    network = resnet32(3, 10)
    weighted = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == 32
    assert count(network) == 464_154
    shapes = []
    network.eval()
    x = torch.randn(1, 3, 32, 32)
    for layer in network[:-2]:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert list(dict.fromkeys(shapes)) == [(16, 32, 32), (32, 16, 16), (64, 8, 8), (64, 1, 1)]


def test_resnet18_has_its_published_size() -> None:
    network = resnet18(3, 10, 64)
    weighted = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == 18 + 3  # and the projections
    assert count(network) == 11_173_962
    request = resolve(Cnn, "flowadam", preset="resnet18").request
    assert (request.training.epochs, request.training.batch_size) == (50, 128)
    assert (request.optimizer_settings["lr"], request.optimizer_settings["mode"]) == (1e-3, "a")


@pytest.mark.parametrize(("criterion", "guess"), [("cross-entropy", math.log(10)), ("mse", 0.5)])
def test_an_untrained_resnet32_guesses(criterion: str, guess: float) -> None:
    task, data = loaded(model="resnet32", criterion=criterion)
    torch.manual_seed(0)
    loss = task.loss(task.model(data).train(), data.train.take(torch.arange(128)))
    assert loss.item() == pytest.approx(guess, rel=0.4)


def test_a_shrinking_shortcut_subsamples_and_pads_with_zeros() -> None:
    block = ResidualBlock(16, 32, stride=2).eval()
    nn.init.zeros_(block.norm2.weight)  # only the shortcut is left
    x = torch.randn(2, 16, 8, 8)
    out = block(x)
    assert torch.equal(out[:, 8:24], F.relu(x[:, :, ::2, ::2]))
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


@pytest.mark.parametrize("model", ["cnn", "resnet32", "resnet18"])
def test_the_memory_layout_does_not_change_the_function(model: str) -> None:
    results = []
    for channels_last in (True, False):
        task, data = loaded(model=model, channels=4, hidden=8, channels_last=channels_last)
        torch.manual_seed(0)
        network = task.model(data)
        weights = [p for p in network.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
        assert all(p.is_contiguous(memory_format=torch.channels_last) == channels_last for p in weights)
        loss = task.loss(network, data.train.take(torch.arange(32)))
        loss.backward()
        results.append((loss.detach(), [p.grad for p in network.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)


# -- criteria and metrics ---------------------------------------------------------------------------------------------


class Constant(nn.Module):
    """The same logits for every image."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.logits.expand(len(pixels), -1)


@pytest.mark.parametrize("criterion", ["cross-entropy", "mse"])
def test_loss_and_accuracy_of_known_logits(criterion: str) -> None:
    task, data = loaded(criterion=criterion)
    logits = torch.linspace(-1, 2, 10)
    found = task.evaluate(Constant(logits), data.val)
    labels = data.val.tensors[1]
    share = labels.bincount(minlength=10).double() / len(labels)
    if criterion == "mse":
        errors = [((logits.double() - F.one_hot(torch.tensor(k), 10)) ** 2).sum() / 2 for k in range(10)]
    else:
        errors = [-torch.log_softmax(logits.double(), 0)[k] for k in range(10)]
    assert found["loss"] == pytest.approx(float(share @ torch.stack(errors)), rel=1e-5)
    assert found["accuracy"] == pytest.approx(float(share[9]))
    assert task.loss(Constant(logits), data.val.take(torch.arange(len(labels)))).item() == pytest.approx(found["loss"])


def test_the_squared_error_starts_at_one_half_for_a_zero_output() -> None:
    task, data = loaded(criterion="mse")
    assert task.evaluate(Constant(torch.zeros(10)), data.val)["loss"] == pytest.approx(0.5)


def test_metrics_do_not_depend_on_the_evaluation_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    task, data = loaded(channels=4, hidden=8)
    torch.manual_seed(0)
    network = task.model(data).eval()
    found = []
    for size in (7, 100, 10_000):
        monkeypatch.setattr("vrcli.tasks.cnn._EVALUATION_PIXELS", 64 * size)
        with torch.no_grad():
            found.append(task.evaluate(network, data.val))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0] == pytest.approx(found[2], rel=1e-5)


# -- presets ----------------------------------------------------------------------------------------------------------


def test_the_paper_preset_is_the_papers() -> None:
    resolved = resolve(Cnn, "vradam", preset="paper").request
    t, o = resolved.training, resolved.optimizer_settings
    assert (t.epochs, t.batch_size, t.schedule, t.warmup_epochs, t.warmup_factor, t.eta_min) == (
        100, 1024, "warmup-cosine", 5, 0.1, 1e-5,
    )  # fmt: skip
    assert (o["lr"], o["beta3"], o["normgrad"], o["lr_cutoff"], o["weight_decay"]) == (0.0846, 1.015, True, 29, 1e-5)
    assert not resolved.task_settings["augment_validation"]
    rates = {
        name: resolve(Cnn, name, preset="paper").request.optimizer_settings for name in ("adamw", "sgd", "rmsprop")
    }
    assert {name: o["lr"] for name, o in rates.items()} == {"adamw": 0.0625, "sgd": 0.00784, "rmsprop": 1.78e-4}
    assert {o["weight_decay"] for o in rates.values()} == {1e-5}
    assert (rates["sgd"]["momentum"], rates["sgd"]["nesterov"], rates["rmsprop"]["alpha"]) == (0.9, True, 0.99)


def test_the_released_preset_has_the_released_faults() -> None:
    resolved = resolve(Cnn, "adam", preset="released").request
    assert resolved.task_settings["augment_validation"]
    assert resolved.training.schedule == "constant"
    assert (resolved.optimizer_settings["lr"], resolved.optimizer_settings["weight_decay"]) == (0.0625, 1e-5)
    o = resolve(Cnn, "rmsprop", preset="released").request.optimizer_settings
    assert (o["lr"], o["alpha"], o["momentum"], o["weight_decay"]) == (1.78e-4, 0.99, 0.2, 1e-5)
    assert resolve(Cnn, "rmsprop", preset="paper").request.optimizer_settings["momentum"] == 0


@pytest.mark.parametrize("name", ["channels", "hidden", "crop_padding", "normalisation"])
def test_the_released_code_states_what_the_paper_leaves_open(name: str) -> None:
    paper, released = (Cnn.presets[preset].settings[name] for preset in ("paper", "released"))
    assert paper.value == released.value
    assert (paper.kind, released.kind) == ("assumed", "stated")


def test_the_eos_preset_is_table_15() -> None:
    resolved = resolve(Cnn, "vradam", preset="eos").request
    t, o, c = resolved.training, resolved.optimizer_settings, resolved.task_settings
    assert (c["model"], c["criterion"]) == ("resnet32", "mse")
    assert (t.batch_size, t.max_steps, t.stop_loss, t.stop_accuracy) == (1000, 20_000, 0.1, 0.97)
    assert (o["lr"], o["beta3"], o["lr_cutoff"], o["eps"], o["normgrad"]) == (0.002, 1, 19, 1e-7, False)
    assert t.epochs * math.ceil(40_000 / t.batch_size) >= t.max_steps


# -- learning ---------------------------------------------------------------------------------------------------------


def run(preset: str, optimizer: str, seed: int = 0, **flags: Any) -> dict[str, float]:
    resolved = resolve(Cnn, optimizer, preset=preset, flags=flags, seed=seed, threads=1)
    *_, ended = train(prepare(resolved.request, Cnn))
    assert isinstance(ended, Ended)
    assert ended.status == "completed"
    return dict(ended.results)


def linear_loss(data: Splits, weight: float) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    def arrays(split: Any) -> tuple[np.ndarray, np.ndarray]:
        return split.tensors[0].flatten(1).numpy() / 255, split.tensors[1].numpy()

    fitted = LogisticRegression(C=weight, max_iter=2000).fit(*arrays(data.train))
    x, y = arrays(data.val)
    return float(log_loss(y, fitted.predict_proba(x)))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["vradam", "adamw", "sgd"])
def test_quick_is_clearly_better_than_a_linear_classifier(optimizer: str) -> None:
    _, data = loaded()
    # The linear classifier gets the best of its regularisations, chosen on the same validation images.
    linear = min(linear_loss(data, weight) for weight in (1, 10, 30, 100))
    assert run("quick", optimizer)["best_val_loss"] < 0.8 * linear


@pytest.mark.parametrize("model", ["cnn", "resnet32", "resnet18"])
def test_a_short_run_learns_a_folder_of_images(model: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, channel in (("red", 0), ("green", 1)):
        (tmp_path / name).mkdir()
        for i in range(40):
            pixels = rng.integers(0, 120, (12, 10, 3), dtype=np.uint8)
            pixels[..., channel] += 60
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    flags = {"dataset": str(tmp_path), "model": model, "epochs": 6, "batch_size": 16, "flip": True, "crop_padding": 1}
    found = run("smoke", "adamw", **flags)
    assert found["best_val_loss"] < 0.35
    assert found["test_accuracy"] > 0.8


@pytest.mark.usefixtures("_cifar_like")
def test_the_eos_preset_runs_and_stops_at_its_targets() -> None:
    few = {"epochs": 2, "batch_size": 40}
    found = run("eos", "vradam", **few)
    assert found["steps"] == 4
    assert math.isfinite(found["final_train_loss"])
    assert run("eos", "vradam", **few, stop_loss=1e3)["steps"] == 2
    assert run("eos", "vradam", **few, stop_accuracy=1e-3)["steps"] == 2
