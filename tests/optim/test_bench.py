"""The optimizer benchmark: its lists are those of the networks, and it returns what it promises."""

import math

import pytest
import torch
from torch import nn

from vrcli.bench.optim import LISTS, VARIANTS, bench_optim
from vrcli.errors import UsageError


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [
        ("cnn", 28, 3_249_994),
        ("resnet32", 95, 464_154),
        ("transformer", 68, 12_213_040),
        ("unet", 142, 75_313_249),
        ("gpt2", 148, 124_439_808),
    ],
)
def test_lists_have_the_sizes_of_their_networks(name, tensors, parameters):
    shapes = LISTS[name]()
    assert (len(shapes), sum(math.prod(shape) for shape in shapes)) == (tensors, parameters)


def test_transformer_list_is_torchs():
    with torch.device("meta"):
        model = nn.Transformer(128, 8, 2, 2, 256, batch_first=True)
    inner = sorted(tuple(p.shape) for p in model.parameters())
    assert sorted(LISTS["transformer"]()[2:-2]) == inner


def test_rows():
    threads = torch.get_num_threads()
    rows = bench_optim(["resnet32"], rounds=2, threads=1, variants=["vradam", "adamw"])
    assert [row.variant for row in rows] == ["vradam", "adamw", "adamw fused"]
    assert all(row.step_ms > 0 and row.ratio_low <= row.ratio_high and row.threads == 1 for row in rows)
    assert rows[-1].ratio == 1
    assert torch.get_num_threads() == threads


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="did you mean resnet32"):
        bench_optim(["resnet"])
    with pytest.raises(UsageError, match="adamw fused"):
        bench_optim(["cnn"], variants=["adamw fuse"])
    assert "adamw fused" in VARIANTS
