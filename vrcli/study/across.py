"""A comparison on several tasks: on each the whole protocol, then what holds over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vrcli.errors import UsageError, VrError
from vrcli.execute.executor import Interrupted
from vrcli.execute.place import Place
from vrcli.stats.across_tasks import across_tasks, costs_of, ranks_over_tasks
from vrcli.study.compare import compare
from vrcli.study.comparison import Checked, CompareRequest, checked
from vrcli.study.events import CompareResult, Event, Finished, TaskBegan, TaskEnded, TasksResult


def compare_tasks(
    requests: Sequence[CompareRequest], place: Place, *, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Event]:
    """The protocol on every task, and the tasks together. A task that fails costs no other its result.

    Args:
        requests: one for each task.

    Raises:
        UsageError: one of them cannot be carried out; nothing was run.
        VrError: all of them failed.
        Interrupted: `should_stop` said so.
    """
    names = _checked(requests)
    done: dict[str, CompareResult] = {}
    failed: dict[str, str] = {}
    for number, (name, request) in enumerate(zip(names, requests, strict=True), 1):
        yield TaskBegan(name, number, len(names))
        try:
            for event in compare(request, place, should_stop=should_stop):
                if isinstance(event, Finished):
                    assert isinstance(event.result, CompareResult)
                    if event.result.failed:  # over the tasks every optimizer counts, or none does
                        raise VrError("; ".join(f"{opt}: {why}" for opt, why in event.result.failed.items()))
                    done[name] = event.result
                else:
                    yield event
        except Interrupted:
            raise
        except VrError as error:
            failed[name] = str(error)
        yield TaskEnded(name, done.get(name), failed.get(name, ""))
    if not done:
        raise VrError("no task could be compared: " + "; ".join(f"{name}: {why}" for name, why in failed.items()))
    yield Finished(over(done, failed, requests[0]))


def over(done: Mapping[str, CompareResult], failed: Mapping[str, str], request: CompareRequest) -> TasksResult:
    """What holds over the tasks that have a result."""
    if len(done) < 2:
        return TasksResult(done, failed)
    values = {task: _replicates(result) for task, result in done.items()}
    without = [task for task, own in values.items() if any((table <= 0).any() for table in own.values())]
    positive = {task: own for task, own in values.items() if task not in without}
    direction = next(iter(done.values())).direction
    pairs = (
        across_tasks(positive, direction=direction, level=request.level, against=request.against,
                     primary=request.primary)
        if len(positive) > 1 else ()
    )  # fmt: skip
    return TasksResult(done, failed, pairs, ranks_over_tasks(costs_of(values, direction), request.level), without)


def _replicates(result: CompareResult) -> dict[str, Any]:
    """The values of each optimizer (K, m): by search; where settings are compared, every seed is a replicate."""
    found = {name: np.array(own) for name, own in result.values.items()}
    return found if result.replicated is not None else {name: table.reshape(-1, 1) for name, table in found.items()}


def _checked(requests: Sequence[CompareRequest]) -> list[str]:
    """Refuse what cannot be carried out on one of the tasks, and return what each is called.

    Raises:
        UsageError: names the task.
    """
    tasks = [request.tuning.task for request in requests]
    doubled = [task for at, task in enumerate(tasks) if task in tasks[:at]]
    if doubled:
        raise UsageError(f"{doubled[0]} is given twice")
    if requests[0].looks > 1 and len(requests) > 1:
        raise UsageError(f"--looks {requests[0].looks} is for one task: several are looked at once, at the end")
    found: list[Checked] = []
    for request in requests:
        try:
            found.append(checked(request))
        except UsageError as error:
            task = request.tuning.task
            raise UsageError(str(error) if len(requests) == 1 or task in str(error) else f"{task}: {error}") from None
    directions = {one.metric.direction for one in found}
    if len(directions) > 1:
        names = ", ".join(f"{one.request.metric} of {one.request.tuning.task}" for one in found)
        raise UsageError(f"of {names} less is better on one task and more on another; --metric names one for all")
    short = [one.task.name for one in found]
    return [name if short.count(name) == 1 else task for name, task in zip(short, tasks, strict=True)]
