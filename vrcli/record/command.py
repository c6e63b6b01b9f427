"""Any command as a task: `--command 'python train.py --lr {lr} --optimizer {opt} --seed {seed}'`.

The names in braces are the settings; `{opt}`, `{seed}`, `{device}`, `{threads}`, `{dataset}` and `{split_seed}` are
what `vr` chooses anyway. Such a task is known by a reference that says all of it, "vrcli.record.command:NAME_...", so
that other processes and later commands find it like any class.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import string
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from vrcli.errors import UsageError, nearest
from vrcli.record.described import UNKNOWN
from vrcli.record.process import Told, train
from vrcli.record.usual import direction_of
from vrcli.tasks.base import Metric, Preset, TaskConfig
from vrcli.tasks.loop import LoopRun, LoopTask
from vrcli.tasks.space import parse_value

#: Names in braces that are not settings.
CHOSEN = ("opt", "seed", "device", "threads", "dataset", "split_seed")
#: Between name and text of a reference, and what of the text a name of a class cannot have, or only so.
_MARK, _AS_NAME = "_x_", str.maketrans({"-": "_0", "_": "_1"})
#: A database holds no longer names of tasks.
_LONGEST = 255


class Config(TaskConfig):
    """What can be said of every command."""

    time_limit: float | None = Field(None, gt=0, description="seconds after which the command is ended and has failed")


class CommandTask(LoopTask[Config]):
    """The task of one command.

    Attributes:
        command: with its names in braces.
    """

    command: ClassVar[str]
    Config = Config
    training_settings = ()
    unmeasured = "the command reported no val_{objective}; --metric NAME names another objective"
    fixed_training: ClassVar[Mapping[str, Any]] = {"until": "commands:1"}

    def train(self, run: LoopRun) -> None:
        chosen = {
            "opt": run.optimizer_name, "seed": run.seed, "device": run.device, "threads": run.threads,
            "dataset": self.config.dataset, "split_seed": self.config.split_seed,
        }  # fmt: skip
        words = filled(self.command, {**run.optimizer_settings, **chosen})
        told = Told(run.seed, self.metrics[0].name, self.metrics[0].direction)
        train(run, words, told, time_limit=self.config.time_limit)

    @classmethod
    def placeholders(cls) -> list[str]:
        """The names in braces."""
        return names_in(cls.command)

    @classmethod
    def varied(cls) -> list[str]:
        """Those of them that are settings."""
        return _varied(cls.command)

    @classmethod
    def lacking(cls, settings: Mapping[str, Any]) -> str:
        given = [name for name, value in settings.items() if value is not None]
        missing = [name for name in cls.placeholders() if name not in (*CHOSEN, *given)]
        if not missing:
            return cannot_start(cls.command)
        name, flag = missing[0], missing[0].replace("_", "-")
        hint = nearest(name, [*CHOSEN, *given]) or f"; --{flag} or --fix {name}=VALUE gives one, --space searches it"
        return f"--command: {{{name}}} has no value{hint}"

    @classmethod
    def identity(cls) -> str:
        """Of the command, and of the files that it names: an edit of them begins another configuration."""
        digest = hashlib.blake2b(cls.command.encode(), digest_size=8)
        for path in files_in(cls.command):
            content = path.read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"\n{path.name} {len(content)}\n".encode() + content)
        return f"command {digest.hexdigest()}"


# -- the text ---------------------------------------------------------------------------------------------------------


def names_in(command: str) -> list[str]:
    """The names in braces.

    Raises:
        UsageError: the text cannot be read.
    """
    try:
        parts = list(string.Formatter().parse(command))
        shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--command {command}: {error}; write {{{{ for a brace of its own") from None
    found = []
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if not name.isidentifier() or form or conversion:
            raise UsageError(f"--command: {{{name}}} is not a name; write {{lr}}, and {{{{ for a brace of its own")
        found.append(name)
    return list(dict.fromkeys(found))


def _varied(command: str) -> list[str]:
    return [name for name in names_in(command) if name not in CHOSEN]


def cannot_start(command: str) -> str:
    """Why there is nothing to start, in one line; empty where there is."""
    program, *rest = shlex.split(command)
    if "{" not in program and shutil.which(program) is None:
        found = "it cannot be executed" if _is_file(Path(program)) else "there is no such program"
        return f"--command: {program}: {found}"
    script = next(iter(rest), "")
    if Path(program).name.startswith("python") and script.endswith(".py") and "{" not in script:
        return "" if _is_file(Path(script)) else f"--command: {script}: there is no such file in {Path.cwd()}"
    return ""


def filled(command: str, values: Mapping[str, Any]) -> list[str]:
    """The words of the command, each with its values: one with spaces stays one word."""
    texts = {name: _text(value) for name, value in values.items()}
    return [word.format_map(texts) for word in shlex.split(command)]


def files_in(command: str) -> list[Path]:
    """The files that the command names: scripts and what they are given, and no compiled program."""
    program, *rest = [Path(word) for word in shlex.split(command)]
    found = [path for path in rest if "{" not in path.name and _is_file(path)]
    return [program, *found] if _is_file(program) and program.read_bytes()[:2] == b"#!" else found


def _is_file(path: Path) -> bool:
    with suppress(OSError):  # a word that is too long to be the name of one
        return path.is_file()
    return False


def _settings_model(command: str) -> type[BaseModel]:
    """The settings of a command.

    Raises:
        UsageError: one has a name that cannot be one.
    """
    value = Annotated[Any, BeforeValidator(_value)]
    config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
    fields: Any = {
        name: (value, Field(None, description=f"what {{{name}}} of the command is")) for name in _varied(command)
    }
    for name in fields:
        if name in Config.model_fields:
            raise UsageError(f"--command: {{{name}}} is what vr takes itself; give it another name")
        if name.startswith("_") or hasattr(BaseModel, name):
            raise UsageError(f"--command: {{{name}}} cannot be the name of a setting; give it another name")
    return create_model("CommandSettings", __config__=config, **fields)


def _value(given: Any) -> Any:
    """As a search would give it; none is a word of the command's, and None no value."""
    found = parse_value(given) if isinstance(given, str) else given
    return "none" if found is None else found


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- the class --------------------------------------------------------------------------------------------------------


def reference(command: str, metric: str | None = None, name: str | None = None) -> str:
    """By which every process finds the command's task.

    Args:
        metric: the objective, "val_loss"; "reward:max" where nobody knows which way is better.
        name: of the task; by default that of the first file that the command names.

    Raises:
        UsageError: it is not a command that can be compared with itself under other seeds.
    """
    names = names_in(command)
    if not shlex.split(command):
        raise UsageError("--command is empty")
    _settings_model(command)
    if "seed" not in names:
        raise UsageError("--command has no {seed}: runs that differ in nothing cannot repeat each other")
    objective, direction = objective_of(metric)
    own = next(iter(files_in(command)), Path(shlex.split(command)[0])).stem
    body = json.dumps([command, name or own, objective, direction]).encode()
    packed = base64.urlsafe_b64encode(zlib.compress(body, 9)).decode().rstrip("=")
    shown = re.sub(r"\W", "_", name or own)
    found = f"{__name__}:{shown}{_MARK}{packed.translate(_AS_NAME)}"
    if len(found) > _LONGEST:
        raise UsageError("--command is too long to be a task's name; put some of it into a script")
    return found


def optimizers_of(command: str, given: Sequence[Any]) -> list[Any]:
    """What `--opt` means to a command: words for its `{opt}`.

    Raises:
        UsageError: there are some and it takes none, or the other way round.
    """
    takes = "opt" in names_in(command)
    if takes and not given:
        raise UsageError("--command has {opt}; give --opt")
    if given and not takes:
        raise UsageError(f"--opt {given[0]}: --command has no {{opt}} to put it in")
    return list(given) or [UNKNOWN]


def objective_of(metric: str | None) -> tuple[str, str]:
    """Name and direction of the objective that `--metric` names.

    Raises:
        UsageError: nobody knows which way it is better.
    """
    text, _, said = (metric or "loss").partition(":")
    if text in ("min", "max") and said.isidentifier():
        raise UsageError(f"--metric {metric}: say which is better behind the name: --metric {said}:{text}")
    name = re.sub("^(best_val|val|test)_", "", text)
    direction = said or direction_of(name)
    if direction not in ("min", "max") or not name.isidentifier():
        raise UsageError(f"--metric {metric}: say which is better, less or more: --metric {text}:min or {text}:max")
    return name, direction


def compared(metric: str | None) -> str | None:
    """The result that a comparison is about, of what `--metric` names."""
    if metric is None:
        return None
    text = metric.partition(":")[0]
    return text if text.startswith("test_") else f"best_val_{objective_of(metric)[0]}"


@cache
def __getattr__(name: str) -> Any:
    """The task behind a reference."""
    try:
        packed = name.rpartition(_MARK)[2].replace("_0", "-").replace("_1", "_")
        plain = zlib.decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
        command, task, objective, direction = json.loads(plain)
    except (ValueError, zlib.error):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    body = {
        "__module__": __name__, "__qualname__": name, "command": command, "name": task,
        "own_optimizers": _settings_model(command),
        "summary": command, "metrics": (Metric(objective, direction),), "presets": {"quick": Preset({})},
    }  # fmt: skip
    return type(name, (CommandTask,), body)
