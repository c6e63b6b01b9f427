"""The diffusion task: network, noise schedule, losses on fixed noise, ancestral sampling and sample grids."""

from __future__ import annotations

import gzip
import io
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from vrcli.bench.plain_diffusion import plain, predict
from vrcli.tasks.base import Split, Splits, TaskError
from vrcli.tasks.diffusion import Diffusion, NoiseSchedule, ancestral_samples, linear_schedule, png_grid
from vrcli.tasks.unet import Conv3x3, SelfAttention, TimeEmbedding, UNet

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def unet(shape: tuple[int, int, int] = (1, 8, 8), depth: int = 2, base: int = 8) -> UNet:
    return UNet(shape, base=base, depth=depth, time_dim=32, dropout=0.1)


def diffusion(data_dir: Path | None = None, **settings) -> Diffusion:
    return Diffusion(Diffusion.Config(**{"base": 8, "time_dim": 32, **settings}), data_dir=data_dir)


def data_of(task: Diffusion, seed: int = 0) -> Splits:
    return task.data(torch.Generator().manual_seed(seed))


# -- the network ------------------------------------------------------------------------------------------------------


def test_the_papers_network_has_as_many_parameters_as_the_authors():
    settings = Diffusion.presets["paper"].settings
    sizes = {key: settings[key].value for key in ("base", "depth", "time_dim", "dropout")}
    with torch.device("meta"):
        model = UNet((1, 28, 28), **sizes)
    assert sum(p.numel() for p in model.parameters()) == 75_313_249


def written_out(w: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
    """The released code's network of four levels, layer by layer, from its description: no dropout, no module of ours.

    Args:
        w: weights by name.
    """
    base, time_dim = w["stem.bias"].numel(), w["time.mlp.2.bias"].numel()

    def norm(name: str, h: Tensor) -> Tensor:
        return F.group_norm(h, 8, w[f"{name}.weight"], w[f"{name}.bias"])

    def conv(name: str, h: Tensor, padding: int = 1) -> Tensor:
        return F.conv2d(h, w[f"{name}.weight"], w[f"{name}.bias"], padding=padding)

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    angles = [t * math.exp(-math.log(10_000) * k / (time_dim // 8 - 1)) for k in range(time_dim // 8)]
    sinusoids = torch.stack([a.sin() for a in angles] + [a.cos() for a in angles], dim=1)
    time = linear("time.mlp.2", F.silu(linear("time.mlp.0", sinusoids)))

    def block(name: str, h: Tensor, width: int) -> Tensor:
        out = conv(f"{name}.conv1", F.silu(norm(f"{name}.norm1", h)))
        out = out + F.silu(linear(f"{name}.time", time)).reshape(len(x), width, 1, 1)
        out = conv(f"{name}.conv2", F.silu(norm(f"{name}.norm2", out)))
        return out + (h if h.shape[1] == width else conv(f"{name}.shortcut", h, 0))

    def attend(name: str, h: Tensor) -> Tensor:
        q, k, v = conv(f"{name}.qkv", norm(f"{name}.norm", h), 0).flatten(2).chunk(3, dim=1)  # (B, C, N) each
        heads = []
        for q1, k1, v1 in zip(q.chunk(4, dim=1), k.chunk(4, dim=1), v.chunk(4, dim=1), strict=True):
            scores = torch.einsum("bcn,bcm->bnm", q1, k1) * q1.shape[1] ** -0.5
            heads.append(torch.einsum("bnm,bcm->bcn", scores.softmax(2), v1))
        return h + conv(f"{name}.out", torch.cat(heads, dim=1).reshape(h.shape), 0)

    h = conv("stem", x)
    skips = []
    for level, factor in enumerate((2, 4, 8, 8)):
        skips.append(block(f"down.{level}", h, factor * base))
        h = F.max_pool2d(skips[-1], 2)
    h = block("middle2", attend("middle_attention", block("middle1", h, 8 * base)), 8 * base)
    for level, (skip, factor) in enumerate(zip(reversed(skips), (8, 4, 2, 1), strict=True)):
        h = torch.cat((F.interpolate(h, skip.shape[2:]), skip), dim=1)
        h = block(f"up.{level}", h, factor * base)
        h = attend(f"up_attention.{level}", h) if level < 2 else h
    return conv("head", F.silu(norm("head_norm", h)))


def test_the_network_is_the_released_codes_written_out():
    model = UNet((1, 28, 28), base=8, depth=4, time_dim=128, dropout=0.1).eval()
    with torch.no_grad():
        for p in model.parameters():  # norms and biases, too, are of their own
            p.add_(0.1 * torch.randn_like(p))
        x, t = torch.randn(3, 1, 28, 28), torch.tensor([0, 17, 399])
        expected = written_out(dict(model.named_parameters()), x, t)
        found = model.to(memory_format=torch.channels_last)(x, t)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "depth"),
    [((1, 8, 8), 2), ((1, 8, 8), 3), ((1, 28, 28), 4), ((3, 32, 32), 4), ((3, 33, 47), 4), ((1, 5, 2), 1)],
)
def test_the_prediction_has_the_shape_of_the_image(shape: tuple[int, int, int], depth: int):
    model = unet(shape, depth).to(memory_format=torch.channels_last)
    out = model(torch.randn(2, *shape), torch.tensor([0, 399]))
    assert out.shape == (2, *shape)
    out.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_prediction_depends_on_the_timestep_and_on_every_pixel():
    model = unet((1, 8, 8)).eval()
    x = torch.randn(1, 1, 8, 8, requires_grad=True)
    near, far = model(x, torch.tensor([3])), model(x, torch.tensor([300]))
    assert (near - far).abs().max() > 1e-3
    (gradient,) = torch.autograd.grad(near[0, 0, 0, 0], x)
    assert (gradient != 0).all()


def test_samples_of_a_batch_do_not_mix():
    model = unet((1, 8, 8)).eval()
    x, t = torch.randn(3, 1, 8, 8), torch.tensor([1, 50, 399])
    apart = torch.cat([model(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(model(x, t), apart, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_convolution_of_a_single_pixel_is_the_padded_one(size: int):
    fast, slow = Conv3x3(4, 6), nn.Conv2d(4, 6, 3, padding=1)
    slow.load_state_dict(fast.state_dict())
    x = torch.randn(3, 4, size, size)
    torch.testing.assert_close(fast(x), slow(x))
    fast(x).square().sum().backward()
    slow(x).square().sum().backward()
    torch.testing.assert_close(fast.weight.grad, slow.weight.grad)


def test_attention_is_torchs_multi_head_attention():
    ours = SelfAttention(16)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight[:, :, 0, 0])
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.out.weight[:, :, 0, 0])
        theirs.out_proj.bias.copy_(ours.out.bias)
    x = torch.randn(2, 16, 3, 5)
    normed = ours.norm(x).flatten(2).transpose(1, 2)
    expected = x.flatten(2).transpose(1, 2) + theirs(normed, normed, normed)[0]
    torch.testing.assert_close(ours(x).flatten(2).transpose(1, 2), expected)


def test_the_time_embedding_starts_from_sinusoids_with_a_quarter_of_its_width():
    embedding = TimeEmbedding(32)
    seen: list[Tensor] = []
    embedding.mlp.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    embedding(torch.tensor([0, 7]))
    rates = [10_000 ** (-i / 3) for i in range(4)]
    expected = [math.sin(7 * r) for r in rates] + [math.cos(7 * r) for r in rates]
    assert seen[0].shape == (2, 8)
    assert seen[0][0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert seen[0][1].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_plain_benchmark_predicts_the_same_and_learns():
    model = unet((1, 28, 28), 4).eval()
    x, t = torch.randn(2, 1, 28, 28), torch.tensor([5, 200])
    torch.testing.assert_close(predict(model, x, t), model(x, t), rtol=1e-4, atol=1e-5)
    task = diffusion()
    steps = plain(task, data_of(task), 32, 0)
    losses = [next(steps) for _ in range(60)]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_bfloat16_predicts_nearly_the_same():
    model = unet((1, 8, 8)).eval()
    x, t = torch.randn(4, 1, 8, 8), torch.tensor([0, 5, 100, 399])
    exact = model(x, t)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(x, t)
    assert (rough - exact).abs().max() < 0.1 * exact.std()


# -- noise schedule and forward process -------------------------------------------------------------------------------


def test_the_schedule_is_linear_in_beta():
    schedule = linear_schedule(400, 1e-4, 0.02, CPU)
    betas = [1e-4 + i * (0.02 - 1e-4) / 399 for i in range(400)]
    kept = math.prod(1 - beta for beta in betas)
    assert schedule.beta.tolist() == pytest.approx(betas, rel=1e-6)
    assert schedule.alpha_bar[0].item() == pytest.approx(1 - 1e-4, rel=1e-6)
    assert schedule.alpha_bar[399].item() == pytest.approx(kept, rel=1e-5)
    assert 0.01 < kept < 0.02


def test_the_variance_of_a_step_back_is_the_posteriors():
    """x_0 is known, x_1 is drawn from it and x_2 from x_1: what x_2 leaves open of x_1 is a regression's residual."""
    schedule = linear_schedule(2, 0.2, 0.5, CPU)
    n = 200_000
    first = math.sqrt(0.2) * torch.randn(n)
    second = math.sqrt(0.5) * first + math.sqrt(0.5) * torch.randn(n)
    slope = (first * second).mean() / second.square().mean()
    residual = (first - slope * second).square().mean()
    assert schedule.posterior[1].item() == pytest.approx(residual.item(), rel=5 * math.sqrt(2 / n))
    assert schedule.posterior[0] == 0


def test_noising_at_once_has_the_moments_of_noising_step_by_step():
    schedule = linear_schedule(30, 1e-3, 0.2, CPU)
    n, start, last = 40_000, 0.8, 17
    x = torch.full((n,), start)
    for beta in schedule.beta[: last + 1]:
        x = (1 - beta).sqrt() * x + beta.sqrt() * torch.randn(n)
    images = torch.full((n, 1, 1, 1), start)
    direct = schedule.noised(images, torch.full((n,), last), torch.randn(n, 1, 1, 1)).flatten()
    error = 4 * math.sqrt(2) * x.std().item() / math.sqrt(n)
    assert direct.mean().item() == pytest.approx(x.mean().item(), abs=error)
    assert direct.std().item() == pytest.approx(x.std().item(), abs=error)


def exact_noise(schedule: NoiseSchedule, mean: float, variance: float):
    """E[noise | x_t] for images whose pixels are independent N(mean, variance)."""

    def predict(x: Tensor, t: Tensor) -> Tensor:
        kept = schedule.alpha_bar[t].view(-1, 1, 1, 1)
        return (1 - kept).sqrt() * (x - kept.sqrt() * mean) / (kept * variance + 1 - kept)

    return predict


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.5, 0.25), (-0.7, 0.01)])
def test_samples_from_the_exact_noise_have_the_datas_mean_and_variance(mean: float, variance: float):
    schedule = linear_schedule(1000, 1e-4, 0.02, CPU)  # enough small steps for the Gaussian approximation of each
    n = 20_000
    x = ancestral_samples(exact_noise(schedule, mean, variance), (n, 1, 1, 1), schedule).flatten()
    assert x.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / n) + 0.005)
    assert x.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / n) + 0.03)


def test_samples_follow_the_reverse_chains_own_moments():
    mean, variance, n = 0.4, 0.3, 100_000
    schedule = linear_schedule(20, 1e-3, 0.5, CPU)  # so coarse that the chain misses the data's moments
    m, v, kept = 0.0, 1.0, schedule.alpha_bar.double().tolist()
    for step in range(19, -1, -1):
        beta = schedule.beta[step].item()
        total = kept[step] * variance + 1 - kept[step]  # variance of x_t
        # x - beta / sqrt(1 - kept) eps, with eps = sqrt(1 - kept) (x - sqrt(kept) mean) / total
        shrink = (1 - beta / total) / math.sqrt(1 - beta)
        m = shrink * m + beta * math.sqrt(kept[step]) * mean / total / math.sqrt(1 - beta)
        v = shrink**2 * v + (beta * (1 - kept[step - 1]) / (1 - kept[step]) if step else 0.0)
    assert abs(v - variance) > 0.02
    x = ancestral_samples(exact_noise(schedule, mean, variance), (n, 1, 1, 1), schedule).flatten()
    assert x.mean().item() == pytest.approx(m, abs=5 * math.sqrt(v / n))
    assert x.var().item() == pytest.approx(v, rel=5 * math.sqrt(2 / n))


# -- data -------------------------------------------------------------------------------------------------------------


def test_digits_are_split_into_images_with_fixed_noise():
    data = data_of(diffusion())
    sizes = [len(split) for split in (data.train, data.val, data.test)]
    assert sum(sizes) == 1797
    assert sizes[1] / (sizes[0] + sizes[1]) == pytest.approx(0.1, abs=1e-3)
    assert [len(split.tensors) for split in (data.train, data.val, data.test)] == [1, 3, 3]
    images, t, noise = data.test.tensors
    assert images.shape == noise.shape == (sizes[2], 1, 8, 8)
    assert images.dtype == torch.uint8
    assert t.dtype == torch.int64
    assert images.max() == 255
    assert data.info["image_shape"] == (1, 8, 8)


def test_the_fixed_timesteps_are_spread_evenly_and_in_random_order():
    for timesteps in (400, 7):
        t = data_of(diffusion(timesteps=timesteps, beta_end=0.3)).test.tensors[1]
        assert t.min() >= 0
        assert t.max() < timesteps
        assert t.double().mean().item() == pytest.approx((timesteps - 1) / 2, abs=0.6)
        counts = t.bincount(minlength=timesteps)
        assert counts.max() - counts.min() <= 1
        assert not torch.equal(t, t.sort().values)


def test_the_fixed_noise_depends_on_the_split_seed_alone():
    first = data_of(diffusion(), seed=3)
    torch.manual_seed(99)
    again, other = data_of(diffusion(), seed=3), data_of(diffusion(), seed=4)
    assert first.fingerprint() == again.fingerprint()
    assert first.fingerprint() != other.fingerprint()
    noise = first.test.tensors[2]
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(1, abs=0.03)


def write_mnist(folder: Path, *, zipped: bool) -> np.ndarray:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = {"train": rng.integers(0, 256, (100, 28, 28)), "t10k": rng.integers(0, 256, (20, 28, 28))}
    for part, values in pixels.items():
        images = struct.pack(">iiii", 2051, *values.shape) + values.astype(np.uint8).tobytes()
        labels = struct.pack(">ii", 2049, len(values)) + bytes(i % 10 for i in range(len(values)))
        for stem, content in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            path = raw / (f"{stem}.gz" if zipped else stem)
            path.write_bytes(gzip.compress(content) if zipped else content)
    return pixels["t10k"].astype(np.uint8)


@pytest.mark.parametrize("zipped", [True, False])
def test_mnist_is_read_from_the_data_folder(tmp_path: Path, zipped: bool):
    test_pixels = write_mnist(tmp_path, zipped=zipped)
    data = data_of(diffusion(tmp_path, dataset="mnist", depth=4))
    assert (len(data.train), len(data.val), len(data.test)) == (90, 10, 20)
    assert np.array_equal(data.test.tensors[0][:, 0].numpy(), test_pixels)
    assert data.dataset == "mnist"


def test_a_folder_of_colour_images_is_trained_on(tmp_path: Path):
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(12):
            Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(tmp_path / label / f"{i}.png")
    task = diffusion(dataset=str(tmp_path))
    data = data_of(task)
    model = task.model(data)
    assert model.image_shape == (3, 12, 10)
    assert task.loss(model, task.train_batch(data.train, torch.arange(4), torch.Generator())).isfinite()


def test_images_too_small_for_the_network_are_refused():
    with pytest.raises(TaskError, match=r"8x8 images cannot be halved 4 times"):
        data_of(diffusion(depth=4))


def test_a_falling_noise_schedule_is_refused():
    with pytest.raises(ValueError, match="must not be below beta_start"):
        Diffusion.Config(beta_start=0.02, beta_end=1e-4)


# -- loss and metrics -------------------------------------------------------------------------------------------------


class Constant(nn.Module):
    """Predicts zero noise, whatever it is shown, and keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 1, 3)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.seen.append((x, t))
        return torch.zeros_like(x)


def test_the_loss_is_the_mean_squared_error_of_the_noise():
    task, model = diffusion(), Constant()
    split = data_of(task).test
    images, t, noise = split.tensors
    assert task.evaluate(model, split) == {"loss": pytest.approx(noise.square().mean().item(), rel=1e-6)}
    x = torch.cat([seen[0] for seen in model.seen])
    kept = torch.tensor(np.cumprod(1 - np.linspace(1e-4, 0.02, 400)), dtype=torch.float32)[t].view(-1, 1, 1, 1)
    expected = kept.sqrt() * (images / 255 * 2 - 1) + (1 - kept).sqrt() * noise
    torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(torch.cat([seen[1] for seen in model.seen]), t)


def test_the_training_loss_draws_from_the_global_generator():
    task, model = diffusion(timesteps=11, beta_end=0.3), Constant()
    images = torch.full((6000, 1, 8, 8), 128, dtype=torch.uint8)
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(task.loss(model, (images,)).item())
    assert losses[0] == losses[1] != losses[2]
    assert losses[0] == pytest.approx(1, abs=0.02)
    counts = model.seen[0][1].bincount(minlength=11)
    assert (counts - 6000 / 11).abs().max() < 5 * math.sqrt(6000 / 11)


@pytest.mark.parametrize("base", [8, 32])
def test_an_untrained_network_has_a_loss_near_one(base: int):
    task = diffusion(base=base)
    data = data_of(task)
    model = task.model(data).eval()
    with torch.no_grad():
        # noise it knows nothing of (1), and the variance of its own output
        assert task.evaluate(model, data.test)["loss"] == pytest.approx(1.15, abs=0.2)


def test_evaluations_repeat_whatever_the_generator_and_batch(monkeypatch: pytest.MonkeyPatch):
    task = diffusion()
    data = data_of(task)
    model = task.model(data).eval()
    with torch.no_grad():
        first = task.evaluate(model, data.val)["loss"]
        torch.manual_seed(1234)
        assert task.evaluate(model, data.val)["loss"] == first
        monkeypatch.setattr("vrcli.tasks.diffusion._EVAL_ROWS", 7)
        assert task.evaluate(model, data.val)["loss"] == pytest.approx(first, rel=1e-5)


def test_fresh_noise_is_drawn_anew_when_the_weights_have_changed():
    task, model = diffusion(fresh_noise=True), Constant()
    data = data_of(task)
    assert len(data.val.tensors) == len(data.test.tensors) == 1
    first, again = (task.evaluate(model, data.test)["loss"] for _ in range(2))
    assert first == again
    nn.init.normal_(model.head.weight)
    assert task.evaluate(model, data.test)["loss"] != first
    assert first == pytest.approx(1, abs=0.05)


def test_some_steps_of_training_bring_the_loss_down():
    task = diffusion()
    data = data_of(task)
    model = task.model(data)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    for _ in range(60):
        optimizer.zero_grad()
        task.loss(
            model, task.train_batch(data.train, torch.randint(len(data.train), (64,)), torch.Generator())
        ).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        assert task.evaluate(model, data.val)["loss"] < 0.45


# -- samples ----------------------------------------------------------------------------------------------------------


def test_a_grid_is_a_png_with_the_images_in_rows():
    images = torch.full((5, 1, 30, 40), -1.0)
    images[1], images[4], images[3] = 1.0, 0.0, 7.0  # beyond the range is white
    picture = Image.open(io.BytesIO(png_grid(images)))
    assert (picture.format, picture.mode) == ("PNG", "L")
    assert picture.size == (2 + 2 * 42, 2 + 3 * 32)
    middles = [picture.getpixel((2 + 42 * (i % 2) + 20, 2 + 32 * (i // 2) + 15)) for i in range(5)]
    assert middles == [0, 255, 0, 255, 128]


def test_a_grid_of_small_colour_images_is_magnified():
    images = torch.full((1, 3, 8, 8), -1.0)
    images[0, 0, 0, 0] = 1.0
    picture = Image.open(io.BytesIO(png_grid(images)))
    assert picture.mode == "RGB"
    assert picture.size == (36, 36)
    pixels = np.asarray(picture)[2:34, 2:34]
    assert (pixels[:4, :4] == [255, 0, 0]).all()
    assert (pixels[4:] == 0).all()


def test_samples_are_kept_every_few_epochs_and_at_the_end():
    task = diffusion(timesteps=2, sample_every=2, samples=4)
    model = unet().eval()
    with torch.no_grad():
        kept = [epoch for epoch in range(1, 6) if task.artifacts(model, epoch=epoch, last=epoch == 5)]
        assert kept == [2, 4, 5]
        end = diffusion(timesteps=2, sample_every=0, samples=4)
        assert not end.artifacts(model, epoch=2, last=False)
        assert Image.open(io.BytesIO(end.artifacts(model, epoch=5, last=True)["samples.png"])).size == (70, 70)
        assert not diffusion(timesteps=2, samples=0).artifacts(model, epoch=5, last=True)


def test_samples_repeat_with_the_generators_seed():
    task, model = diffusion(timesteps=5, samples=4), unet().eval()
    files = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        with torch.no_grad():
            files.append(task.artifacts(model, epoch=1, last=True)["samples.png"])
    assert files[0] == files[1] != files[2]


@pytest.mark.slow
def test_trained_samples_look_more_like_digits_than_noise_does():
    task = diffusion(base=16, time_dim=64)
    data = data_of(task)
    model = task.model(data)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    for _ in range(600):
        optimizer.zero_grad()
        task.loss(
            model, task.train_batch(data.train, torch.randint(len(data.train), (64,)), torch.Generator())
        ).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        x = ancestral_samples(model, (256, 1, 8, 8), task.schedule(CPU))
    real = data.test.tensors[0].float() / 127.5 - 1
    assert F.mse_loss(x.mean(0), real.mean(0)) < 0.03
    assert F.mse_loss(x.std(0), real.std(0)) < 0.03
    nearest = torch.cdist(x.flatten(1), real.flatten(1)).min(1).values.mean()
    shuffled = real.flatten(1)[:, torch.randperm(64)]  # the right pixel values in the wrong places
    assert nearest < 0.6 * torch.cdist(shuffled, real.flatten(1)).min(1).values.mean()


def test_a_split_without_noise_is_what_training_takes():
    split = Split((torch.zeros(3, 1, 8, 8, dtype=torch.uint8),))
    (batch,) = diffusion().train_batch(split, torch.tensor([2, 0]), torch.Generator())
    assert batch.shape == (2, 1, 8, 8)
