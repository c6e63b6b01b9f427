"""Which probes a run has, how often they measure, and with which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vrcli.errors import UsageError

#: Under which a run's provenance says what was measured, and how often.
KEPT, KEPT_EVERY = "probes", "probe_every"


@dataclass(frozen=True)
class Probing:
    """Probes as they were asked for. It can be pickled.

    Args:
        given: options that were given, by name, by probe: a name of the registry or "package.module:Class".
        every: steps ("50") or epochs ("2e") from one measurement to the next.
    """

    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    every: str = "1e"

    def __bool__(self) -> bool:
        return bool(self.given)

    def __post_init__(self) -> None:
        interval(self.every)

    @classmethod
    def stored(cls, provenance: Mapping[str, Any]) -> Probing:
        """What a stored run was measured with."""
        return cls(provenance.get(KEPT, {}), provenance.get(KEPT_EVERY, "1e"))

    @property
    def provenance(self) -> dict[str, Any]:
        """As a run keeps it."""
        return {KEPT: {name: dict(own) for name, own in self.given.items()}, KEPT_EVERY: self.every} if self else {}

    def done_in(self, provenance: Mapping[str, Any]) -> bool:
        """Whether a stored run was measured so."""
        other = Probing.stored(provenance)
        return not self or (other.every == self.every and self.given.items() <= other.given.items())

    def steps(self, per_epoch: int) -> int:
        """From one measurement to the next."""
        count, unit = interval(self.every)
        return count * per_epoch if unit == "epochs" else count


def interval(text: str) -> tuple[int, str]:
    """What --probe-every means: so many "steps" or "epochs".

    Raises:
        UsageError: neither.
    """
    number = text.removesuffix("e")
    if not (number.isascii() and number.isdecimal() and len(number) < 10 and int(number) > 0):
        raise UsageError(f"must be steps (50) or epochs (2e) above 0, got {text}", "--probe-every")
    return int(number), "epochs" if text.endswith("e") else "steps"


#: No probes.
NONE = Probing()
