"""The words of the user, and how they become a request: settings by name, each with its origin.

Precedence: defaults < preset < configuration file < flags. Every value's origin is kept beside it, so that what a run
used can be explained.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from vrcli.errors import UsageError, nearest
from vrcli.identity import code_of
from vrcli.optim import registry
from vrcli.spec import REPLAYED, Request, Threads, Training, Until
from vrcli.tasks.registry import reference
from vrcli.visible import visible

if TYPE_CHECKING:
    from vrcli.tasks.base import Task

M = TypeVar("M", bound=BaseModel)

#: The origin of a value from `--config`, as people read it.
FROM_FILE = "config file"


@dataclass(frozen=True)
class Setting:
    """One setting that a user can give: its name on the command line and the model field behind it."""

    name: str
    section: Literal["task", "training", "optimizer"]
    key: str
    info: FieldInfo

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


@dataclass(frozen=True)
class Settings:
    """The settings of one task and one optimizer, by the name the user types.

    Args:
        command: whose help lists them.
    """

    task: str
    optimizer: str
    task_model: type[BaseModel]
    optimizer_model: type[BaseModel]
    by_name: Mapping[str, Setting]
    command: str

    def unknown(self, name: str, where: str = "") -> UsageError:
        """The refusal of a name that is not a setting.

        Args:
            where: it stood, unless on the command line.
        """
        if where and name in RESERVED:
            return UsageError(f"{where}: {name} is an option of another command; remove it here")
        flag = "--" + name.replace("_", "-")
        betas = self.by_name.get("betas")
        singles = [f"--beta{i + 1}" for i in range(len(betas.info.default))] if betas else []
        flags = [s.flag for s in self.by_name.values()] + singles
        hint = nearest(flag, flags)
        if where:  # written without dashes, and beside the options of the commands
            hint = nearest(name, [one.lstrip("-").replace("-", "_") for one in flags] + sorted(RESERVED))
        if not where and name in RESERVED:
            return UsageError("is an option of another command; vr COMMAND --help lists those of each", flag)
        text = f"is not a setting of {self.optimizer} or {self.task}{hint} ({self.command} lists them)"
        return UsageError(f"{where}: {name} {text}") if where else UsageError(text, flag)


def settings_of(task: type[Task[Any]], optimizer: str) -> Settings:
    """Every setting of a task, the loop and an optimizer.

    An optimizer's hyperparameter whose name the task or the loop already uses is called `opt_NAME`.

    Raises:
        UsageError: no such optimizer.
    """
    optimizer_model = task.own_optimizers or registry.settings_model(optimizer)
    code_of(task, optimizer)  # read now, right after the imports: a file may be edited before the run begins
    found: dict[str, Setting] = {}
    for key, info in Training.model_fields.items():
        if key not in REPLAYED and (task.training_settings is None or key in task.training_settings):
            found[key] = Setting(key, "training", key, info)
    for key, info in task.Config.model_fields.items():
        if key in found:
            raise ValueError(f"task {task.name!r} has a setting {key!r}, which belongs to the training loop")
        if key in RESERVED:
            raise ValueError(f"task {task.name!r} has a setting {key!r}, which is an option of vr's own")
        found[key] = Setting(key, "task", key, info)
    for key, info in optimizer_model.model_fields.items():
        name = f"opt_{key}" if key in found or key in RESERVED else key
        found[name] = Setting(name, "optimizer", key, info)
    named = ["--command", task.command] if hasattr(task, "command") else [reference(task), "--opt", optimizer]
    command = shlex.join(["vr", "run", *named, "--help"])
    return Settings(task.name, optimizer, task.Config, optimizer_model, found, command)


#: Names that `vr` itself uses beside the settings.
RESERVED = frozenset(
    {"task", "opt", "preset", "seed", "seeds", "device", "threads", "data_dir", "config", "tag", "group", "db"}
    | {
        "format",
        "quiet",
        "debug",
        "malloc_tuning",
        "explain",
        "help",
        "trials",
        "jobs",
        "space",
        "fix",
        "equal",
        "by_budget",
        "checkpoint_dir",
        "checkpoint_every",
        "keep_weights",
        "search",
        "initial",
        "searches",
        "vary_split",
        "against",
        "primary",
        "margin",
        "looks",
    }
    | {"search_seed", "prune", "confirm_seeds", "plan", "new", "metric", "level", "target", "watch"}
    | {"command", "probe", "probe_every", "lr_from"}
)


@dataclass(frozen=True)
class Resolved:
    """A request, and where each of its values comes from.

    Args:
        registered: the optimizer is one of `vr`'s registry, not one that the task's own program makes.
        origins: "default", "stated: ...", "assumed: ...", "config file" or "flag", by setting name.
    """

    request: Request
    origins: Mapping[str, str] = field(default_factory=dict)
    registered: bool = True

    def tried(self) -> Resolved:
        """The same, after the optimizer took its settings together: for what is not built soon.

        Raises:
            UsageError: it refuses them.
        """
        if self.registered:
            registry.check_settings(self.request.optimizer, self.request.optimizer_settings)
        return self


def resolve(
    task: type[Task[Any]],
    optimizer: str,
    *,
    preset: str = "quick",
    config: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int | Threads = 1,
) -> Resolved:
    """Merge defaults, preset, configuration file and flags into one validated request.

    Args:
        config: settings by name from a file.
        flags: settings by name as typed: strings are parsed by the field's type.
        threads: CPU threads; where they are not chosen, one if the task cannot share its steps.

    Raises:
        UsageError: unknown preset or setting, or a value that is not accepted; the message names the flag.
    """
    settings = settings_of(task, optimizer)
    values: dict[str, dict[str, Any]] = {"task": {}, "training": {}, "optimizer": {}}
    origins: dict[str, str] = dict.fromkeys(settings.by_name, "default")

    def put(name: str, value: Any, origin: str) -> None:
        setting = settings.by_name.get(name)
        if setting is None:
            raise settings.unknown(name, origin if origin == FROM_FILE else "")
        values[setting.section][setting.key] = _parse(setting, value)
        origins[name] = origin

    for name, sourced in preset_settings(task, optimizer, preset, settings).items():
        put(name, sourced.value, str(sourced))
    for given, origin in ((config or {}, FROM_FILE), (flags or {}, "flag")):
        given = {name.replace("-", "_"): value for name, value in given.items()}
        _replace_end(given, values["training"], origins, origin)
        _merge_betas(settings, given, values["optimizer"])
        for name, value in given.items():
            put(name, value, origin)

    by_key = {
        (s.section, s.key): f"{FROM_FILE}: {s.name}" if origins[s.name] == FROM_FILE else s.flag
        for s in settings.by_name.values()
    }
    training = _validated(Training, {**values["training"], **task.fixed_training}, "training", by_key)
    task_config = _validated(settings.task_model, values["task"], "task", by_key)
    hyper = _validated(settings.optimizer_model, values["optimizer"], "optimizer", by_key).model_dump()
    if isinstance(threads, Threads):
        alone = device == "cpu" and not threads.chosen and not task.shares_steps(task_config, training.batch_size)
        threads = 1 if alone else threads.most
    try:
        request = Request(
            task=task.name, preset=preset, task_settings=task_config.model_dump(mode="json"), optimizer=optimizer,
            optimizer_settings=hyper, training=training, seed=seed, device=device, threads=threads,
            code=code_of(task, optimizer),
        )  # fmt: skip
    except ValidationError as error:
        raise explained(error, {}) from None
    return Resolved(request, origins, registered=task.own_optimizers is None)


def preset_settings(task: type[Task[Any]], optimizer: str, preset: str, settings: Settings) -> dict[str, Any]:
    """The preset's values by setting name, each with its provenance (`vrcli.tasks.base.Sourced`).

    Raises:
        UsageError: no preset of that name.
    """
    if preset not in task.presets:
        hint = nearest(preset, task.presets) or f"; {task.name} has {', '.join(task.presets)}"
        raise UsageError(f"{preset} is not a preset of {task.name}{hint}", "--preset")
    chosen = task.presets[preset]
    found = dict(chosen.settings)
    names = {s.key: name for name, s in settings.by_name.items() if s.section == "optimizer"}
    keeps_lr = (
        task.own_optimizers is None and registry.find(optimizer).keeps_lr
    )  # a rate that suits the others is on another scale
    for key, sourced in chosen.optimizers.get("*", {}).items():
        if key in names and not (key == "lr" and keeps_lr):
            found[names[key]] = sourced
    for key, sourced in chosen.optimizers.get(optimizer, {}).items():
        found[names.get(key, key)] = sourced
    return found


#: Settings that say where a run ends.
ENDS = ("until", "epochs", "max_steps")


def _replace_end(given: dict[str, Any], so_far: dict[str, Any], origins: dict[str, str], origin: str) -> None:
    """Where one place says how a run ends, what a lower place said of it counts no more.

    Epochs are one setting, however they are asked for.

    Raises:
        UsageError: one place gives two ends.
    """
    ends = [name for name in ENDS if given.get(name) is not None and given[name] != "none"]
    if "until" not in ends:
        if ends and so_far.pop("until", None) is not None:
            origins["until"] = "default"
        return
    if len(ends) > 1:
        until, flag = visible(str(given["until"])), "--" + ends[1].replace("_", "-")
        where = "" if origin == "flag" else f"{origin}: "
        raise UsageError(f"{where}--until {until} and {flag} are two ends of one run; leave one of them out")
    with suppress(ValueError):  # refused with all other values
        if (end := Until.of(str(given["until"]))).unit == "epochs":
            del given["until"]
            given["epochs"] = int(end.amount)
            so_far.pop("until", None)
            so_far.pop("max_steps", None)


def _merge_betas(settings: Settings, given: dict[str, Any], so_far: Mapping[str, Any]) -> None:
    """Turn `beta1`, `beta2`, ... into entries of `betas`, where the optimizer has no such setting of its own."""
    if "betas" not in settings.by_name:
        return
    default = settings.by_name["betas"].info.default
    singles = {i: f"beta{i + 1}" for i in range(len(default)) if f"beta{i + 1}" not in settings.by_name}
    if not any(name in given for name in singles.values()):
        return
    base = given.get("betas", so_far.get("betas", default))
    betas = list(base.split(",") if isinstance(base, str) else base)
    for i, name in singles.items():
        if name in given:
            betas[i : i + 1] = [given.pop(name)]  # also where too few were given
    given["betas"] = betas


def _parse(setting: Setting, value: Any) -> Any:
    """Command-line words that pydantic does not split itself: "0.9,0.999", and "none" for an unset value."""
    if not isinstance(value, str):
        return value
    if value.lower() == "none" and setting.info.annotation not in (str, Any):
        return None
    kinds = str(setting.info.annotation)
    return value.split(",") if "tuple" in kinds or "list" in kinds else value


def _validated(model: type[M], values: Mapping[str, Any], section: str, flags: Mapping[Any, str]) -> M:
    try:
        return model(**values)
    except ValidationError as error:
        own = {key: flag for (part, key), flag in flags.items() if part == section}
        raise explained(error, own, model.model_fields) from None


_BOUNDS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}
_KINDS = {"float": "a number", "int": "a whole number", "bool": "true or false", "string": "text"}


_COUNTS = {1: "one number", 2: "two numbers", 3: "three numbers"}


def explained(
    error: ValidationError, flags: Mapping[str, str], fields: Mapping[str, FieldInfo] | None = None
) -> UsageError:
    """The first problem of a pydantic error in one line: option, accepted values, value given.

    Args:
        flags: option name by field name; others are shown as `--field-name`.
        fields: of the model, whose defaults say how many numbers a setting takes.
    """
    problem = error.errors()[0]
    key = str(problem["loc"][0]) if problem["loc"] else "value"
    flag = flags.get(key, "--" + key.replace("_", "-"))
    default = fields[key].default if fields and key in fields else None
    if problem["type"] in ("missing", "too_short", "too_long") and isinstance(default, tuple):
        wanted = _COUNTS.get(len(default), f"{len(default)} numbers")
        shown, typed = (",".join(map(str, values)) for values in (default, problem["input"]))
        return UsageError(f"takes {wanted}, as in {shown.lower()}, got {typed}", flag)
    if key == "betas" and len(problem["loc"]) > 1 and isinstance(problem["loc"][1], int):
        flag = f"--beta{problem['loc'][1] + 1}"
    kind, given, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind in _BOUNDS:
        sign, name = _BOUNDS[kind]
        return UsageError(f"must be {sign} {context[name]:g}, got {given}", flag)
    if kind == "finite_number":
        return UsageError(f"must be finite, got {given}", flag)
    if kind == "literal_error":
        return UsageError(f"must be {context['expected'].replace(chr(39), '')}, got {given}", flag)
    if kind.endswith(("_parsing", "_type")) or kind == "int_from_float":
        wanted = _KINDS.get(kind.split("_")[0], problem["msg"])
        return UsageError(f"must be {wanted}, got {given!r}", flag)
    return UsageError(f": {problem['msg'].removeprefix('Value error, ')}, got {given!r}", flag)


def request_again(spec: Mapping[str, Any], task: type[Task[Any]], device: str, who: str) -> Request:
    """What a stored spec asks for, as this version of vr reads it.

    Args:
        who: whose spec it is, in words.

    Raises:
        UsageError: this version does not accept a setting.
    """
    body = dict(spec)
    for name in ("versions", "dataset", "dataset_fingerprint"):  # versions: of an earlier version, instead of the code
        body.pop(name, None)
    optimizer = str(body["optimizer"])
    try:
        model = task.own_optimizers or registry.settings_model(optimizer)
        body |= {"optimizer_settings": model(**body["optimizer_settings"]).model_dump()}
        body |= {"task_settings": task.Config(**body["task_settings"]).model_dump(mode="json")}
        return Request(**{**body, "code": code_of(task, optimizer), "device": device})
    except ValidationError as error:
        raise UsageError(f"{who} cannot be trained by this version: {explained(error, {})}") from None


def differing_settings(request: Request, task: type[Task[Any]]) -> list[str]:
    """The optimizer's settings that are not its defaults."""
    usual = (task.own_optimizers or registry.settings_model(request.optimizer))().model_dump()
    return [name for name, value in request.optimizer_settings.items() if value != usual[name]]
