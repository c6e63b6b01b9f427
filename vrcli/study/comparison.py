"""What is asked of a comparison, and what of it is refused before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError, nearest
from vrcli.execute.lookup import task_of
from vrcli.stats.inference import check_level
from vrcli.stats.sequential import Boundary
from vrcli.study.asked import at_least
from vrcli.study.define import SweepRequest, define, given_settings
from vrcli.study.replicates import replicates
from vrcli.variants import base_of

if TYPE_CHECKING:
    from vrcli.execute.lookup import TaskClass, TaskMetric

Settings = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class CompareRequest:
    """What is asked of a comparison.

    Args:
        tuning: the optimizers, what they share, and how they are tuned. Its `trials` may be 0, which takes the preset's
            settings; its `searches` are the replicates.
        seeds: how many fresh ones, for each search where there is one; they count on from those of the search.
        metric: the result that the verdict is about; "" for the test value of the objective.
        against: the optimizer that all others are compared with; None for all pairs.
        primary: the two optimizers whose comparison counts, declared before anything runs.
        margin: within which two optimizers count as equal.
        relative: the margin is a share of the mean.
        looks: how often the result is looked at while searches are added; it stops early where all is decided.
        boundary: of these looks, "pocock" or "obrien-fleming".
        target: a validation loss to reach.
        by_budget: also measure what every search had found after a part of its trials.
    """

    tuning: SweepRequest
    seeds: int = 5
    metric: str = ""
    level: float = 0.95
    against: str | None = None
    primary: tuple[str, str] | None = None
    margin: float | None = None
    relative: bool = False
    looks: int = 1
    boundary: Boundary = "obrien-fleming"
    target: float | None = None
    tag: str | None = None
    by_budget: bool = False


def pair_of(given: str | Sequence[str] | None) -> tuple[str, str] | None:
    """The two optimizers of "a,b".

    Raises:
        UsageError: they are not two.
    """
    if given is None:
        return None
    names = [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)
    if len(names) != 2 or not all(names):
        raise UsageError(f"--primary takes two optimizers, as in --primary vradam,adamw; got {','.join(names)}")
    return names[0], names[1]


def margin_of(given: float | str | None) -> tuple[float | None, bool]:
    """A margin, and whether it is a share of the mean: 0.005, or "2%".

    Raises:
        UsageError: it is not a number.
    """
    if given is None:
        return None, False
    text = str(given).strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        raise UsageError(f"must be a number or a percentage, as in 0.005 or 2%; got {given}", "--margin") from None
    return (value / 100, True) if text.endswith("%") else (value, False)


@dataclass(frozen=True)
class Checked:
    """A request that can be carried out.

    Args:
        request: with its metric by name.
        metric: behind that name.
        given: settings that were given for each optimizer.
        code: of each optimizer's runs.
    """

    request: CompareRequest
    task: TaskClass
    metric: TaskMetric
    given: Settings
    code: Mapping[str, Mapping[str, str]]


def checked(request: CompareRequest) -> Checked:
    """Refuse what is not a comparison, or cannot be carried out.

    Raises:
        UsageError: names the option.
    """
    _check(request)
    task = task_of(request.tuning.task)
    request = replace(request, metric=request.metric or f"test_{task.metrics[0].name}")
    metric = metric_of(task, request)
    given = given_settings(task, request.tuning)
    _check_names(request, list(given))
    if request.tuning.trials:
        define(task, request.tuning)
    return Checked(request, task, metric, given, code_of(task, request.tuning, given))


def _check_names(request: CompareRequest, names: Sequence[str]) -> None:
    """Refuse a pair that is none.

    Raises:
        UsageError: an optimizer that does not take part.
    """
    for flag, given in (("--against", [request.against]), ("--primary", request.primary or ())):
        for name in given:
            if name is not None and name not in names:
                raise UsageError(f"{flag} {name}: it is not one of the optimizers compared, {', '.join(names)}")
    if request.primary and request.primary[0] == request.primary[1]:
        raise UsageError(f"--primary {','.join(request.primary)}: give two different optimizers")


def _check(request: CompareRequest) -> None:
    """Refuse what is not a comparison.

    Raises:
        UsageError: names the option.
    """
    tuning = request.tuning
    at_least(
        ("--trials", tuning.trials, 0), ("--searches", tuning.searches, 1), ("--seeds", request.seeds, 1),
        ("--looks", request.looks, 1),
    )  # fmt: skip
    check_level(request.level)
    for flag, value in (("--target", request.target), ("--margin", request.margin)):
        if value is not None and not math.isfinite(value):
            raise UsageError(f"must be a finite number, got {value:g}", flag)
    if request.margin is not None and request.margin <= 0:
        raise UsageError(f"must be > 0, got {request.margin:g}", "--margin")
    if len(tuning.optimizers) < 2:
        raise UsageError("must be given at least twice: vr compare cnn --opt vradam --opt adamw", "--opt")
    if tuning.trials == 0:
        _check_untuned(request)
        return
    replicates(tuning, request.seeds)
    if request.looks > 1 and tuning.searches < request.looks + 1:
        raise UsageError(f"--looks {request.looks} needs --searches {request.looks + 1} or more, got {tuning.searches}")


def _check_untuned(request: CompareRequest) -> None:
    """Refuse what is for searches, where nothing is searched."""
    at_least(("--seeds", request.seeds, 2))
    tuning, usual = request.tuning, SweepRequest(request.tuning.task, request.tuning.optimizers)
    for flag, name in (
        ("--space", "spaces"), ("--equal", "equal"),
        ("--search", "search"), ("--initial", "initial"), ("--search-seed", "search_seed"),
        ("--searches", "searches"),
    ):  # fmt: skip
        if getattr(tuning, name) != getattr(usual, name):
            raise UsageError("is for a search, and --trials 0 makes none; give --trials 20, say", flag)
    for flag, given in (
        ("--looks", request.looks > 1), ("--margin", request.margin is not None), ("--against", request.against),
        ("--primary", request.primary), ("--by-budget", request.by_budget),
    ):  # fmt: skip
        if given:
            raise UsageError("is for several searches, and --trials 0 makes none; give --trials 8, say", flag)


def metric_of(task: TaskClass, request: CompareRequest) -> TaskMetric:
    """The metric behind a result's name.

    Raises:
        UsageError: no run of the task has that result.
    """
    if request.metric == "steps":  # where runs stop at a target: who is there sooner
        return replace(task.metrics[0], name="steps", direction="min", unit="", percent=False)
    found = {f"best_val_{task.metrics[0].name}": task.metrics[0]}
    for metric in task.metrics:
        found[f"test_{metric.name}"] = found[f"val_{metric.name}"] = metric
    if request.metric not in found:
        name = request.tuning.task
        hint = nearest(request.metric, found) or f"; {name} has {', '.join(found)}"
        raise UsageError(f"{request.metric} is not a result of {name}{hint}", "--metric")
    return found[request.metric]


def code_of(task: TaskClass, tuning: SweepRequest, settings: Settings) -> dict[str, dict[str, str]]:
    """The identity of the code of each optimizer's runs; its settings are checked before anything is recorded.

    Raises:
        UsageError: a setting is not accepted.
    """
    from vrcli.settings import resolve

    found = {}
    for name, flags in settings.items():
        request = resolve(task, base_of(name), preset=tuning.preset, flags=flags).tried().request
        if not tuning.trials and (lacking := task.lacking(request.optimizer_settings)):
            raise UsageError(lacking)
        found[name] = request.code
    return found
