"""The file of `--config`: every option of a command by its name, and settings."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin, get_type_hints

from vrcli.errors import UsageError, nearest

#: Tables whose entries could as well stand at the top.
FLAT = ("task", "training", "optimizer")
#: Options that are read before the file is, or say which file it is.
ON_THE_LINE = ("config", "debug", "help")
#: Where a command finds the settings its user gave: mappings by name in `ctx.meta`, of the flags and of the file.
META, FILE_META = "vr.settings", "vr.file_settings"
#: Where what is completed finds the tasks and optimizers that are named already.
CHOICE = "vr.choice"
#: Options that make sense on a terminal only: how the outcome is printed, and showing a plan instead of one.
OF_TERMINAL = ("format", "quiet", "debug", "plan")
#: Options whose values are names; a number there is a mistake.
NAMED = ("task", "opt", "probe", "db", "preset", "metric", "search", "prune", "device", "precision", "config")
_KINDS: Mapping[Any, str] = {bool: "true or false", int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class ConfigFile:
    """What a file says.

    Args:
        options: of the command, by the names of its parameters.
        settings: of the task, the training and the optimizer; NAME.SETTING is one optimizer's alone.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """What the command line, and the configuration file it names, chose before any setting is parsed.

    Args:
        tasks: all that are named, `task` the first of them.
        probes: likewise.
        config: the file's path.
    """

    task: str | None
    optimizers: Sequence[str]
    preset: str | None
    tasks: Sequence[str] = ()
    config: str | None = None
    probes: Sequence[str] = ()

    def completed(self, file: ConfigFile) -> Choice:
        """With what the file says where the command line says nothing."""
        tasks, optimizers, probes = (
            given or _listed(file.options.get(name) or ())
            for given, name in ((self.tasks, "task"), (self.optimizers, "opt"), (self.probes, "probe"))
        )
        preset = self.preset or file.options.get("preset")
        return Choice(self.task or next(iter(tasks), None), optimizers, preset, tasks, self.config, probes)


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given] if given else []


def by_keyword(given: Mapping[str, Any]) -> dict[str, Any]:
    """A command's own options as `vrcli.api` takes them."""
    return {"db" if name == "database" else name: value for name, value in given.items() if name not in OF_TERMINAL}


def completed(command: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given by keyword, and beside it what the configuration file among it says.

    What concerns the terminal alone is left out.
    """
    from vrcli.cli.lazy import load

    found = read(given["config"], load(command))
    told = by_keyword(found.options)
    if isinstance(told.get("task"), list) and len(told["task"]) == 1:
        told["task"] = told["task"][0]
    return {**told, **given, "config": found.settings}


def read(path: str | os.PathLike[str], command: Any) -> ConfigFile:
    """Read a file for a command, whose own parameters say which options there are and of which kinds.

    Raises:
        UsageError: it is not there, or not TOML; or an option's value is of another kind.
    """
    where = f"--config {path}"
    hints = get_type_hints(inspect.unwrap(command.callback))
    known = {_key(param): (param.name, hints[param.name]) for param in command.params if param.name in hints}
    options: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, value in _flat(where, _parsed(where, path), known).items():
        name, kind = known.get(key, (None, None))
        if key == "opt" and value in ([], ""):
            raise UsageError(f"{where}: opt has no optimizer")
        if key in ON_THE_LINE:
            raise UsageError(f"{where}: {key} belongs on the command line")
        if key == "opt" and isinstance(value, list | dict) and len(value) > 1 and get_origin(kind) is not list:
            raise UsageError(f"{where}: opt names {len(value)} optimizers; this command takes one")
        if name is None:
            settings[key] = value
        elif key == "opt" and isinstance(value, dict):
            names, own = _of_optimizers(where, value)
            options[name] = _value(where, key, names if len(names) > 1 else names[0], kind)
            if get_origin(kind) is not list:  # the only optimizer there is
                own = {one.rpartition(".")[2]: given for one, given in own.items()}
        else:
            options[name] = _value(where, key, value, kind)
    return ConfigFile(options, settings | own)


def _key(param: Any) -> str:
    """An option as it is written in a file: like the long one of its flags, without dashes in front."""
    words = [word for word in param.opts if word.startswith("--")] or [param.name]
    return str(words[0]).lstrip("-").replace("-", "_")


def _parsed(where: str, path: str | os.PathLike[str]) -> dict[str, Any]:
    import tomllib

    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for, also while completing
            raise UsageError(f"{where} is not a regular file")
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UsageError(f"{where}: {error.strerror}") from None
    except RecursionError:
        raise UsageError(f"{where} is not TOML that can be read: it is nested too deeply") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} is not TOML: {error}") from None


def _flat(where: str, body: Mapping[str, Any], known: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """The entries by name, those of the tables that are for order only among them."""
    found: dict[str, Any] = {}
    for name, value in body.items():
        table = isinstance(value, dict)
        key = name.replace("-", "_")
        if table and key not in (*FLAT, *known):
            hint = nearest(key, [*FLAT, *known]) or f"; tables are {', '.join(f'[{one}]' for one in FLAT)}"
            raise UsageError(f"{where}: unknown table [{name}]{hint}")
        for one, given in value.items() if table and key in FLAT else [(key, value)]:
            inner = one.replace("-", "_")
            if inner in found:
                raise UsageError(f"{where}: {inner} is given twice")
            found[inner] = given
    return found


def _of_optimizers(where: str, tables: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """The names of `[opt.NAME]` tables in order, and their settings as NAME.SETTING."""
    settings: dict[str, Any] = {}
    for name, own in tables.items():
        if not isinstance(own, dict):
            raise UsageError(f"{where}: opt.{name} must be a table of settings, [opt.{name}], got {own!r}")
        settings |= {f"{name}.{key.replace('-', '_')}": value for key, value in own.items()}
    if not tables:
        raise UsageError(f"{where}: opt has no optimizer")
    return list(tables), settings


def _value(where: str, key: str, value: Any, kind: Any) -> Any:
    """An option's value as the parser takes it.

    Raises:
        UsageError: it is of another kind.
    """
    if get_origin(kind) is list:
        parts = _assignments(value) if isinstance(value, dict) else value if isinstance(value, list) else [value]
        return [_text(where, key, one) for one in parts]
    kinds = get_args(kind) or (kind,)
    for wanted in (bool, int, float):
        if wanted in kinds:
            accepted: Any = (int, float) if wanted is float else wanted
            if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
                raise UsageError(f"{where}: {key} must be {_KINDS[wanted]}, got {_shown(value)}")
            return value
    return ",".join(_text(where, key, one) for one in value) if isinstance(value, list) else _text(where, key, value)


def _text(where: str, key: str, value: Any) -> str:
    """Text, or a number as it would be typed where the option can have one."""
    accepted: Any = str if key in NAMED else str | int | float
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise UsageError(f"{where}: {key} must be text, got {_shown(value)}")
    return str(value)


def _assignments(table: Mapping[str, Any], owner: str = "") -> Sequence[str]:
    """A table as `--space` and `--fix` take it: NAME=VALUE, and OPTIMIZER.NAME=VALUE from a table within it."""
    found: list[str] = []
    for name, value in table.items():
        if isinstance(value, dict):
            found += _assignments(value, f"{name}.")
        else:
            parts = [str(one).lower() if isinstance(one, bool) else str(one)
                     for one in (value if isinstance(value, list) else [value])]  # fmt: skip
            found.append(f"{owner}{name}={','.join(parts)}")
    return found


def _shown(value: Any) -> str:
    """A value in TOML's words, short."""
    if isinstance(value, bool):
        return str(value).lower()
    return "a table" if isinstance(value, dict) else repr(value)
