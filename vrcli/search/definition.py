"""What a search is: task, optimizer, everything fixed, the space, the seeds and how it proposes.

A stored search goes on only under the definition it began with: all its trials were run under the same conditions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from vrcli.direction import Direction
from vrcli.search import axes
from vrcli.tasks.space import Dimension


@dataclass(frozen=True)
class Definition:
    """One search: task x optimizer, under fixed conditions.

    Args:
        explicit: settings that the user gave, by the name they are typed with; the rest follows from the preset.
        settings: every setting that is not searched, resolved: what is compared when a search goes on.
        space: the axes, as `axes.describe` writes them.
        origins: where each axis comes from; no part of the comparison.
        initial: points before the search learns; 0 for as many as suit the number of trials.
        seeds: of each trial's runs; its value is their mean.
        dataset_fingerprint: of the data, once they were loaded.
        epochs: evaluations of each run, one after every epoch; 0 where their number is not known beforehand.
        code: the identity of the code that all trials run; empty in a search of an earlier version.
        objective: the metric that is searched for, without its split.
        direction: which of its values is better. The usual one leaves no trace in `plain`.
    """

    task: str
    preset: str
    optimizer: str
    explicit: Mapping[str, Any]
    settings: Mapping[str, Any]
    space: Mapping[str, Mapping[str, Any]]
    origins: Mapping[str, str]
    seeds: tuple[int, ...]
    device: str
    search: str
    initial: int
    search_seed: int
    prune: str
    epochs: int
    dataset: str = ""
    dataset_fingerprint: str = ""
    code: Mapping[str, str] = field(default_factory=dict)
    objective: str = "loss"
    direction: Direction = "min"

    @property
    def ending(self) -> dict[str, Any]:
        """What ends each run: `epochs`, or `until` instead."""
        until = self.settings.get("until")
        return (
            {"epochs": self.settings.get("epochs", self.epochs)} if until is None else {"epochs": None, "until": until}
        )

    @cached_property
    def axes(self) -> dict[str, Dimension]:
        return axes.restore(self.space, self.origins)

    def plain(self) -> dict[str, Any]:
        """As JSON gives it back."""
        body: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {name: value for name, value in body.items() if (name, value) not in _USUAL}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Definition:
        """What `plain` wrote."""
        return cls(**{**plain, "seeds": tuple(plain["seeds"])})

    def on(self, dataset: str, fingerprint: str) -> Definition:
        """The same, of data that were loaded."""
        return replace(self, dataset=dataset, dataset_fingerprint=fingerprint)

    def differences(self, other: Definition) -> list[str]:
        """What `other` has otherwise, each as "name: here, there"; empty for the same search."""
        mine, theirs = _facts(self), _facts(other)
        return [
            f"{name} {_short(mine.get(name))} -> {_short(theirs.get(name))}"
            for name in dict.fromkeys([*mine, *theirs])
            if mine.get(name) != theirs.get(name)
        ] + code_changes(self.code, other.code)


#: What is so of most searches: stored with none, so that it changes no key.
_USUAL = (("objective", "loss"), ("direction", "min"))
#: What a trial would not notice, or what follows from the rest: no part of a search's key.
FOLLOWS = ("explicit", "origins", "objective")
_COMPARED_ELSEWHERE = ("explicit", "settings", "space", "origins", "epochs", "code", "objective")


def _facts(definition: Definition) -> dict[str, Any]:
    body = definition.plain()
    # The name of the data is not the setting `dataset`, which a part of them shares with the whole.
    facts = {"data" if k == "dataset" else k: v for k, v in body.items() if k not in _COMPARED_ELSEWHERE}
    facts |= {f"space of {name}": str(axis) for name, axis in definition.axes.items()}
    return {**facts, **body["settings"]}


def _short(value: Any) -> str:
    return "(absent)" if value is None else str(value)


def code_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is other code now, each as "optimizer code: before -> now"; empty where it is the same."""
    if bool(before) is not bool(now):
        return ["code not recorded -> recorded" if now else "code recorded -> not recorded"]
    parts = dict.fromkeys([*before, *now])
    return [f"{p} code {before.get(p)} -> {now.get(p)}" for p in parts if before.get(p) != now.get(p)]
