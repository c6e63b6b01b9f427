"""Step time of VRAdam against torch's AdamW, on the parameter lists of five networks.

Only the shapes matter to an optimizer's step, so no network is built: each list states every tensor of its network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from vrcli.bench.timing import alternate
from vrcli.errors import UsageError, nearest

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]

#: What is timed: "vradam" as it comes, the readable reference, and AdamW as it comes and in its two other forms.
VARIANTS = ("vradam", "vradam reference", "adamw", "adamw foreach", "adamw fused")


@dataclass(frozen=True)
class BenchRow:
    """One optimizer on one list.

    Args:
        list_name: the network whose shapes were used.
        tensors: number of parameter tensors.
        parameters: number of parameters.
        variant: one of `VARIANTS`.
        step_ms: median time of a step.
        ratio: median over rounds of this variant's time over that of fused AdamW taken next to it.
        ratio_low: lower quartile of the same ratio.
        ratio_high: upper quartile.
        rounds: values behind each median.
        threads: intra-operation threads of torch.
    """

    list_name: str
    tensors: int
    parameters: int
    variant: str
    step_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds: int
    threads: int


def cnn_shapes() -> list[Shape]:
    """The paper's CNN for 32x32 images: three blocks of two convolutions with batch norm, 4096 -> 512 -> 10."""
    shapes: list[Shape] = []
    for narrow, wide in [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]:
        shapes += [(wide, narrow, 3, 3), (wide,), (wide,), (wide,)]
    return [*shapes, (512, 4096), (512,), (10, 512), (10,)]


def resnet32_shapes() -> list[Shape]:
    """ResNet-32 for CIFAR (He et al. 2016): 3 stages of 5 blocks, shortcuts without parameters."""
    shapes: list[Shape] = [(16, 3, 3, 3), (16,), (16,)]
    channels = 16
    for wide in (16, 32, 64):
        for _ in range(5):
            shapes += [(wide, channels, 3, 3), (wide,), (wide,), (wide, wide, 3, 3), (wide,), (wide,)]
            channels = wide
    return [*shapes, (10, 64), (10,)]


def transformer_shapes(vocabulary: int = 30_000, width: int = 128, hidden: int = 256) -> list[Shape]:
    """The paper's language model: two encoder and two decoder layers, two embeddings and an output layer."""
    attention: list[Shape] = [(3 * width, width), (3 * width,), (width, width), (width,)]
    forward: list[Shape] = [(hidden, width), (hidden,), (width, hidden), (width,)]
    norm: list[Shape] = [(width,), (width,)]
    encoder = 2 * [*attention, *forward, *norm, *norm] + norm
    decoder = 2 * [*attention, *attention, *forward, *norm, *norm, *norm] + norm
    return [(vocabulary, width), (vocabulary, width), *encoder, *decoder, (vocabulary, width), (vocabulary,)]


def unet_shapes(base: int = 96, time: int = 128) -> list[Shape]:
    """The paper's U-Net: four levels down, two blocks in the middle, four levels up, three attention blocks."""

    def block(narrow: int, wide: int) -> list[Shape]:
        shortcut: list[Shape] = [] if narrow == wide else [(wide, narrow, 1, 1), (wide,)]
        first: list[Shape] = [(narrow,), (narrow,), (wide, narrow, 3, 3), (wide,), (wide, time), (wide,)]
        return [*first, (wide,), (wide,), (wide, wide, 3, 3), (wide,), *shortcut]

    def attention(width: int) -> list[Shape]:
        norm: list[Shape] = [(width,), (width,)]
        return [*norm, (3 * width, width, 1, 1), (3 * width,), (width, width, 1, 1), (width,)]

    widths = [base * factor for factor in (1, 2, 4, 8, 8)]
    shapes: list[Shape] = [(time, time // 4), (time,), (time, time), (time,), (base, 1, 3, 3), (base,)]
    for narrow, wide in pairwise(widths):
        shapes += block(narrow, wide)
    shapes += [*block(widths[-1], widths[-1]), *attention(widths[-1]), *block(widths[-1], widths[-1])]
    for level, (wide, narrow) in enumerate(pairwise(reversed(widths))):
        shapes += block(2 * wide, narrow)
        shapes += attention(narrow) if level < 2 else []
    return [*shapes, (base,), (base,), (1, base, 3, 3), (1,)]


def gpt2_shapes(width: int = 768, layers: int = 12) -> list[Shape]:
    """GPT-2 small with tied embeddings."""
    norm: list[Shape] = [(width,), (width,)]
    layer: list[Shape] = [*norm, (3 * width, width), (3 * width,), (width, width), (width,)]
    layer += [*norm, (4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    return [(50_257, width), (1_024, width), *layers * layer, *norm]


LISTS: Mapping[str, Callable[[], list[Shape]]] = {
    "cnn": cnn_shapes,
    "resnet32": resnet32_shapes,
    "transformer": transformer_shapes,
    "unet": unet_shapes,
    "gpt2": gpt2_shapes,
}


def bench_optim(
    lists: Sequence[str] | None = None,
    *,
    rounds: int = 15,
    threads: int | None = None,
    variants: Sequence[str] = VARIANTS,
    device: str = "cpu",
) -> list[BenchRow]:
    """Time one step of every variant on every list, the variants alternating within one process.

    Args:
        lists: names out of `LISTS`; None for all.
        rounds: values per variant and list, after two warm-up calls each.
        threads: intra-operation threads of torch while this runs; None leaves them.
        variants: names out of `VARIANTS`; "adamw fused" is always timed, as the base of the ratios.

    Raises:
        UsageError: an unknown list or variant.
    """
    import torch

    for name in lists or ():
        if name not in LISTS:
            raise UsageError(f"no parameter list is called {name!r}{nearest(name, LISTS)} (lists: {', '.join(LISTS)})")
    for name in variants:
        if name not in VARIANTS:
            raise UsageError(f"no variant is called {name!r}{nearest(name, VARIANTS)} ({', '.join(VARIANTS)})")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        return [row for name in lists or LISTS for row in _bench_list(name, rounds, variants, torch.device(device))]
    finally:
        torch.set_num_threads(before)


def _bench_list(name: str, rounds: int, variants: Sequence[str], device: torch.device) -> list[BenchRow]:
    import torch

    shapes = LISTS[name]()
    elements = sum(math.prod(shape) for shape in shapes)
    chosen = [v for v in VARIANTS if v in variants or v == "adamw fused"]
    generator = torch.Generator(device).manual_seed(0)
    # one set of gradients for all: three state tensors per variant are what takes the memory
    grads = [1e-3 * torch.randn(shape, generator=generator, device=device) for shape in shapes]
    steps = {v: _optimizer(v, grads).step for v in chosen}
    timings = alternate(
        steps,
        rounds=rounds,
        inner=max(1, 2_000_000 // elements),
        synchronize=torch.cuda.synchronize if device.type == "cuda" else lambda: None,
    )
    return [
        BenchRow(
            list_name=name,
            tensors=len(shapes),
            parameters=elements,
            variant=variant,
            step_ms=1e3 * timings.median_s(variant),
            ratio=timings.ratio(variant, "adamw fused"),
            ratio_low=timings.ratio_range(variant, "adamw fused")[0],
            ratio_high=timings.ratio_range(variant, "adamw fused")[1],
            rounds=rounds,
            threads=torch.get_num_threads(),
        )
        for variant in chosen
    ]


def _optimizer(variant: str, grads: Sequence[torch.Tensor]) -> torch.optim.Optimizer:
    import torch

    from vrcli.optim.vradam import VRAdam

    params = [torch.nn.Parameter(torch.zeros_like(grad)) for grad in grads]
    for p, grad in zip(params, grads, strict=True):
        p.grad = grad
    if variant == "vradam":
        return VRAdam(params)
    if variant == "vradam reference":
        return VRAdam(params, foreach=False)
    if variant == "adamw":
        return torch.optim.AdamW(params)
    return torch.optim.AdamW(params, foreach=variant.endswith("foreach"), fused=variant.endswith("fused"))
