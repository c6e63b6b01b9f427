"""Conformance of a task with a loop of its own: the checks behind `vr tasks check`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vrcli.engine.driven import prepare_any, train
from vrcli.engine.events import Checkpoint, Ended, Eval, Every, Steps
from vrcli.errors import contained, first_line
from vrcli.spec import Request
from vrcli.tasks.check import Finding
from vrcli.tasks.loop import LoopTask

#: So many steps after it was asked to stop, a loop must have left.
_PATIENCE_STEPS = 200


@dataclass
class _Trained:
    """What a run of the loop came to."""

    ended: Ended
    losses: list[float] = field(default_factory=list)
    evaluated: list[float] = field(default_factory=list)
    state: dict[str, Any] | None = None


def check_loop(request: Request, task: type[LoopTask[Any]]) -> Iterator[Finding]:
    """Train short runs, of a small preset's request, and say what the loop keeps of its contract."""
    try:
        with contained():
            first = _trained(request, task)
    except Exception as error:  # any failure of a plugin's own code is the finding
        yield Finding("train", False, first_line(error))
        return
    objective = task.metrics[0].name
    finite = bool(first.evaluated) and all(map(math.isfinite, first.evaluated))
    yield Finding("train", first.ended.status == "completed", first.ended.reason or f"{len(first.losses)} steps logged")
    yield Finding("objective", finite, f"val_{objective} evaluated {len(first.evaluated)} times")
    tested = f"test_{objective}" in first.ended.results
    yield Finding("test", tested, f"test_{objective} {'measured' if tested else 'is never measured: run.test(...)'}")
    for name, check in _CHECKS.items():
        try:
            with contained():
                passed, detail = check(request, task, first)
        except Exception as error:  # as above: a later run may fail, too
            passed, detail = False, first_line(error)
        yield Finding(name, passed, detail)


def _trained(request: Request, task: type[LoopTask[Any]], stop_after: int = 0, **words: Any) -> _Trained:
    """One run; it is asked to stop after so many evaluations."""
    prepared, found = prepare_any(request, task), _Trained(Ended("completed"))
    events = train(prepared, should_stop=lambda: 0 < stop_after <= len(found.evaluated), **words)
    for event in events:
        match event:
            case Steps():
                found.losses += event.values.get("train_loss", [])
            case Eval():
                found.evaluated.append(event.values[f"val_{task.metrics[0].name}"])
            case Checkpoint():
                found.state = event.state
            case Ended():
                found.ended = event
    return found


def _same_seed(request: Request, task: type[LoopTask[Any]], first: _Trained) -> tuple[bool, str]:
    again = _trained(request, task)
    same = [first.losses, first.evaluated] == [again.losses, again.evaluated]
    return same, "the same bits" if same else "the curve changed with the same seed; draw everything from run.generator"


def _stops(request: Request, task: type[LoopTask[Any]], first: _Trained) -> tuple[bool, str]:
    if len(first.evaluated) < 2:
        return True, "not tried: one evaluation alone"
    stopped = _trained(request, task, stop_after=1)
    if stopped.ended.status != "interrupted":
        return False, f"the loop {stopped.ended.status} although it was asked to stop"
    later = len(stopped.losses) - len(first.losses) // len(first.evaluated)
    return later <= _PATIENCE_STEPS, f"{max(0, later)} steps later"


def _goes_on(request: Request, task: type[LoopTask[Any]], first: _Trained) -> tuple[bool, str]:
    stopped = _trained(request, task, stop_after=1, checkpoints=Every(steps=1))
    if stopped.state is None:
        return True, "not tried: it never calls run.save, so an interrupted run begins again"
    again = _trained(request, task, resume_from=stopped.state)
    losses = first.losses[len(first.losses) - len(again.losses) :]
    return again.losses == losses, f"from step {stopped.state['step']}"


_CHECKS = {"same seed, same curve": _same_seed, "stops when asked": _stops, "goes on with the same bits": _goes_on}
