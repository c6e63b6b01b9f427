"""What every command that trains is asked: words of the user, completed from the configuration file and checked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vrcli.errors import UsageError
from vrcli.visible import has_controls

DEFAULT_OPTIMIZER = "vradam"
_MOST = 2**31 - 1
_OWN_KEYS = ("task", "opt", "preset", "seed", "seeds", "device", "threads", "tag")


@dataclass(frozen=True)
class Asked:
    """What runs, sweeps and comparisons are asked alike.

    Args:
        device: where it runs; never "auto".
        threads: of all runs together; None for what torch takes.
        config: settings of the configuration file, by name.
        flags: settings that were given beside it, by name.
    """

    task: str
    optimizers: Sequence[str]
    preset: str
    seeds: Sequence[int]
    device: str
    threads: int | None
    tag: str | None
    config: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)


def complete(
    task: Any,
    opt: Sequence[Any],
    *,
    preset: str | None,
    device: str | None,
    threads: int | None,
    config: str | os.PathLike[str] | None,
    flags: Mapping[str, Any],
    seed: int | None = None,
    seeds: int | None = None,
    tag: str | None = None,
) -> Asked:
    """Complete what was given from the configuration file, then from the defaults.

    Args:
        task: a name or a class.
        opt: names or classes.

    Raises:
        UsageError: no task, or a value that is not accepted.
    """
    from vrcli.execute.lookup import device_of, optimizer_name, task_name, task_names
    from vrcli.settings import load_config

    body = load_config(str(config)) if config is not None else {}
    own = {key: body.pop(key) for key in _OWN_KEYS if key in body}

    def pick(key: str, given: Any, default: Any, kind: type) -> Any:
        value = given if given is not None else own.get(key, default)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            where = f"--{key}" if given is not None else f"--config {config}: {key}"
            raise UsageError(f"{where} must be {kind.__name__}, got {value!r}")
        return value

    name = pick("task", None if task is None else task_name(task), None, str)
    if name is None:
        raise UsageError(f"which task? One of {', '.join(task_names())}")
    first, count = pick("seed", seed, 0, int), pick("seeds", seeds, 1, int)
    if first < 0:
        raise UsageError(f"--seed must be >= 0, got {first}")
    at_least(("--seeds", count, 1))
    return Asked(
        task=name,
        optimizers=[optimizer_name(one) for one in opt] or [pick("opt", None, DEFAULT_OPTIMIZER, str)],
        preset=pick("preset", preset, "quick", str),
        seeds=range(first, first + count),
        device=device_of(pick("device", device, "auto", str)),
        threads=pick("threads", threads, None, int),
        tag=checked_tag(pick("tag", tag, None, str)),
        config=body,
        flags={name: value for name, value in flags.items() if value is not None},
    )


def at_least(*checks: tuple[str, int, int]) -> None:
    """Refuse numbers that are too small, or larger than any database counts.

    Args:
        checks: option, value and smallest value of each.

    Raises:
        UsageError: names the first.
    """
    for flag, value, least in checks:
        if value < least:
            raise UsageError(f"{flag} must be >= {least}, got {value}")
        if value > _MOST:
            raise UsageError(f"{flag} must be <= {_MOST}, got {value}")


def checked_tag(given: str | None, flag: str = "--tag") -> str | None:
    """A tag as it is stored.

    Raises:
        UsageError: it could not be found again, not be stored, or not be shown.
    """
    found = given and given.strip()
    if found is not None and not 0 < len(found) <= 255:
        raise UsageError(f"{flag} must have 1 to 255 letters, got {len(found)}")
    if found is not None and has_controls(found):
        raise UsageError(f"{flag} must be one line without control characters, got {found}")
    return found


def listed(opt: Any) -> list[Any]:
    """One optimizer or several as a list."""
    return list(opt) if isinstance(opt, Iterable) and not isinstance(opt, str | type) else [opt]


def texts(given: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    """Settings by name as the command line takes them; its own texts as they are."""
    if isinstance(given, Mapping):
        return tuple(f"{name}={_text(value)}" for name, value in given.items())
    return (given,) if isinstance(given, str) else tuple(given)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
