"""Names of variants: "vradam@wide:norm_scope=tensor" stands beside "vradam" as if it were another optimizer, and a part
of a data set beside the whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from vrcli.errors import UsageError

_LABEL = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Variant:
    """What --opt names.

    Args:
        name: under which it is stored and shown: "vradam@wide", or the optimizer's own.
        settings: those that make the variant, as they were typed.
    """

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def optimizer(self) -> str:
        return base_of(self.name)


def base_of(name: str) -> str:
    """The optimizer behind the name of a variant."""
    return name.partition("@")[0]


def variant(text: str) -> Variant:
    """Read "vradam", "vradam@wide" or "vradam@wide:norm_scope=tensor,beta3=1".

    Raises:
        UsageError: it is written in another way.
    """
    base, at, rest = text.partition("@")
    if not at:
        return Variant(text)
    label, _, given = rest.partition(":")
    if not base or not _LABEL.fullmatch(label):
        raise UsageError(f"--opt {text}: write a variant as NAME@LABEL:SETTING=VALUE, as in vradam@adam:beta3=0")
    settings: dict[str, str] = {}
    name = ""
    for part in filter(None, given.split(",")):
        key, equals, value = part.partition("=")
        if equals:
            name = key.strip().lstrip("-").replace("-", "_")
            if name in settings:
                raise UsageError(f"--opt {text}: {name} is given twice")
            settings[name] = value.strip()
        elif name:  # a comma inside a value: betas=0.9,0.99
            settings[name] += f",{part.strip()}"
        else:
            raise UsageError(f"--opt {text}: {part} has no value; write SETTING=VALUE after the colon")
    return Variant(f"{base}@{label}", settings)


def subset_name(dataset: str, share: float) -> str:
    """What a random share of a data set is called: "digits-subset-0.1"."""
    return f"{dataset}-subset-{share}"
