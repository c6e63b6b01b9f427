"""`--subset`: a share of every split, the same for every run, and another data set than the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from vrcli.engine.prepare import DataCache, prepare
from vrcli.settings import resolve
from vrcli.tasks.base import Split, Splits, TaskError
from vrcli.tasks.registry import load


def prepared(name: str = "cnn", *, seed: int = 0, cache: DataCache | None = None, **flags: Any) -> Any:
    task = load(name)
    request = resolve(task, "adamw", preset="smoke", flags={**flags}, seed=seed).request
    return prepare(request, task, cache=cache)


def numbered(*sizes: int) -> Splits:
    """Splits whose samples are numbers, each with its double."""
    train, val, test = (Split((torch.arange(n), 2 * torch.arange(n))) for n in sizes)
    return Splits(train, val, test, dataset="numbers", about="counted")


def test_each_split_keeps_its_share_in_its_order():
    found = numbered(1000, 50, 7).subset(0.1, torch.Generator().manual_seed(1))
    assert [len(split) for split in found.named.values()] == [100, 5, 1]
    for split in found.named.values():
        first, second = split.tensors
        assert torch.equal(second, 2 * first)  # the rows of all tensors belong together
        assert torch.equal(first, first.unique())  # none twice
    assert not torch.equal(found.train.tensors[0], torch.arange(100))
    assert (found.dataset, found.about) == ("numbers-subset-0.1", "counted, a subset of 100 + 5 + 1")
    again = numbered(1000, 50, 7).subset(0.1, torch.Generator().manual_seed(1))
    assert found.fingerprint() == again.fingerprint() != numbered(1000, 50, 7).fingerprint()


def test_a_split_without_a_sample_left_is_refused():
    with pytest.raises(TaskError, match=r"^--subset 0.05 leaves none of the 7 test samples of numbers$"):
        numbered(1000, 50, 7).subset(0.05, torch.Generator())
    with pytest.raises(TaskError, match=r"^--subset 0.5 leaves none of the 1 train samples of synthetic$"):
        prepared("robust", subset=0.5)


@pytest.mark.parametrize(("task", "dataset"), [("gflownet", "gridworld"), ("functions", "quadratic")])
def test_a_task_that_samples_by_itself_has_none_to_leave_out(task, dataset):
    with pytest.raises(TaskError, match=rf"^--subset 0.5: {dataset} has no samples that could be left out$"):
        prepared(task, subset=0.5)


def test_a_share_that_leaves_nothing_out_is_refused():
    with pytest.raises(TaskError, match=r"^--subset 0.99 leaves out none of the 7 train samples of numbers"):
        numbered(7, 50, 1000).subset(0.99, torch.Generator())


def test_it_is_the_same_for_every_seed_and_another_for_another_split():
    cache = DataCache()
    whole, part = prepared(cache=cache), prepared(cache=cache, subset=0.25)
    assert part.samples == round(0.25 * whole.samples)
    fingerprint = part.spec.dataset_fingerprint
    assert prepared(cache=cache, subset=0.25, seed=5).spec.dataset_fingerprint == fingerprint
    assert len({fingerprint, whole.spec.dataset_fingerprint}) == 2
    assert prepared(subset=0.25, split_seed=1).spec.dataset_fingerprint != fingerprint
    assert prepared(cache=cache).spec.spec_id == whole.spec.spec_id  # the cache keeps them apart


def test_samples_that_are_read_when_needed_are_chosen_as_well():
    sets: Any = [TensorDataset(torch.arange(n)) for n in (40, 8, 4)]
    whole = Splits(*sets, dataset="numbers", identity="counted")
    half, other = (whole.subset(0.5, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert [len(split) for split in half.named.values()] == [20, 4, 2]
    assert len({part.fingerprint() for part in (whole, half, other, half.subset(0.5, torch.Generator()))}) == 4
    seen = torch.cat([batch for (batch,) in half.train.chunks(8)])
    assert torch.equal(seen, seen.unique())
    assert len(seen) == 20


def test_samples_that_are_read_in_turn_cannot_be_left_out(valley: None):
    task = load("streamed:Streamed")
    request = resolve(task, "adamw", flags={"dataset": "flow", "steps_per_epoch": 3, "subset": 0.5}).request
    with pytest.raises(TaskError, match=r"^--subset 0.5: the train samples of .* are read in turn; none can be left"):
        prepare(request, task)
