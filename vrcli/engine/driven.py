"""A loop that a task brings itself, as the events of the engine's own: `train` here does for a `LoopTask` what
`vrcli.engine.loop.train` does for the others.

The loop runs in a coroutine of its own (a greenlet) on the training thread: whenever it reports something, it waits
there until the listener has dealt with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from greenlet import getcurrent, greenlet
from torch import nn

from vrcli.engine import checkpoint, loop, prepare, weights
from vrcli.engine.driving import Left, LoopRun
from vrcli.engine.events import Artifact, Ended, Event, Every
from vrcli.engine.prepare import DataCache, Prepared
from vrcli.engine.probes.asked import NONE, Probing
from vrcli.errors import UsageError
from vrcli.optim import registry
from vrcli.spec import Request
from vrcli.tasks.base import Split, Splits, Task
from vrcli.tasks.loop import LoopTask

#: How often a loop is told to leave that catches what tells it so.
_TIMES = 100


def prepare_any(
    request: Request,
    task_class: type[Task[Any]],
    *,
    data_dir: Path | None = None,
    cache: DataCache | None = None,
    notice: Callable[[str], object] = lambda text: None,
) -> Prepared:
    """`vrcli.engine.prepare.prepare`; of a task with a loop of its own, its data, model and optimizer are the loop's.

    Raises:
        UsageError, TaskError: the request cannot be carried out.
    """
    if not issubclass(task_class, LoopTask):
        return prepare.prepare(request, task_class, data_dir=data_dir, cache=cache, notice=notice)
    torch.set_num_threads(request.threads)
    device = torch.device(request.device)
    prepare.be_deterministic(device)
    task = task_class(task_class.Config(**request.task_settings), data_dir=data_dir)
    if lacking := task.lacking(request.optimizer_settings):
        raise UsageError(lacking)
    capabilities: frozenset[str] = frozenset()
    if task_class.own_optimizers is None:
        row = registry.find(request.optimizer)
        registry.load(row)
        capabilities = row.capabilities
        _check_optimizer(request, task, capabilities)
    name, fingerprint = task.dataset()
    nothing = Split((torch.empty(1, 0),))
    data = Splits(nothing, nothing, nothing, dataset=name)
    optimizer = torch.optim.SGD([nn.Parameter(torch.empty(0))], lr=0.0)  # stands there until the loop asks for its own
    autocast = prepare.autocast_dtype(request.training.precision, device)
    return Prepared(request.on(name, fingerprint), task, data, nn.Module(), optimizer, capabilities, device, autocast)


def _check_optimizer(request: Request, task: LoopTask[Any], capabilities: frozenset[str]) -> None:
    if "closure" in capabilities and task.no_closure:
        raise UsageError(
            f"--opt {request.optimizer} needs a closure, which {request.task} cannot give: {task.no_closure}"
        )
    if "closure" in capabilities and request.training.end.unit == "gradients":
        raise UsageError(
            f"--until {request.training.until} does not work here: vr cannot count this loop's gradients; "
            "use steps:N or seconds:S"
        )


def train_any(
    prepared: Prepared,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoints: Every | None = None,
    resume_from: checkpoint.State | None = None,
    keep: weights.Kept | None = None,
    probing: Probing = NONE,
) -> Iterator[Event]:
    """`vrcli.engine.loop.train`, also of a task with a loop of its own, which has no probes."""
    if isinstance(prepared.task, LoopTask):
        return train(prepared, should_stop=should_stop, checkpoints=checkpoints, resume_from=resume_from, keep=keep)
    return loop.train(
        prepared, should_stop=should_stop, checkpoints=checkpoints, resume_from=resume_from, keep=keep, probing=probing
    )


def train(
    prepared: Prepared,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoints: Every | None = None,
    resume_from: checkpoint.State | None = None,
    keep: weights.Kept | None = None,
) -> Iterator[Event]:
    """Call the task's `train`, yielding events as it reports; arguments and events as of `vrcli.engine.loop.train`."""
    if checkpoint.NO_RESUME in prepared.capabilities:
        checkpoints = None
    run = LoopRun(prepared, should_stop, checkpoints, resume_from)
    with _numbers_as_they_were():
        body = greenlet(run.live)
        try:
            left = yield from _events(body, run)
        finally:
            for _ in range(_TIMES):
                if body.dead:
                    break
                body.parent = getcurrent()
                body.throw(Left("interrupted", "nobody listens"))
    yield from run.began()
    if left.status == "completed":
        yield from _files(run, keep)
    yield Ended(left.status, run.results(), left.reason)


def _events(body: greenlet, run: LoopRun) -> Generator[Event, None, Left]:
    """What the loop reports until it is left."""
    try:
        while True:
            body.parent = getcurrent()  # whoever asks for the next event may be another than before
            found = body.switch()
            if isinstance(found, Left):
                break
            yield found
        yield from run.flush()
        return found
    except KeyboardInterrupt:
        yield from run.flush(check=False)
        return Left("interrupted", "interrupted")
    except (Exception, SystemExit):  # of the loop: what it had logged is kept
        yield from run.flush(check=False)
        raise
    except Left as left:  # the last values, which nobody had looked at yet
        return left


def _files(run: LoopRun, keep: weights.Kept | None) -> Iterator[Event]:
    """The weights that are to be kept."""
    if run.model is None:
        return
    if "last" in weights.FILES[keep]:
        yield Artifact(weights.name_of("last"), weights.encoded(run.model.state_dict()), run.step)
    if "best" in weights.FILES[keep] and run.best.weights:
        run.best_weights()
        yield Artifact(weights.name_of("best"), weights.encoded(run.model.state_dict()), run.step)


@contextmanager
def _numbers_as_they_were() -> Iterator[None]:
    """Give the process back the random numbers of Python and numpy, which a loop gets seeded."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
