"""The side-by-side measurement of training speed, and that both of its sides train the same thing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from vrcli.bench import plain_cnn, tasks
from vrcli.bench.tasks import bench_task
from vrcli.errors import UsageError
from vrcli.tasks.base import Splits
from vrcli.tasks.cnn import Cnn, CnnConfig


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def loaded(**settings: Any) -> tuple[Cnn, Splits]:
    task = Cnn(CnnConfig(channels=4, hidden=8, **settings))
    return task, task.data(torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["cnn", "transformer", "gflownet", "diffusion"])
def test_every_task_has_a_plain_counterpart_that_trains(name: str) -> None:
    found = bench_task(name, preset="smoke", rounds=2, block_s=0.02, threads=1)
    assert (found.task, found.rounds, found.threads, found.precision) == (name, 2, 1, "fp32")
    assert found.plain_steps_per_s > 0
    assert found.steps_per_s > 0
    assert found.speedup_low <= found.speedup <= found.speedup_high
    assert 0 < found.store_cost < 1


def test_settings_reach_both_sides() -> None:
    settings = {"batch_size": 7, "channels": 3}
    assert bench_task("cnn", preset="smoke", settings=settings, rounds=1, block_s=0.01, threads=1).batch_size == 7


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("difusion", {}, "did you mean diffusion?"),
        ("vrcli.tasks.cnn:Cnn", {}, "no plain counterpart"),
        ("cnn", {"preset": "quik"}, "did you mean quick?"),
        ("cnn", {"settings": {"channel": 3}}, "did you mean --channels?"),
        ("gflownet", {"preset": "released"}, "give a preset other than released"),
    ],
)
def test_what_cannot_be_measured(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        bench_task(name, **arguments)
    assert message in str(error.value)


def test_sides_take_turns() -> None:
    calls: list[str] = []

    def side(name: str, seconds: float) -> float:
        calls.append(name)
        return seconds

    timings = tasks._alternate({n: lambda s, n=n: side(n, s) for n in "abc"}, 3, 2.0)  # type: ignore[misc]  # bound
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert timings.seconds == {n: [2.0] * 3 for n in "abc"}


# -- the plain cnn ----------------------------------------------------------------------------------------------------


def test_the_plain_images_are_the_tasks_images() -> None:
    task, data = loaded()
    images, labels = next(iter(DataLoader(plain_cnn._Transformed(task, data), batch_size=50)))
    pixels, expected = data.train.take(torch.arange(50))
    torch.testing.assert_close(images, task.model(data)[0](pixels), rtol=1e-5, atol=1e-5)
    assert torch.equal(labels, expected)


def distinct(images: torch.Tensor) -> set[bytes]:
    return {(image * 16).round().to(torch.int8).contiguous().numpy().tobytes() for image in images}


def test_the_plain_crops_are_the_tasks_crops() -> None:
    task, data = loaded(crop_padding=2, flip=True)
    transformed = plain_cnn._Transformed(task, data)
    first = torch.zeros(4000, dtype=torch.int64)
    augmented, _ = task.train_batch(data.train, first, torch.Generator().manual_seed(0))
    ours = distinct(task.model(data)[0](augmented))
    assert ours == distinct(torch.stack([transformed[0][0] for _ in range(4000)]))
    assert len(ours) == 2 * 5 * 5


def test_the_plain_loop_starts_where_the_task_starts_and_learns() -> None:
    task, data = loaded()
    losses = list(islice(plain_cnn.plain(task, data, 64, seed=3), 60))
    torch.manual_seed(3)
    expected = task.loss(task.model(data).train(), data.train.take(torch.arange(1000)))
    assert losses[0] == pytest.approx(expected.item(), abs=0.3)
    assert losses[-1] < 0.7 * losses[0]
