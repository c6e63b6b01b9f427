"""What a command that trains was asked for, and how it is resolved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from vrcli.cli.console import notice
from vrcli.cli.settings import DEFAULT_OPTIMIZER, load_task
from vrcli.db.location import Location
from vrcli.errors import UsageError, nearest
from vrcli.tasks.registry import names

if TYPE_CHECKING:
    from vrcli.db.store import Store
    from vrcli.settings import Resolved
    from vrcli.tasks.base import Task


def check_threads(given: int | None) -> int | None:
    """Refuse more threads than the machine has cores, and none at all."""
    most = os.cpu_count() or 1
    if given is not None and not 1 <= given <= most:
        raise UsageError(f"--threads must be in 1..{most}, the cores of this machine, got {given}")
    return given


def check_tag(given: str | None) -> str | None:
    """Refuse a tag that could not be found again, or not be stored.

    Raises:
        UsageError: it is empty, or longer than 255 letters.
    """
    if given is not None and not 0 < len(given.strip()) <= 255:
        raise UsageError(f"--tag must have 1 to 255 letters, got {len(given.strip())}")
    return given and given.strip()


# Options that several commands share.
TASK = typer.Argument(None, help="task to train (vr tasks list)", show_default=False)
DB: Any = typer.Option(
    "vr.db", "--db", envvar="VR_DB", parser=Location, metavar="TEXT", help="database file, or an SQLAlchemy URL"
)
FORMAT = typer.Option("text", "--format", help="text or json")
PRESET = typer.Option(None, "--preset", help="named configuration of the task [default: quick]", show_default=False)
SEED = typer.Option(None, "--seed", help="seed of weights, data order and noise [default: 0]", show_default=False)
DEVICE = typer.Option(None, "--device", help="auto, cpu, cuda or mps [default: auto]", show_default=False)
THREADS = typer.Option(
    None, "--threads", callback=check_threads, help="CPU threads [default: as torch chooses]", show_default=False
)
CONFIG = typer.Option(None, "--config", help="TOML file with settings; flags come before it", show_default=False)
DATA_DIR = typer.Option(None, "--data-dir", help="folder of data sets [default: the user's cache]", show_default=False)
TAG = typer.Option(None, "--tag", help="a word to find the runs by", show_default=False)
FORCE = typer.Option(False, "--force", help="replace a file that vr did not write")
QUIET = typer.Option(False, "--quiet", "-q", help="print the outcome only")
DEBUG = typer.Option(False, "--debug", help="show tracebacks")
MALLOC = typer.Option(True, "--malloc-tuning/--no-malloc-tuning", help="keep freed memory (glibc)")

_OWN_KEYS = ("task", "opt", "preset", "seed", "seeds", "device", "threads", "tag")


def check_format(given: str, accepted: tuple[str, ...] = ("text", "json")) -> None:
    """Refuse an output format that the command does not have."""
    if given not in accepted:
        raise UsageError(f"--format {given} is not one of {', '.join(accepted)}{nearest(given, accepted)}")


def open_store(database: Location, mode: Literal["create", "write"] = "create") -> Store:
    """The database for writing; what opening it did on the user's behalf is said."""
    from vrcli.db.store import Store

    store = Store.open(database, mode=mode)
    for line in store.notices:
        notice(line)
    return store


def open_existing(database: Location, mode: Literal["read", "write"] = "read") -> Store:
    """A database that is there, for reading or writing.

    Raises:
        UsageError: it is not; how to make one is said.
    """
    from vrcli.db.store import Store

    if database.path is not None and not database.path.exists():
        raise UsageError(f"there is no {database} here; `vr run` makes it, --db or VR_DB names another")
    return Store.open(database, mode="read") if mode == "read" else open_store(database, mode="write")


@dataclass(frozen=True)
class Request:
    """A training request: what came as flags, completed from the configuration file."""

    task: str
    optimizer: str
    preset: str
    seeds: list[int]
    device: str
    threads: int | None
    tag: str | None
    config: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self) -> tuple[type[Task[Any]], list[Resolved]]:
        """The task's class and one resolved request per seed."""
        from vrcli.engine.prepare import pick_device
        from vrcli.execute.place import threads_each
        from vrcli.settings import resolve

        task = load_task(self.task)
        device, threads = pick_device(self.device), threads_each(self.threads)
        specs = [
            resolve(task, self.optimizer, preset=self.preset, config=self.config, flags=self.flags, seed=seed,
                    device=device, threads=threads)
            for seed in self.seeds
        ]  # fmt: skip
        return task, specs


def request(
    task: str | None,
    *,
    opt: str | None,
    preset: str | None,
    seed: int | None,
    seeds: int | None,
    device: str | None,
    threads: int | None,
    tag: str | None,
    config: Path | None,
    flags: Mapping[str, Any],
) -> Request:
    """Complete the flags from the configuration file, then from the defaults.

    Raises:
        UsageError: no task, or a value that is not accepted.
    """
    from vrcli.settings import load_config

    body = load_config(str(config)) if config is not None else {}
    own = {key: body.pop(key) for key in _OWN_KEYS if key in body}

    def pick(key: str, flag: Any, default: Any, kind: type) -> Any:
        value = flag if flag is not None else own.get(key, default)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise UsageError(f"--config {config}: {key} must be {kind.__name__}, got {value!r}")
        return value

    name = pick("task", task, None, str)
    if name is None:
        raise UsageError(f"which task? One of {', '.join(names())}")
    first, count = pick("seed", seed, 0, int), pick("seeds", seeds, 1, int)
    if first < 0:
        raise UsageError(f"--seed must be >= 0, got {first}")
    if count < 1:
        raise UsageError(f"--seeds must be >= 1, got {count}")
    return Request(
        task=name,
        optimizer=pick("opt", opt, DEFAULT_OPTIMIZER, str),
        preset=pick("preset", preset, "quick", str),
        seeds=list(range(first, first + count)),
        device=pick("device", device, "auto", str),
        threads=check_threads(pick("threads", threads, None, int)),
        tag=check_tag(pick("tag", tag, None, str)),
        config=body,
        flags=flags,
    )
