"""The batches of an epoch, in an order of (seed, epoch) alone: the same for every optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch

from vrcli.engine.seeding import derive, generator
from vrcli.tasks.base import Batch, Stream, TaskError


def left(loop: Any) -> Iterator[tuple[Batch, int]]:
    """What is left of a training loop's epoch: batches on the device, with the number of samples in each."""
    data, seed, size = loop.p.data.train, loop.p.spec.seed, loop.training.batch_size
    if isinstance(data, Stream):
        yield from _read(loop, data, size)
        return
    order = torch.randperm(len(data), generator=generator(seed, "order", loop.epoch)).to(loop.p.device)
    if loop.augment is None or not loop.batch:
        loop.augment = generator(seed, "augment", loop.epoch, device=loop.p.device)
    for index in order.split(size)[loop.batch :]:
        yield loop.p.task.train_batch(data, index, loop.augment), len(index)


def _read(loop: Any, data: Stream, size: int) -> Iterator[tuple[Batch, int]]:
    """Of data that are no tensors. An epoch ends after its planned steps.

    Raises:
        TaskError: the data ended before.
    """
    seed, missing, order = loop.p.spec.seed, loop.steps_per_epoch - loop.batch, None
    if data.indexed:
        order = torch.randperm(len(data), generator=generator(seed, "order", loop.epoch))
    found = data.batches(order, size, seed=derive(seed, "augment", loop.epoch), first=loop.batch)
    for batch in islice(found, missing):
        missing -= 1
        yield batch, len(batch[0])
    if missing:
        raise TaskError(f"the training data ended {missing} steps before their epoch of {loop.steps_per_epoch} did")
