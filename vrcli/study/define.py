"""From the request of a sweep to the definitions of its searches: what is fixed, what is searched, and where."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError, nearest
from vrcli.execute.lookup import space_of, task_of
from vrcli.search import axes
from vrcli.search.axes import Dimension, Space
from vrcli.search.definition import Definition
from vrcli.search.prune import RULES
from vrcli.search.search import Search

if TYPE_CHECKING:
    from vrcli.execute.lookup import TaskClass
    from vrcli.settings import Resolved, Settings


@dataclass(frozen=True)
class SweepRequest:
    """What is asked of a sweep, before it is resolved for each optimizer.

    Args:
        config: settings of the configuration file, by name.
        flags: settings of task and training that were given beside it, by name.
        fixed: the texts of --fix.
        spaces: the texts of --space.
        device: where it runs; never "auto".
        trials: of each optimizer, in all.
        new: begin beside an unfinished sweep with other settings.
        confirm_seeds: on how many fresh seeds the best settings are run.
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
    trials: int = 40
    new: bool = False
    confirm_seeds: int = 0


def define(task: TaskClass, request: SweepRequest) -> list[Definition]:
    """One definition per optimizer.

    Raises:
        UsageError: a name that is no setting, a value or an end of an axis that is not accepted, nothing to search.
    """
    by_optimizer = _settings_by_optimizer(task, request)
    Search({}, request.search, request.search_seed, request.initial)  # refuses what it does not know
    if request.prune not in RULES:
        raise UsageError(f"--prune must be one of {', '.join(RULES)}, got {request.prune}")
    fixed = dict(map(_fix, _once("--fix", request.fixed)))
    spaces = dict(map(axes.parse_space, _once("--space", request.spaces)))
    if both := sorted(fixed.keys() & spaces.keys()):
        raise UsageError(f"{both[0]} is in --fix and in --space; it can be one of them")
    for flag, names in (("--fix", fixed), ("--space", spaces)):
        for name in names:
            if not any(_knows(settings, name) for settings in by_optimizer.values()):
                raise _unknown(flag, name, by_optimizer)
    return [_define_one(task, request, settings, fixed, spaces) for settings in by_optimizer.values()]


def given_settings(task: TaskClass, request: SweepRequest) -> dict[str, dict[str, Any]]:
    """What the user gave for each optimizer, by name: configuration file, flags and --fix; for runs without a search.

    Raises:
        UsageError: a name that is no setting of any of them.
    """
    fixed = dict(map(_fix, _once("--fix", request.fixed)))
    by_optimizer = _settings_by_optimizer(task, request)
    for name in fixed:
        if not any(_knows(settings, name) for settings in by_optimizer.values()):
            raise _unknown("--fix", name, by_optimizer)
    return {
        optimizer: {
            **{n: v for n, v in request.config.items() if _belongs(settings, n, request.optimizers, task)},
            **request.flags,
            **{n: v for n, v in fixed.items() if _knows(settings, n)},
        }
        for optimizer, settings in by_optimizer.items()
    }


def no_shared_setting(settings: Settings, name: str) -> UsageError:
    """The refusal of a name that is no setting of the task or of the training, which alone all optimizers share."""
    name = name.replace("-", "_")
    setting = settings.by_name.get(name)
    if setting is not None and setting.section == "optimizer":
        return UsageError(
            f"{setting.flag} is a setting of {settings.optimizer}: --fix {name}=VALUE fixes it, "
            f"--space {name}=LOW:HIGH searches it"
        )
    return settings.unknown(name)


def _settings_by_optimizer(task: TaskClass, request: SweepRequest) -> dict[str, Settings]:
    from vrcli.settings import settings_of

    doubled = [name for i, name in enumerate(request.optimizers) if name in request.optimizers[:i]]
    if doubled:
        raise UsageError(f"--opt {doubled[0]} is given twice; each optimizer is taken once")
    found = {name: settings_of(task, name) for name in request.optimizers}
    first = found[request.optimizers[0]]
    for name in request.flags:
        setting = first.by_name.get(name.replace("-", "_"))
        if setting is None or setting.section == "optimizer":
            raise no_shared_setting(first, name)
    return found


def _define_one(
    task: TaskClass,
    request: SweepRequest,
    settings: Settings,
    fixed: Mapping[str, Any],
    spaces: Mapping[str, Dimension],
) -> Definition:
    from vrcli.settings import FROM_FILE, resolve

    def resolved(values: Mapping[str, Any]) -> Resolved:
        return resolve(
            task, settings.optimizer, preset=request.preset, config=config, flags=values, seed=request.seeds[0],
            device=request.device,
        ).tried()  # fmt: skip

    config = {n: value for n, value in request.config.items() if _belongs(settings, n, request.optimizers, task)}
    given = {**request.flags, **{name: value for name, value in fixed.items() if _knows(settings, name)}}
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
        for value in axes.ends(axis):
            try:
                resolved({**given, name: value})
            except UsageError as error:
                raise UsageError(f"--space {name}={axis}: {error}") from None
    values = _by_name(settings, base)
    return Definition(
        task=request.task, preset=request.preset, optimizer=settings.optimizer,
        explicit={name: values[name] for name, origin in base.origins.items() if origin in (FROM_FILE, "flag")},
        settings={name: value for name, value in values.items() if name not in space},
        space=axes.describe(space), origins={name: axis.origin for name, axis in space.items()},
        seeds=tuple(request.seeds), device=request.device, search=request.search, initial=request.initial,
        search_seed=request.search_seed, prune=request.prune, epochs=base.request.training.epochs,
        code=base.request.code,
    )  # fmt: skip


def default_space(task: TaskClass, settings: Settings) -> Space:
    """The task's space for the optimizer; where the task does not name it, the optimizer's own and the task's "*".

    The task's "*" replaces what the registry gives any optimizer, but no range that was chosen for this one: a factor
    of an estimated learning rate is around 1 whatever the task.
    """
    stated = task.space.get(settings.optimizer)
    if stated is None:
        own = space_of(settings.optimizer)
        chosen = {name: axis for name, axis in own.items() if not axis.generic}
        stated = {**own, **task.space.get("*", {}), **chosen}
    return {name: axis for name, axis in stated.items() if _knows(settings, name)}


def _by_name(settings: Settings, resolved: Resolved) -> dict[str, Any]:
    request = resolved.request
    sections = {
        "task": request.task_settings,
        "training": request.training.model_dump(),
        "optimizer": request.optimizer_settings,
    }
    return {name: sections[setting.section][setting.key] for name, setting in settings.by_name.items()}


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


def _belongs(settings: Settings, name: str, optimizers: Sequence[str], task: TaskClass) -> bool:
    """Whether a name of the configuration file is meant for this optimizer: one that only another has is not."""
    from vrcli.settings import settings_of

    name = name.replace("-", "_")
    if _knows(settings, name):
        return True
    return not any(_knows(settings_of(task, other), name) for other in optimizers)


def _unknown(flag: str, name: str, by_optimizer: Mapping[str, Settings]) -> UsageError:
    every = [setting for settings in by_optimizer.values() for setting in settings.by_name.values()]
    own = sorted({setting.name for setting in every if setting.section == "optimizer"})
    hint = nearest(name, [setting.name for setting in every]) or f"; those are {', '.join(own)}, and the task's"
    return UsageError(f"{flag} {name}: no setting of {' or '.join(by_optimizer)} is called so{hint}")


def shared_key_of(definition: Definition) -> str:
    """What a sweep is known by: equal where its searches differ in nothing but the optimizer and the search's seed.

    Data, seeds, device, kind of search and pruning, and every setting of the task and of the training, searched or
    fixed. The optimizer's settings, its code and the space are each search's own; the number of trials may grow.
    """
    from vrcli.settings import settings_of

    settings = settings_of(task_of(definition.task), definition.optimizer).by_name.values()
    names = [setting.name for setting in settings if setting.section != "optimizer"]
    plain = definition.plain()
    own = ("explicit", "settings", "space", "origins", "optimizer", "search_seed", "code")
    body = {name: value for name, value in plain.items() if name not in own}
    body["code"] = {part: code for part, code in plain["code"].items() if part != "optimizer"}
    body["settings"] = {name: [plain["settings"].get(name), plain["space"].get(name)] for name in names}
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()
