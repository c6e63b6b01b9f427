"""What a sweep is: task, optimizer, everything fixed, the space, the seeds and the search.

A stored sweep goes on only under the definition it began with: all its trials were run under the same conditions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError, nearest
from vrcli.identity import changes
from vrcli.search import axes
from vrcli.search.search import Search
from vrcli.tasks.space import Categorical, Dimension, Space

if TYPE_CHECKING:
    from vrcli.spec import Resolved, Settings
    from vrcli.tasks.base import Task

PRUNE_RULES = ("none", "median", "halving")


@dataclass(frozen=True)
class Definition:
    """One search: task x optimizer, under fixed conditions.

    Args:
        explicit: settings that the user gave, by the name they are typed with; the rest follows from the preset.
        settings: every setting that is not searched, resolved: what is compared when a sweep goes on.
        space: the axes, as `axes.describe` writes them.
        origins: where each axis comes from; no part of the comparison.
        seeds: of each trial's runs; its value is their mean.
        dataset_fingerprint: of the data, once they were loaded.
        code: the identity of the code that all trials run; empty in a sweep of an earlier version.
    """

    task: str
    preset: str
    optimizer: str
    explicit: Mapping[str, Any]
    settings: Mapping[str, Any]
    space: Mapping[str, Mapping[str, Any]]
    origins: Mapping[str, str]
    seeds: tuple[int, ...]
    device: str
    search: str
    initial: int
    search_seed: int
    prune: str
    epochs: int
    dataset: str = ""
    dataset_fingerprint: str = ""
    code: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def axes(self) -> dict[str, Dimension]:
        return axes.restore(self.space, self.origins)

    def plain(self) -> dict[str, Any]:
        """As JSON gives it back."""
        body: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return body

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Definition:
        """What `plain` wrote."""
        return cls(**{**plain, "seeds": tuple(plain["seeds"])})

    def on(self, dataset: str, fingerprint: str) -> Definition:
        """The same, of data that were loaded."""
        return replace(self, dataset=dataset, dataset_fingerprint=fingerprint)

    def differences(self, other: Definition) -> list[str]:
        """What `other` has otherwise, each as "name: here, there"; empty for the same search."""
        mine, theirs = _facts(self), _facts(other)
        return [
            f"{name} {_short(mine.get(name))} -> {_short(theirs.get(name))}"
            for name in dict.fromkeys([*mine, *theirs])
            if mine.get(name) != theirs.get(name)
        ] + changes(self.code, other.code)


_APART = ("explicit", "settings", "space", "origins", "epochs", "code")


def _facts(definition: Definition) -> dict[str, Any]:
    body = definition.plain()
    facts = {k: v for k, v in body.items() if k not in _APART}
    facts |= {f"space of {name}": str(axis) for name, axis in definition.axes.items()}
    return {**facts, **body["settings"]}


def _short(value: Any) -> str:
    return "(absent)" if value is None else str(value)


@dataclass(frozen=True)
class Wish:
    """What the user asked of a sweep, before it is resolved for one optimizer.

    Args:
        config: settings of the configuration file, by name.
        flags: settings given as flags, by name.
        fixed: the texts of --fix.
        spaces: the texts of --space.
    """

    task: str
    optimizers: Sequence[str]
    preset: str = "quick"
    config: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)
    fixed: Sequence[str] = ()
    spaces: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    device: str = "cpu"
    search: str = "gp"
    initial: int = 8
    search_seed: int = 0
    prune: str = "none"


def define(task: type[Task[Any]], wish: Wish) -> list[Definition]:
    """One definition per optimizer.

    Raises:
        UsageError: a name that is no setting, a value or an end of an axis that is not accepted, nothing to search.
    """
    by_optimizer = _settings_by_optimizer(task, wish)
    Search({}, wish.search, wish.search_seed, wish.initial)  # refuses what it does not know
    if wish.prune not in PRUNE_RULES:
        raise UsageError(f"--prune must be one of {', '.join(PRUNE_RULES)}, got {wish.prune}")
    fixed = dict(map(_fix, _once("--fix", wish.fixed)))
    spaces = dict(map(axes.parse_space, _once("--space", wish.spaces)))
    if both := sorted(fixed.keys() & spaces.keys()):
        raise UsageError(f"{both[0]} is in --fix and in --space; it can be one of them")
    for flag, names in (("--fix", fixed), ("--space", spaces)):
        for name in names:
            if not any(_knows(settings, name) for settings in by_optimizer.values()):
                raise _unknown(flag, name, by_optimizer)
    return [_define_one(task, wish, settings, fixed, spaces) for settings in by_optimizer.values()]


def given_settings(task: type[Task[Any]], wish: Wish) -> dict[str, dict[str, Any]]:
    """What the user gave for each optimizer, by name: configuration file, flags and --fix; for runs without a search.

    Raises:
        UsageError: a name that is no setting of any of them.
    """
    fixed = dict(map(_fix, _once("--fix", wish.fixed)))
    by_optimizer = _settings_by_optimizer(task, wish)
    for name in fixed:
        if not any(_knows(settings, name) for settings in by_optimizer.values()):
            raise _unknown("--fix", name, by_optimizer)
    return {
        optimizer: {
            **{n: v for n, v in wish.config.items() if _belongs(settings, n, wish.optimizers, task)},
            **wish.flags,
            **{n: v for n, v in fixed.items() if _knows(settings, n)},
        }
        for optimizer, settings in by_optimizer.items()
    }


def _settings_by_optimizer(task: type[Task[Any]], wish: Wish) -> dict[str, Settings]:
    from vrcli.spec import settings_of

    doubled = [name for i, name in enumerate(wish.optimizers) if name in wish.optimizers[:i]]
    if doubled:
        raise UsageError(f"--opt {doubled[0]} is given twice; each optimizer is taken once")
    return {name: settings_of(task, name) for name in wish.optimizers}


def _define_one(
    task: type[Task[Any]], wish: Wish, settings: Settings, fixed: Mapping[str, Any], spaces: Mapping[str, Dimension]
) -> Definition:
    from vrcli.spec import FROM_FILE, resolve

    def resolved(values: Mapping[str, Any]) -> Resolved:
        return resolve(
            task, settings.optimizer, preset=wish.preset, config=config, flags=values, seed=wish.seeds[0],
            device=wish.device,
        )  # fmt: skip

    config = {name: value for name, value in wish.config.items() if _belongs(settings, name, wish.optimizers, task)}
    given = {**wish.flags, **{name: value for name, value in fixed.items() if _knows(settings, name)}}
    wanted = {name: axis for name, axis in spaces.items() if _knows(settings, name)}
    if both := sorted(given.keys() & wanted.keys()):
        raise UsageError(f"--{both[0].replace('_', '-')} is given a value and a --space; it can be one of them")
    space = {n: a for n, a in default_space(task, settings).items() if n not in given and n not in config} | wanted
    if not space:
        raise UsageError(
            f"nothing is left to search for {settings.optimizer}; give an axis with --space {axes.NOTATION}"
        )
    base = resolved(given)
    for name, axis in space.items():
        for value in _ends(axis):
            try:
                resolved({**given, name: value})
            except UsageError as error:
                raise UsageError(f"--space {name}={axis}: {error}") from None
    values = _by_name(settings, base)
    return Definition(
        task=wish.task, preset=wish.preset, optimizer=settings.optimizer,
        explicit={name: values[name] for name, origin in base.origins.items() if origin in (FROM_FILE, "flag")},
        settings={name: value for name, value in values.items() if name not in space},
        space=axes.describe(space), origins={name: axis.origin for name, axis in space.items()},
        seeds=tuple(wish.seeds), device=wish.device, search=wish.search, initial=wish.initial,
        search_seed=wish.search_seed, prune=wish.prune, epochs=base.spec.training.epochs,
        code=base.spec.code,
    )  # fmt: skip


def default_space(task: type[Task[Any]], settings: Settings) -> Space:
    """The task's space for the optimizer; where the task does not name it, the optimizer's own and the task's "*".

    The task's "*" replaces what the registry gives any optimizer, but no range that was chosen for this one: a factor
    of an estimated learning rate is around 1 whatever the task.
    """
    from vrcli.optim import registry
    from vrcli.optim.rows import PAPER_LR

    stated = task.space.get(settings.optimizer)
    if stated is None:
        own = registry.find(settings.optimizer).space
        chosen = {name: axis for name, axis in own.items() if axis.origin != PAPER_LR}
        stated = {**own, **task.space.get("*", {}), **chosen}
    return {name: axis for name, axis in stated.items() if _knows(settings, name)}


def _by_name(settings: Settings, resolved: Resolved) -> dict[str, Any]:
    spec = resolved.spec
    sections = {
        "task": spec.task_settings,
        "training": spec.training.model_dump(),
        "optimizer": spec.optimizer_settings,
    }
    return {name: sections[setting.section][setting.key] for name, setting in settings.by_name.items()}


def _ends(axis: Dimension) -> Sequence[Any]:
    return axis.choices if isinstance(axis, Categorical) else (axis.low, axis.high)


def _once(flag: str, texts: Sequence[str]) -> Sequence[str]:
    names = [text.partition("=")[0].strip().lstrip("-").replace("-", "_") for text in texts]
    if doubled := [name for i, name in enumerate(names) if name in names[:i]]:
        raise UsageError(f"{flag} {doubled[0]} is given twice")
    return texts


def _fix(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    name, value = name.strip().lstrip("-").replace("-", "_"), value.strip()
    if not equals or not name.isidentifier() or not value:
        raise UsageError(f"--fix {text!r} is no setting; write --fix weight_decay=1e-5")
    return name, value


def _knows(settings: Settings, name: str) -> bool:
    if name in settings.by_name:
        return True
    betas = settings.by_name.get("betas")
    singles = [f"beta{i + 1}" for i in range(len(betas.info.default))] if betas else []
    return name in singles


def _belongs(settings: Settings, name: str, optimizers: Sequence[str], task: type[Task[Any]]) -> bool:
    """Whether a name of the configuration file is meant for this optimizer: one that only another has is not."""
    from vrcli.spec import settings_of

    name = name.replace("-", "_")
    if _knows(settings, name):
        return True
    return not any(_knows(settings_of(task, other), name) for other in optimizers)


def _unknown(flag: str, name: str, by_optimizer: Mapping[str, Settings]) -> UsageError:
    every = [setting for settings in by_optimizer.values() for setting in settings.by_name.values()]
    own = sorted({setting.name for setting in every if setting.section == "optimizer"})
    hint = nearest(name, [setting.name for setting in every]) or f"; those are {', '.join(own)}, and the task's"
    return UsageError(f"{flag} {name}: no setting of {' or '.join(by_optimizer)} is called so{hint}")
