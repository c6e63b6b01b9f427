"""diffusion: noise prediction with a U-Net (denoising diffusion), on MNIST, the digits or any folder of images.

Source:      arXiv 2505.13196, diffusion benchmark (MNIST, 400 timesteps, linear betas, noise-prediction MSE); the model
             is Ho, Jain, Abbeel, arXiv 2006.11239, with the U-Net in `tasks/unet.py`.
Deviations:  validation and test images each keep one timestep and one noise for good, the timesteps evenly spread over
             the schedule: curves are smooth, and every optimizer is measured on the same thing (`--fresh-noise` draws
             new ones at each evaluation, as the released code does). What the released code calls AdamW is Adam with
             L2 decay: `--opt adam`. Its means of batch means are sample-weighted means here; its searches minimise the
             last epoch's validation loss, those here the best epoch's.
Shapes:      images (B, C, H, W) uint8; x, noise and prediction (B, C, H, W) float32 in [-1, 1]; t (B,) int64
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vrcli.tasks.base import (
    Batch,
    Metric,
    Preset,
    Sourced,
    Split,
    Splits,
    Task,
    TaskConfig,
    TaskError,
    assumed,
    generator_of,
    mean_over,
    stated,
)
from vrcli.tasks.data import image_files, load_images, split_images
from vrcli.tasks.space import Categorical, Integer, Real, Space
from vrcli.tasks.unet import UNet

#: Images per step of an evaluation.
_EVAL_ROWS = 250
#: Share of the training images held out for validation (90/10 in the source).
_VAL_FRACTION = 0.1

#: Places in the paper: the protocol's settings, what the sweeps found, and the benchmark's description.
_PROTOCOL = "Table 11"
_SWEEP = "Table 12"
_TEXT = "diffusion benchmark"
_CODE = "released code"


class Config(TaskConfig):
    """Settings of the diffusion task."""

    dataset: str = Field("digits", description="digits, mnist, cifar10, or a local folder of images")
    base: int = Field(32, ge=8, multiple_of=8, description="channels of the U-Net's first level")
    depth: int = Field(2, ge=1, le=4, description="how often the U-Net halves the image")
    time_dim: int = Field(64, ge=8, multiple_of=8, description="entries of the time embedding")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout probability")
    timesteps: int = Field(400, ge=2, description="steps from image to noise")
    beta_start: float = Field(1e-4, gt=0, lt=1, description="variance that the first step adds")
    beta_end: float = Field(0.02, gt=0, lt=1, description="variance that the last step adds")
    fresh_noise: bool = Field(False, description="new noise and timesteps at each evaluation (released code)")
    sample_every: int = Field(5, ge=0, description="epochs between sample grids; 0: only at the end")
    samples: int = Field(64, ge=0, description="images in a sample grid; 0: no grids")

    @model_validator(mode="after")
    def _betas_rise(self) -> Config:
        if self.beta_end < self.beta_start:
            raise ValueError(f"beta_end {self.beta_end} must not be below beta_start {self.beta_start}")
        return self


@dataclass(frozen=True)
class NoiseSchedule:
    """How much noise each timestep adds, and what is left of the image: (T,) each.

    Args:
        beta: variance added at the step.
        alpha_bar: product of (1 - beta) up to and including the step.
        posterior: variance of x_{t-1} where x_t and the image are known.
    """

    beta: Tensor
    alpha_bar: Tensor
    posterior: Tensor

    def noised(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """q(x_t | x_0): what an image has become at step t."""
        # x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise                     (Ho et al., equation 4)
        kept = self.alpha_bar[t].view(-1, 1, 1, 1)
        return kept.sqrt() * x + (1 - kept).sqrt() * noise


@lru_cache(maxsize=8)
def linear_schedule(timesteps: int, beta_start: float, beta_end: float, device: torch.device) -> NoiseSchedule:
    """Betas at equal distances. Kept per device: a training step copies nothing there."""
    beta = torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64)
    alpha_bar = (1 - beta).cumprod(0)
    before = torch.cat((alpha_bar.new_ones(1), alpha_bar[:-1]))
    posterior = beta * (1 - before) / (1 - alpha_bar)  # (Ho et al., equation 7)
    return NoiseSchedule(*(values.float().to(device) for values in (beta, alpha_bar, posterior)))


def ancestral_samples(
    predict: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, int, int, int], schedule: NoiseSchedule
) -> Tensor:
    """Images from noise, all at once, from the global generator.

    Args:
        predict: the noise in x (B, C, H, W) at the steps t (B,).
        shape: (B, C, H, W).
    """
    device = schedule.beta.device
    x = torch.randn(shape, device=device)
    for step in range(len(schedule.beta) - 1, -1, -1):
        t = torch.full(shape[:1], step, device=device)
        beta, alpha_bar = schedule.beta[step], schedule.alpha_bar[step]
        # x_{t-1} = (x_t - beta_t / sqrt(1 - alpha_bar_t) eps(x_t, t)) / sqrt(1 - beta_t) + sigma_t z
        #                                  (Ho et al., algorithm 2; sigma_t^2 the posterior's variance, 0 at the end)
        x = (x - beta / (1 - alpha_bar).sqrt() * predict(x, t).float()) / (1 - beta).sqrt()
        if step > 0:
            x = x + schedule.posterior[step].sqrt() * torch.randn_like(x)
    return x


_LR = Real(1e-5, 0.1, log=True, origin=_SWEEP)

_PAPER: dict[str, Sourced] = {
    "dataset": stated("mnist", _TEXT),
    "base": stated(96, _TEXT),
    "time_dim": stated(128, _TEXT),
    "timesteps": stated(400, _TEXT),
    "beta_start": stated(1e-4, _TEXT),
    "beta_end": stated(0.02, _TEXT),
    "sample_every": stated(5, _TEXT),
    "epochs": stated(50, _TEXT),
    "batch_size": stated(128, _TEXT),
}

_PAPER_OPTIMIZERS = {
    "vradam": {
        "lr": stated(3.38e-5, _SWEEP),
        "beta3": stated(1.99, _SWEEP),
        "lr_cutoff": stated(6, _SWEEP),
        "normgrad": stated(True, _SWEEP),
    },
    "adamw": {"lr": stated(3.24e-5, _SWEEP)},
    "sgd": {"lr": stated(0.00227, _SWEEP), "momentum": stated(0.2, _PROTOCOL), "nesterov": stated(True, _PROTOCOL)},
    "rmsprop": {"lr": stated(1.81e-5, _SWEEP), "alpha": stated(0.1, _PROTOCOL), "momentum": stated(0.2, _PROTOCOL)},
    "*": {"weight_decay": stated(1e-5, _PROTOCOL)},
}


_ADAM_LR = assumed(3e-3, "lower loss after 15 epochs than with 1e-3")
_SGD_LR = assumed(0.03, "0.1 diverges")
_SGD_MOMENTUM = assumed(0.9, "the common value")
_SGD_NESTEROV = assumed(True, "as in the paper")


class Diffusion(Task[Config]):
    """Noise prediction; see the module."""

    name = "diffusion"
    summary = "U-Net, noise prediction"
    metrics = (Metric("loss", "min"),)
    Config = Config
    diverged_above = 100.0

    presets = {
        "smoke": Preset(
            {
                "dataset": assumed("digits", "embedded"),
                "base": assumed(8, "fast"),
                "depth": assumed(2, "8x8 -> 2x2"),
                "time_dim": assumed(32, "fast"),
                "timesteps": assumed(40, "a tenth of the paper's, so that sampling is fast"),
                "beta_end": assumed(0.2, "ten times the paper's, so that the last step is noise"),
                "samples": assumed(16, "fast"),
                "epochs": assumed(1, "fast"),
                "batch_size": assumed(64, "fast"),
                "max_steps": assumed(20, "fast"),
            },
            {
                "sgd": {"lr": _SGD_LR, "momentum": _SGD_MOMENTUM, "nesterov": _SGD_NESTEROV},
                "*": {"lr": assumed(3e-3, "learns within the few steps")},
            },
            summary="20 steps on the digits, for CI",
        ),
        "quick": Preset(
            {
                "dataset": assumed("digits", "embedded"),
                "base": assumed(16, "small images, fast"),
                "depth": assumed(2, "8x8 -> 2x2"),
                "time_dim": assumed(64, "half of the paper's"),
                "dropout": stated(0.1, _CODE),
                "timesteps": stated(400, _TEXT),
                "beta_start": stated(1e-4, _TEXT),
                "beta_end": stated(0.02, _TEXT),
                "sample_every": assumed(0, "only at the end: fast"),
                "epochs": assumed(16, "fast"),
                "batch_size": assumed(64, "more steps from few images"),
            },
            {
                "*": {"weight_decay": assumed(1e-5, "as in the paper, the same for every optimizer")},
                "vradam": {"lr": _ADAM_LR},
                "adamw": {"lr": _ADAM_LR},
                "sgd": {"lr": _SGD_LR, "momentum": _SGD_MOMENTUM, "nesterov": _SGD_NESTEROV},
                "rmsprop": {"lr": assumed(1e-3, "learns steadily")},
            },
            summary="1,797 digits at 8x8, small U-Net",
        ),
        "paper": Preset(
            {
                **_PAPER,
                "depth": assumed(4, f"as the {_CODE}: four down and four up blocks"),
                "dropout": assumed(0.1, f"as the {_CODE}"),
                "schedule": assumed("constant", "no schedule is stated for this benchmark"),
            },
            _PAPER_OPTIMIZERS,
            summary="MNIST as the paper states it (there with seed 42)",
        ),
        "released": Preset(
            {
                **_PAPER,
                "depth": stated(4, f"{_CODE}: four down and four up blocks"),
                "dropout": stated(0.1, _CODE),
                "fresh_noise": stated(True, f"{_CODE}: evaluation draws noise and timesteps anew"),
                "schedule": stated("constant", f"{_CODE}: no schedule is ever created"),
            },
            {
                **_PAPER_OPTIMIZERS,
                "adam": {"lr": stated(3.24e-5, f"{_SWEEP}; what the code calls AdamW is Adam with L2 decay")},
            },
            summary="what the authors' code does, faults included",
        ),
    }

    space: ClassVar[Mapping[str, Space]] = {
        "vradam": {
            "lr": _LR,
            "beta3": Real(0.1, 2.0, origin=_SWEEP),
            "lr_cutoff": Integer(5, 30, origin=_SWEEP),
            "normgrad": Categorical((True, False), origin=_SWEEP),
        },
        "adamw": {"lr": _LR},
        "sgd": {"lr": _LR},
        "rmsprop": {"lr": _LR},
        "*": {"lr": Real(1e-5, 0.1, log=True, origin=f"the range of {_SWEEP} for every optimizer")},
    }

    # -- data and model -----------------------------------------------------------------------------------------------

    def files(self) -> list[Path] | None:
        return image_files(self.config.dataset, self.data_dir)

    def data(self, generator: torch.Generator) -> Splits:
        images = load_images(self.config.dataset, self.data_dir)
        found = split_images(images, val_fraction=_VAL_FRACTION, generator=generator)
        height, width, channels = found.info["image"]
        if min(height, width) < 2**self.config.depth:
            raise TaskError(
                f"dataset {found.dataset!r}: {width}x{height} images cannot be halved {self.config.depth} times"
            )
        train, val, test = (_pixels(split) for split in (found.train, found.val, found.test))
        if not self.config.fresh_noise:
            val, test = self._fixed(val, generator), self._fixed(test, generator)
        return Splits(train, val, test, found.dataset, found.about, {"image_shape": (channels, height, width)})

    def _fixed(self, split: Split, generator: torch.Generator) -> Split:
        """The split with a timestep and a noise for each image; the timesteps are evenly spread, in random order."""
        n = len(split)
        strata = (torch.arange(n) * 2 + 1) * self.config.timesteps // (2 * n)
        return _with_noise(split, strata[torch.randperm(n, generator=generator)], generator)

    def model(self, data: Splits) -> UNet:
        c = self.config
        model = UNet(data.info["image_shape"], base=c.base, depth=c.depth, time_dim=c.time_dim, dropout=c.dropout)
        return model.to(memory_format=torch.channels_last)

    def schedule(self, device: torch.device) -> NoiseSchedule:
        c = self.config
        return linear_schedule(c.timesteps, c.beta_start, c.beta_end, device)

    # -- loss and metrics ---------------------------------------------------------------------------------------------

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        (images,) = batch
        t = torch.randint(self.config.timesteps, images.shape[:1], device=images.device)
        return self._error(model, (images, t, torch.randn(images.shape, device=images.device)))

    def _error(self, model: nn.Module, batch: Batch) -> Tensor:
        images, t, noise = batch
        x = images.float() / 127.5 - 1
        predicted = model(self.schedule(images.device).noised(x, t, noise), t)
        return F.mse_loss(predicted.float(), noise)

    def evaluate(self, model: nn.Module, split: Split) -> dict[str, float]:
        if self.config.fresh_noise:
            split = self._fresh(model, split)
        (loss,) = mean_over(split, _EVAL_ROWS, lambda batch: (self._error(model, batch),))
        return {"loss": loss}

    def _fresh(self, model: nn.Module, split: Split) -> Split:
        generator = generator_of(model.get_parameter("head.weight"))
        t = torch.randint(self.config.timesteps, (len(split),), generator=generator, device=generator.device)
        return _with_noise(split, t, generator)

    # -- samples ------------------------------------------------------------------------------------------------------

    def artifacts(self, model: nn.Module, *, epoch: int, last: bool) -> dict[str, bytes]:
        every = self.config.sample_every
        if not self.config.samples or not (last or (every and epoch % every == 0)):
            return {}
        channels, height, width = cast(UNet, model).image_shape
        device = next(model.parameters()).device
        images = ancestral_samples(model, (self.config.samples, channels, height, width), self.schedule(device))
        return {"samples.png": png_grid(images)}


def _pixels(split: Split) -> Split:
    """Images alone, channels first."""
    return Split((split.tensors[0].permute(0, 3, 1, 2).contiguous(),))  # (n, C, H, W)


def _with_noise(split: Split, t: Tensor, generator: torch.Generator) -> Split:
    (images,) = split.tensors
    return Split((images, t, torch.randn(images.shape, generator=generator, device=images.device)))


def png_grid(images: Tensor) -> bytes:
    """A PNG file of images (n, C, H, W) in [-1, 1], row by row in a near-square grid with lines between them.

    Small images are magnified to at least 28 pixels.
    """
    from PIL import Image

    n, channels, height, width = images.shape
    columns = min(n, max(1, round(n**0.5)))
    rows = -(-n // columns)
    zoom = max(1, -(-28 // min(height, width)))
    line = 2
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
    pixels = pixels.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    height, width = height * zoom, width * zoom
    sheet = torch.full(
        (channels, rows * (height + line) + line, columns * (width + line) + line), 128, dtype=torch.uint8
    )
    for i, image in enumerate(pixels):
        top, left = line + i // columns * (height + line), line + i % columns * (width + line)
        sheet[:, top : top + height, left : left + width] = image
    array = sheet[0].numpy() if channels == 1 else sheet.permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()
