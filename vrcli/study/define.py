"""From the request of a sweep to the definitions of its searches: what is fixed, what is searched, and where."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vrcli.errors import UsageError, nearest
from vrcli.execute.lookup import space_of, task_of
from vrcli.search import axes
from vrcli.search.axes import Space
from vrcli.search.definition import Definition
from vrcli.search.prune import RULES
from vrcli.search.search import Search
from vrcli.study.asked import Asked, texts
from vrcli.variants import Variant, base_of, variant

if TYPE_CHECKING:
    from vrcli.execute.lookup import TaskClass
    from vrcli.settings import Resolved, Settings
    from vrcli.spec import Training


@dataclass(frozen=True)
class SweepRequest:
    """What is asked of a sweep, before it is resolved for each optimizer.

    Args:
        config: settings of the configuration file, by name; NAME.SETTING is one optimizer's alone.
        flags: settings of task and training that were given beside it, by name.
        fixed: the texts of --fix.
        spaces: the texts of --space.
        device: where it runs; never "auto".
        initial: points before the search learns; None for as many as suit the number of trials.
        trials: of each search, in all.
        searches: independent ones of each optimizer, see `vrcli.study.replicates`.
        vary_split: each of them splits the data with a seed of its own; each run does where nothing is searched.
        new: begin beside an unfinished sweep with other settings.
        confirm_seeds: on how many fresh seeds the best settings are run.
        equal: search these settings of every optimizer and no others; empty for each one's own space.
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
    initial: int | None = None
    search_seed: int = 0
    prune: str = "none"
    trials: int = 40
    searches: int = 1
    vary_split: bool = False
    new: bool = False
    confirm_seeds: int = 0
    equal: Sequence[str] = ()


def tuning_of(
    asked: Asked,
    *,
    space: Mapping[str, Any] | Sequence[str],
    fix: Mapping[str, Any] | Sequence[str],
    equal: str | Sequence[str] | None = None,
    **words: Any,
) -> SweepRequest:
    """What is asked of searches, from the words of the user.

    Args:
        space: as texts of the command line, or by name; likewise `fix`.
        equal: names, or one text with commas between them.
        words: see `SweepRequest`.
    """
    names = equal.split(",") if isinstance(equal, str) else equal or ()
    words["equal"] = tuple(dict.fromkeys(name.strip().lstrip("-").replace("-", "_") for name in names))
    return SweepRequest(
        asked.task, asked.optimizers, asked.preset, asked.config, asked.flags, texts(fix), texts(space), asked.seeds,
        asked.device, **words,
    )  # fmt: skip


def define(task: TaskClass, request: SweepRequest) -> list[Definition]:
    """One definition per optimizer.

    Raises:
        UsageError: a name that is not a setting, a value or an end of an axis that is not accepted, nothing to search.
    """
    subjects = _subjects(task, request)
    # Refuses what it does not know.
    Search({}, request.search, request.search_seed, 1 if request.initial is None else request.initial)
    if request.prune not in RULES:
        raise UsageError(f"must be one of {', '.join(RULES)}, got {request.prune}", "--prune")
    fixed = _own("--fix", request.fixed, subjects)
    spaces = _own("--space", request.spaces, subjects)
    return [_define_one(task, request, one, fixed[one.name], spaces[one.name]) for one in subjects]


def given_settings(task: TaskClass, request: SweepRequest) -> dict[str, dict[str, Any]]:
    """What the user gave for each optimizer, by name: configuration file, flags, --fix and what makes a variant.

    For runs without a search.

    Raises:
        UsageError: a name that is not a setting of any of them.
    """
    from vrcli.settings import ENDS, resolve

    subjects = _subjects(task, request)
    fixed = _own("--fix", request.fixed, subjects)
    found = {}
    for one in subjects:
        config, given = _config_of(request, one), _given(request, one, dict(map(_fix, fixed[one.name])))
        resolve(task, one.variant.optimizer, preset=request.preset, config=config, flags=given)  # says which is refused
        if any(name in given for name in ENDS):  # of the places that say where a run ends, the last counts
            config = {name: value for name, value in config.items() if name not in ENDS}
        found[one.name] = config | given
    return found


def no_shared_setting(settings: Settings, name: str) -> UsageError:
    """The refusal of a name that is not a setting of the task or of the training, which alone all optimizers share."""
    name = name.replace("-", "_")
    setting = settings.by_name.get(name)
    if setting is not None and setting.section == "optimizer":
        return UsageError(
            f"{setting.flag} is a setting of {settings.optimizer}: --fix {name}=VALUE fixes it, "
            f"--space {name}=LOW:HIGH searches it"
        )
    return settings.unknown(name)


@dataclass(frozen=True)
class Subject:
    """One of the optimizers of a request, or a variant of one.

    Args:
        settings: all that it takes.
    """

    variant: Variant
    settings: Settings

    @property
    def name(self) -> str:
        return self.variant.name


def _subjects(task: TaskClass, request: SweepRequest) -> list[Subject]:
    from vrcli.settings import FROM_FILE, settings_of

    variants = [variant(text) for text in request.optimizers]
    names = [one.name for one in variants]
    doubled = [name for i, name in enumerate(names) if name in names[:i]]
    if doubled:
        raise UsageError(
            f"{doubled[0]} is given twice; variants of one optimizer have labels, as in {doubled[0]}@a:lr=0.1", "--opt"
        )
    found = [Subject(one, settings_of(task, one.optimizer)) for one in variants]
    for one in found:
        for name in one.variant.settings:
            if not _knows(one.settings, name):
                raise one.settings.unknown(name)
    first = found[0].settings
    for name in request.config:
        if "." not in name and not any(_knows(one.settings, name) for one in found):
            raise first.unknown(name, FROM_FILE)
    for name in request.flags:
        setting = first.by_name.get(name.replace("-", "_"))
        if setting is None or setting.section == "optimizer":
            raise no_shared_setting(first, name)
    return found


def _own(flag: str, texts: Sequence[str], subjects: Sequence[Subject]) -> dict[str, list[str]]:
    """What --fix or --space says to each optimizer: NAME.SETTING=... to one of them, SETTING=... to all that have it.

    Raises:
        UsageError: none of them has it, or one is told twice.
    """
    found: dict[str, dict[str, str]] = {one.name: {} for one in subjects}
    general: dict[str, dict[str, str]] = {one.name: {} for one in subjects}
    for text in texts:
        key, equals, value = text.partition("=")
        owner, dot, setting = key.strip().rpartition(".")
        setting = setting.lstrip("-").replace("-", "_")
        if dot and owner not in found:
            raise UsageError(f"{text}: {owner} is not one of the optimizers, {', '.join(found)}", flag)
        told = [one for one in subjects if (one.name == owner if dot else True) and _knows(one.settings, setting)]
        if not told:
            raise _unknown(flag, setting, {one.name: one.settings for one in subjects})
        for one in told:
            into = found if dot else general
            if setting in into[one.name]:
                raise UsageError(f"{setting} is given twice", flag)
            into[one.name][setting] = f"{setting}{equals}{value}"
    return {name: list((general[name] | own).values()) for name, own in found.items()}


def _config_of(request: SweepRequest, one: Subject) -> dict[str, Any]:
    """What the configuration file says to one: SETTING of all that have it, and NAME.SETTING of this one alone."""
    own = {name.rpartition(".")[2]: v for name, v in request.config.items() if name.rpartition(".")[0] == one.name}
    return {name: v for name, v in request.config.items() if _knows(one.settings, name)} | own


def _given(request: SweepRequest, one: Subject, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Flags, --fix and what makes the variant.

    Raises:
        UsageError: a setting is in two of them.
    """
    for name in one.variant.settings:
        if name in fixed or name in request.flags:
            raise UsageError(f"{name} is given twice, once for {one.name} and once for all")
    return {**request.flags, **fixed, **one.variant.settings}


def _define_one(
    task: TaskClass, request: SweepRequest, one: Subject, fix_texts: Sequence[str], space_texts: Sequence[str]
) -> Definition:
    from vrcli.settings import FROM_FILE, resolve

    def resolved(values: Mapping[str, Any]) -> Resolved:
        return resolve(
            task, settings.optimizer, preset=request.preset, config=config, flags=values, seed=request.seeds[0],
            device=request.device,
        ).tried()  # fmt: skip

    settings, config = one.settings, _config_of(request, one)
    fixed, wanted = dict(map(_fix, fix_texts)), dict(map(axes.parse_space, space_texts))
    if both := sorted(fixed.keys() & wanted.keys()):
        raise UsageError(f"{both[0]} is in --fix and in --space; it can be one of them")
    given = _given(request, one, fixed)
    if both := sorted(given.keys() & wanted.keys()):
        raise UsageError(f"--{both[0].replace('_', '-')} is given a value and a --space; it can be one of them")
    own = {n: a for n, a in default_space(task, settings).items() if n not in given and n not in config}
    space: Space = own | wanted
    if request.equal:
        space = _only(request, one, space, wanted, [*given, *config])
    if not space:
        raise UsageError(f"nothing is left to search for {one.name}; {_unsearched(task)}")
    base = resolved(given)
    for name, axis in space.items():
        for value in axes.ends(axis):
            try:
                resolved({**given, name: value})
            except UsageError as error:
                raise UsageError(f"{name}={axis}: {error}", "--space") from None
    if lacking := task.lacking({**base.request.optimizer_settings, **space}):
        raise UsageError(lacking)
    values = _by_name(settings, base)
    if task.fixed_training:
        values["until"] = base.request.training.until
    return Definition(
        task=request.task, preset=request.preset, optimizer=one.name,
        explicit={n: values[n] for n, origin in base.origins.items() if origin in (FROM_FILE, "flag") and n in values},
        settings={name: value for name, value in values.items() if name not in space},
        space=axes.describe(space), origins={name: axis.origin for name, axis in space.items()},
        seeds=tuple(request.seeds), device=request.device, search=request.search, initial=request.initial or 0,
        search_seed=request.search_seed, prune=request.prune, epochs=_epochs(base.request.training),
        code=base.request.code, objective=task.metrics[0].name, direction=task.metrics[0].direction,
    )  # fmt: skip


def _only(request: SweepRequest, one: Subject, space: Space, wanted: Space, fixed: Collection[str]) -> Space:
    """The axes that --equal names.

    Raises:
        UsageError: the optimizer has no such setting, or no range of it; or --space names another.
    """
    for name in request.equal:
        if not _knows(one.settings, name):
            hint = nearest(name, one.settings.by_name)
            raise UsageError(f"--equal {name}: {one.name} has no such setting{hint}")
        if name not in space:
            if name in fixed:
                raise UsageError(
                    f"--equal {name}: it has a fixed value, so it is not searched; leave one of the two out"
                )
            raise UsageError(f"--equal {name}: {one.name} has no range of it; give --space {name}=LOW:HIGH")
    for name in wanted:
        if name not in request.equal:
            raise UsageError(f"--space {name} is not one of --equal {','.join(request.equal)}; leave one of them out")
    return {name: space[name] for name in request.equal}


def _unsearched(task: Any) -> str:
    """What would give a search something to search."""
    if not hasattr(task, "command"):
        return f"give an axis with --space {axes.NOTATION}"
    own = [f"{name}=LOW:HIGH" for name in task.varied()]
    if not own:
        return "the command has no setting in braces, such as {lr}"
    return f"give a setting a range, and no --fix: --space {' or '.join(own)}"


def default_space(task: TaskClass, settings: Settings) -> Space:
    """The task's space for the optimizer; where the task does not name it, the optimizer's own and the task's "*".

    The task's "*" replaces what the registry gives any optimizer, but no range that was chosen for this one: a factor
    of an estimated learning rate is around 1 whatever the task.
    """
    stated = task.space.get(settings.optimizer)
    if stated is None:
        own = space_of(settings.optimizer) if task.own_optimizers is None else {}
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
    return {
        name: sections[setting.section][setting.key]
        for name, setting in settings.by_name.items()
        if setting.key in sections[setting.section]  # one that is not set may leave no trace
    }


def _epochs(training: Training) -> int:
    """After which a run is evaluated, in all; 0 where nobody knows beforehand how often it is."""
    return training.epochs if training.until is None and training.eval_every is None else 0


def _fix(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    name, value = name.strip().lstrip("-").replace("-", "_"), value.strip()
    if not equals or not name.isidentifier() or not value:
        raise UsageError(f"{text!r} is not a setting; write --fix weight_decay=1e-5", "--fix")
    return name, value


def _knows(settings: Settings, name: str) -> bool:
    if name in settings.by_name:
        return True
    betas = settings.by_name.get("betas")
    singles = [f"beta{i + 1}" for i in range(len(betas.info.default))] if betas else []
    return name in singles


def _unknown(flag: str, name: str, by_optimizer: Mapping[str, Settings]) -> UsageError:
    every = [setting for settings in by_optimizer.values() for setting in settings.by_name.values()]
    own = sorted({setting.name for setting in every if setting.section == "optimizer"})
    hint = nearest(name, [setting.name for setting in every]) or f"; those are {', '.join(own)}, and the task's"
    verb = "have" if len(by_optimizer) > 1 else "has"
    return UsageError(f"{name}: {' and '.join(by_optimizer)} {verb} no setting of that name{hint}", flag)


def shared_key_of(definition: Definition) -> str:
    """What a sweep is known by: equal where its searches differ in nothing but the optimizer and the search's seed.

    Data, seeds, device, kind of search and pruning, and every setting of the task and of the training, searched or
    fixed. The optimizer's settings, its code and the space are each search's own; the number of trials may grow.
    """
    from vrcli.settings import settings_of
    from vrcli.spec import TRACELESS

    settings = settings_of(task_of(definition.task), base_of(definition.optimizer)).by_name.values()
    plain = definition.plain()
    traceless = set(TRACELESS) - {*plain["settings"], *plain["space"]}
    names = [one.name for one in settings if one.section != "optimizer" and one.name not in traceless]
    own = ("explicit", "settings", "space", "origins", "optimizer", "search_seed", "code", "objective")
    body = {name: value for name, value in plain.items() if name not in own}
    body["code"] = {part: code for part, code in plain["code"].items() if part != "optimizer"}
    body["settings"] = {name: [plain["settings"].get(name), plain["space"].get(name)] for name in names}
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()
