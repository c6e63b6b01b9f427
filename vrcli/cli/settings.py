"""Commands whose options depend on the task and the optimizer they name.

The options are made from the models that validate the settings, so `--help`, shell completion and error messages
follow from the task's and the optimizer's own declarations.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import typer
from typer.core import TyperCommand

from vrcli.cli.config_file import CHOICE, FILE_META, META, Choice, ConfigFile, read
from vrcli.cli.lazy import ParserError, uncollected
from vrcli.errors import UsageError, VrError
from vrcli.study.asked import DEFAULT_OPTIMIZER

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from vrcli.settings import Setting, Settings
    from vrcli.tasks.base import Task


class SettingsCommand(TyperCommand):
    """A command `vr X TASK --opt NAME` that also takes every setting of that task and that optimizer.

    Subclasses say with `with_optimizer` whether one optimizer's hyperparameters are options too.
    """

    with_optimizer = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._static = list(self.params)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        self.params = list(self._static)
        valued = [flag for p in self._static if not getattr(p, "is_flag", True) for flag in p.opts]
        file, choice = ConfigFile(), Choice(None, (), None)
        completing = extra.get("resilient_parsing")
        self._completed = choice  # what option names and settings' values are completed from, once they are asked for
        try:
            choice = scan(args, valued)
            file = read(choice.config, self) if choice.config else file
            choice = self._completed = choice.completed(file)
            setting = bool(args) and args[-1].startswith("-") and args[-1] not in valued
            if choice.task is not None and (setting or not completing):
                self._add_settings(choice)
        except (VrError, ValueError, ImportError):
            if not completing:  # while completing, a half-typed name is not an error
                raise
        context = super().make_context(info_name, args, parent, default_map=dict(file.options), **extra)
        context.meta.update({FILE_META: file.settings, CHOICE: choice})
        return context

    def _add_settings(self, choice: Choice) -> None:
        with uncollected():
            self.params = [*self._static, *self._dynamic(choice), *probe_options(choice.probes)]

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Names of options: those of the task and the optimizer, which take torch to know, are made here at last."""
        if self._completed.task is not None and len(self.params) == len(self._static):
            with suppress(VrError, ValueError, ImportError):
                self._add_settings(self._completed)
        return super().shell_complete(ctx, incomplete)

    def _dynamic(self, choice: Choice) -> list[Any]:
        from vrcli.settings import preset_settings, settings_of

        task = load_task(choice.task or "")
        optimizer = choice.optimizers[0] if choice.optimizers else DEFAULT_OPTIMIZER
        settings = settings_of(task, optimizer)
        preset = choice.preset or "quick"
        shown = preset_settings(task, optimizer, preset, settings) if preset in task.presets else {}
        self._unknown: Callable[[str], UsageError] = settings.unknown
        return options(settings, shown, with_optimizer=self.with_optimizer)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The options in sections: the optimizer's, the task's, the loop's, then the command's own."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and param.param_type_name == "option":
                sections.setdefault(getattr(param, "rich_help_panel", None) or "Options", []).append(record)
        own = sections.pop("Options")
        for title, records in [*reversed(sections.items()), ("Options", own)]:
            with formatter.section(title):
                formatter.write_dl(records)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().parse_args(ctx, args)
        except ParserError as error:
            option = getattr(error, "option_name", None)
            if type(error).__name__ == "NoSuchOption" and option and len(self.params) > len(self._static):
                if option.startswith("--probe-"):
                    raise self._unknown_of_probes(option) from None
                static = [o for p in self._static for o in p.opts if o.startswith("--")]
                raise _with_static(self._unknown(option.lstrip("-")), option, static) from None
            raise

    def _unknown_of_probes(self, option: str) -> UsageError:
        from vrcli.probing import unknown

        return unknown(option, self._completed.probes)

    def invoke(self, ctx: Any) -> Any:
        static = {param.name for param in self._static}
        given = {name: ctx.params.pop(name) for name in list(ctx.params) if name not in static}
        ctx.meta[META] = {name.removeprefix(PREFIX): value for name, value in given.items() if value is not None}
        return super().invoke(ctx)


# Parameter names of the settings, apart from the command's own ("lr" may not clash with a Python keyword either).
PREFIX = "setting_"


def _with_static(error: UsageError, option: str, static: Sequence[str]) -> UsageError:
    """The same refusal, but naming one of the command's own options where that is nearer."""
    import difflib

    close = difflib.get_close_matches(option, static, n=1, cutoff=0.8)
    if not close:
        return error
    return UsageError(str(error).split(";")[0].split(" (")[0] + f"; did you mean {close[0]}?")


#: A setting whose value has a colon, as tasks of a module have.
_LIKE_A_TASK = "--until"


def scan(args: Sequence[str], valued: Collection[str] = ()) -> Choice:
    """Tasks, optimizers and preset of a command line that is not parsed yet.

    Args:
        valued: options that take a value, which is not a task.
    """
    from vrcli.tasks.registry import names

    found: dict[str, list[str]] = {
        "--opt": [],
        "--preset": [],
        "--config": [],
        "--command": [],
        "--metric": [],
        "--probe": [],
    }
    positional: list[str] = []
    words = iter(args)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in found:
            found[flag].append(value if equals else next(words, ""))
        elif word in valued or word == _LIKE_A_TASK:
            next(words, "")
        elif not word.startswith("-"):
            positional.append(word)
    tasks = [word for word in positional if word in names() or ":" in word]
    if not tasks and args and not args[0].startswith("-"):
        tasks = [args[0]]
    found = {flag: [value for value in values if value] for flag, values in found.items()}
    last = {flag: values[-1] if values else None for flag, values in found.items()}
    if command := last["--command"]:
        from vrcli.record.command import optimizers_of, reference

        task = reference(command, next(iter(found["--metric"]), None), next(iter(tasks), None))
        optimizers = optimizers_of(command, found["--opt"])
        return Choice(task, optimizers, last["--preset"], (), last["--config"], found["--probe"])
    return Choice(next(iter(tasks), None), found["--opt"], last["--preset"], tasks, last["--config"], found["--probe"])


def load_task(name: str) -> type[Task[Any]]:
    """The task class, as the registry finds it; unknown names are refused with the nearest one."""
    from vrcli.tasks.registry import load

    return load(name)


def options(settings: Settings, preset: Mapping[str, Any], *, with_optimizer: bool) -> list[Any]:
    """One command-line option per setting, as the parser's parameter objects.

    Args:
        preset: the preset's values with their provenance, shown as defaults.
    """
    parameters = []
    for setting in settings.by_name.values():
        if setting.section == "optimizer" and not with_optimizer:
            continue
        parameters.append(_parameter(setting, settings, preset))
    if with_optimizer and "betas" in settings.by_name:
        parameters += _beta_parameters(settings)

    return _made(parameters)


def probe_options(names: Sequence[str]) -> list[Any]:
    """The same for the options of probes."""
    from vrcli.probing import option_fields

    return _made(
        [
            _shaped(key, info, f"Options of probe {name}")
            for name in dict.fromkeys(names) for key, info in option_fields(name).items()
        ]
    )  # fmt: skip


def _made(parameters: list[inspect.Parameter]) -> list[Any]:
    # A function of that signature, for typer to read: the public way to make its parameters.
    def shape(**given: Any) -> None: ...

    shape.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
    shape.__annotations__ = {p.name: p.annotation for p in parameters}
    holder = typer.Typer(add_completion=False)
    holder.command()(shape)
    params: list[Any] = typer.main.get_command(holder).params
    return [p for p in params if p.name.startswith(PREFIX)]


def _parameter(setting: Setting, settings: Settings, preset: Mapping[str, Any]) -> inspect.Parameter:
    panel = {
        "task": f"Settings of {settings.task}",
        "training": "Training",
        "optimizer": f"Settings of {settings.optimizer}",
    }[setting.section]
    return _shaped(setting.name, setting.info, panel, preset.get(setting.name))


def _shaped(name: str, info: FieldInfo, panel: str, sourced: Any = None) -> inspect.Parameter:
    """An option for a field of a model.

    Args:
        sourced: the preset's value with its provenance, where it has one.
    """
    default = info.get_default(call_default_factory=True) if sourced is None else sourced.value
    flag = "--" + name.replace("_", "-")
    boolean = bool in _kinds(info.annotation)
    choices = _choices(info.annotation)
    # None where it is not given, whatever default the help shows.
    shown = _shown(default)
    option = typer.Option(
        None,
        f"{flag}/--no-{flag[2:]}" if boolean else flag,
        help=" ".join(filter(None, [info.description, f"[{shown}]" if shown else ""])),
        show_default=False,
        metavar=None if boolean else "|".join(choices) or _metavar(info.annotation),
        rich_help_panel=panel,
        autocompletion=(lambda: choices) if choices else None,
    )
    annotation: Any = bool | None if boolean else str | None
    return inspect.Parameter(PREFIX + name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation)


def _beta_parameters(settings: Settings) -> list[inspect.Parameter]:
    count = len(settings.by_name["betas"].info.default)
    made = []
    for i in range(1, count + 1):
        if f"beta{i}" in settings.by_name:
            continue
        option = typer.Option(
            None,
            f"--beta{i}",
            help=f"entry {i} of --betas",
            metavar="FLOAT",
            rich_help_panel=f"Settings of {settings.optimizer}",
        )
        name = f"{PREFIX}beta{i}"
        kind = inspect.Parameter.KEYWORD_ONLY
        made.append(inspect.Parameter(name, kind, default=option, annotation=str | None))
    return made


def _kinds(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) or (annotation,)


def _choices(annotation: Any) -> list[str]:
    parts = [annotation, *get_args(annotation)]
    return [str(c) for part in parts if get_origin(part) is Literal for c in get_args(part)]


def _metavar(annotation: Any) -> str:
    kinds = _kinds(annotation)
    if float in kinds and get_origin(annotation) is tuple:
        return "FLOAT,FLOAT"
    return next((word for kind, word in ((float, "FLOAT"), (int, "INT")) if kind in kinds), "TEXT")


def _shown(default: Any) -> str:
    if default is None or default == "":
        return ""
    if isinstance(default, tuple | list):
        return ",".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default)
