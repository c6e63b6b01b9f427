"""What every command that trains is asked: words of the user, completed and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vrcli.errors import UsageError
from vrcli.passwords import masked
from vrcli.visible import has_controls

DEFAULT_OPTIMIZER = "vradam"
_MOST = 2**31 - 1


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
    config: Any,
    flags: Mapping[str, Any],
    seed: int | None = None,
    seeds: int | None = None,
    tag: str | None = None,
) -> Asked:
    """Complete what was given from the defaults.

    Args:
        task: a name or a class.
        opt: names or classes.
        config: settings of the configuration file, a mapping by name, or None.

    Raises:
        UsageError: no task, or a value that is not accepted.
    """
    from vrcli.execute.lookup import device_of, optimizer_name, task_name, task_names

    def checked(key: str, given: Any, default: Any, kind: type) -> Any:
        value = default if given is None else given
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise UsageError(f"--{key} must be {kind.__name__}, got {value!r}")
        return value

    if task is None:
        raise UsageError(f"which task? One of {', '.join(task_names())}")
    first, count = checked("seed", seed, 0, int), checked("seeds", seeds, 1, int)
    if first < 0:
        raise UsageError(f"--seed must be >= 0, got {first}")
    at_least(("--seeds", count, 1))
    return Asked(
        task=checked("task", task_name(task), None, str),
        optimizers=[optimizer_name(one) for one in opt] or [DEFAULT_OPTIMIZER],
        preset=checked("preset", preset, "quick", str),
        seeds=range(first, first + count),
        device=device_of(checked("device", device, "auto", str)),
        threads=checked("threads", threads, None, int),
        tag=checked_tag(checked("tag", tag, None, str)),
        config=config or {},
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
            raise UsageError(f"must be >= {least}, got {value}", flag)
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
    if found is not None and masked(found) != found:
        raise UsageError(f"{flag} must not hold the password of an address: everyone who lists runs sees tags")
    return found


def listed(opt: Any) -> list[Any]:
    """One optimizer or several as a list."""
    return list(opt) if isinstance(opt, Iterable) and not isinstance(opt, str | type) else [opt]


def texts(given: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    """Settings by name as the command line takes them; its own texts as they are."""
    if isinstance(given, Mapping):
        return tuple(f"{name}={text_of(value)}" for name, value in given.items())
    return (given,) if isinstance(given, str) else tuple(given)


def text_of(value: Any) -> str:
    """A value of a setting as the command line takes it."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
