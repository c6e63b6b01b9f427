"""Samples that are read when they are needed, as batches: the one place that reads by torch's `DataLoader`.

Whatever reads them, the batches are the same, bit for bit: the global generators of torch, numpy and Python are seeded
for each sample (of an iterable, for each pass), and given back to the rest of the process as they were.
"""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

Batch: TypeAlias = tuple[Tensor, ...]
#: A sample's place in its data set, after the seed of what is drawn for it.
Key: TypeAlias = tuple[int, int]
#: How workers begin: at once, where that is safe; elsewhere each of them imports everything anew.
_START = "fork" if sys.platform == "linux" else None


def by_index(source: Any, order: Iterable[Sequence[int]], seed: int, **reading: Any) -> Iterator[Batch]:
    """Batches of a map-style data set.

    Args:
        order: indices of each batch.
        seed: of what is drawn for a sample, together with its index.
        reading: see `_read`.
    """
    keys = [[(seed, index) for index in batch] for batch in order]
    yield from _read(_Indexed(source), batch_sampler=keys, **reading)


def in_turn(
    source: Iterable[Any], size: int, seed: int, *, first: int = 0, workers: int = 0, **reading: Any
) -> Iterator[Batch]:
    """Batches of one pass over an iterable, in its own order; one worker at most reads it.

    Args:
        size: samples per batch.
        seed: of everything drawn in this pass.
        first: how many batches to read without giving them.
        reading: see `_read`.
    """
    yield from _read(_Passed(source, size, seed, first), batch_size=None, workers=min(workers, 1), **reading)


def _read(source: Any, *, workers: int, pin: bool, **how: Any) -> Iterator[Batch]:
    """What a `DataLoader` reads.

    Args:
        workers: processes that read ahead; 0 for none.
        pin: put batches into memory from which a GPU copies without waiting.
    """
    own = torch.Generator().manual_seed(0)  # else it would draw from the global one
    loader = DataLoader(
        source, num_workers=workers, collate_fn=_as_it_is, pin_memory=pin, generator=own,
        worker_init_fn=_leave_interrupts if workers else None, multiprocessing_context=_START if workers else None,
        **how,
    )  # fmt: skip
    for found in loader:
        if isinstance(found, Exception):
            raise found
        yield found


class _Indexed(Dataset[Any]):
    def __init__(self, source: Any) -> None:
        self.source = source

    def __getitems__(self, keys: Sequence[Key]) -> Batch | Exception:
        with _Draws():
            found: Batch | Exception = _caught(self._batch, keys)
            return found

    def _batch(self, keys: Sequence[Key]) -> Batch:
        samples = []
        for seed, index in keys:
            _seed(seed + index)
            samples.append(self.source[index])
        return _together(samples)


class _Passed(IterableDataset[Any]):
    def __init__(self, source: Iterable[Any], size: int, seed: int, first: int) -> None:
        self.source, self.size, self.seed, self.first = source, size, seed, first

    def __iter__(self) -> Iterator[Batch | Exception]:
        draws = _Draws()
        with draws:
            _seed(self.seed)
            samples = iter(self.source)
        number = 0
        while True:
            with draws:
                found = _caught(list, islice(samples, self.size))
                if isinstance(found, list):
                    if not found:
                        return
                    found = _caught(_together, found) if number >= self.first else None
            number += 1
            if found is not None:
                yield found
            if isinstance(found, Exception):
                return


class _Draws:
    """Where the global generators are for what is read; outside, they are as the rest of the process left them.

    Samples are made on one thread, as in a worker, so that sums are taken in the same order.
    """

    def __init__(self) -> None:
        self._inside: Any = None

    def __enter__(self) -> None:
        self._outside, self._threads = _generators(), torch.get_num_threads()
        torch.set_num_threads(1)
        if self._inside is not None:
            _put_back(self._inside)

    def __exit__(self, *error: object) -> None:
        self._inside = _generators()
        _put_back(self._outside)
        torch.set_num_threads(self._threads)


def _generators() -> tuple[Any, ...]:
    return torch.default_generator.get_state(), np.random.get_state(), random.getstate()


def _put_back(states: tuple[Any, ...]) -> None:
    torch.default_generator.set_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])


def _seed(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def _together(samples: list[Any]) -> Batch:
    """Samples as one batch: a tuple of tensors (B, ...)."""
    if not isinstance(samples[0], Tensor | tuple | list):
        raise TypeError(
            f"a sample must be a tensor, or a tuple of tensors and numbers, not {type(samples[0]).__name__}"
        )
    found = default_collate(samples)
    return (found,) if isinstance(found, Tensor) else tuple(found)


def _caught(work: Callable[[Any], Any], given: Any) -> Any:
    """An error as a value: from a worker it would come back as a page of text."""
    try:
        return work(given)
    except Exception as error:
        return error


def _as_it_is(found: Any) -> Any:
    return found


def _leave_interrupts(_: int) -> None:
    """Ctrl-C reaches every process of a terminal; who trains decides when its workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
