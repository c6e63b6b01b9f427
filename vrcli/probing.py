"""The words of the user about probes, and what they ask for: --probe, --probe-every, and every probe's own options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vrcli.engine.probes import registry
from vrcli.engine.probes.asked import NONE, Probing
from vrcli.errors import UsageError, nearest

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["NONE", "Probing", "asked", "curves_of", "option_fields", "options_of", "unknown"]

#: What the names of all options of probes begin with: --probe-sharpness-batch is `batch` of `sharpness`.
PREFIX = "probe_"


def asked(
    probes: Any, every: str | int | None, config: Any, settings: Mapping[str, Any]
) -> tuple[Probing, dict[str, Any], dict[str, Any]]:
    """What a command says of probes, and its settings of the configuration file and beside it without theirs.

    Args:
        probes: a name or a class, or several.
        config: settings of the configuration file by name, or None.
        settings: those given beside it, as typed or as values; they come first.

    Raises:
        UsageError: an unknown probe or option, a value that is not accepted, or an option without its probe.
    """
    listed = [probes] if isinstance(probes, str | type) else probes or ()
    names = list(dict.fromkeys(_name(one) for one in listed))
    if not names and every is not None:
        raise UsageError("needs a probe: --probe NAME (vr probes list)", "--probe-every")
    own, others = dict[str, Any](), []
    for given in (config or {}, settings):
        by_key = {name: name.replace("-", "_") for name in given}
        own |= {key: given[name] for name, key in by_key.items() if key.startswith(PREFIX) and given[name] is not None}
        others.append({name: value for name, value in given.items() if not by_key[name].startswith(PREFIX)})
    options = {name: _options(name, own) for name in names}
    if left := [key for key in own if not any(key in option_fields(name) for name in names)]:
        raise unknown(left[0], names)
    called = [registry.load(name).name for name in names]
    if len(set(called)) < len(called):
        raise UsageError(f"names two probes that are called {max(called, key=called.count)}", "--probe")
    return Probing(options, NONE.every if every is None else str(every)), *others  # type: ignore[return-value]  # two


def _name(probe: Any) -> str:
    return f"{probe.__module__}:{probe.__qualname__}" if isinstance(probe, type) else str(probe)


def option_fields(name: str) -> dict[str, FieldInfo]:
    """The options of a probe by the names that settings have: `probe_sharpness_batch`.

    Raises:
        UsageError: there is no such probe.
    """
    prefix = options_of(name)
    return {f"{prefix}{key}": info for key, info in registry.load(name).Options.model_fields.items()}


def options_of(name: str) -> str:
    """What the names of a probe's options begin with: `probe_sharpness_`.

    Raises:
        UsageError: there is no such probe.
    """
    return f"{PREFIX}{registry.load(name).name}_"


def curves_of(probing: Probing) -> list[str]:
    """The curves that these probes can measure, as patterns of `fnmatch`."""
    kinds = {registry.load(name): given for name, given in probing.given.items()}
    return [f"{kind.name}_{one}" for kind, given in kinds.items() for one in kind(kind.Options(**given)).curves()]


def unknown(option: str, names: Sequence[str]) -> UsageError:
    """The refusal of an option that none of the probes has."""
    flag = _flag(option.lstrip("-"))
    if not names:
        return UsageError("needs its probe: --probe NAME (vr probes list)", flag)
    flags = [_flag(key) for name in names for key in option_fields(name)]
    hint = nearest(flag, [*flags, "--probe-every"]) or f"; there are {', '.join(flags) or 'none'}"
    return UsageError(f"is no option of {' or '.join(names)}{hint} (vr probes show {names[0]})", flag)


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _options(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The validated options that were given to a probe, as plain JSON values."""
    from pydantic import ValidationError

    from vrcli.settings import explained

    fields = option_fields(name)
    probe = registry.load(name)
    keys = dict(zip(fields, probe.Options.model_fields, strict=True))
    own = {keys[key]: value for key, value in values.items() if key in keys}
    try:
        return probe.Options(**own).model_dump(mode="json", include=set(own))
    except ValidationError as error:
        raise explained(error, {inner: _flag(key) for key, inner in keys.items()}) from None
