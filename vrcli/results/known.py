"""What the tasks of stored runs say of their results: which way is better, and how they are shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vrcli.results.types import Declared, Known

if TYPE_CHECKING:
    from vrcli.db.store import Store


def known_of(store: Store, tasks: Iterable[str]) -> Known:
    """What these tasks say, by result name; no direction where they contradict each other."""
    wanted, found = set(tasks), dict[str, Declared]()
    for (task, name), fact in store.runs.metric_facts().items():
        if task in wanted:
            own = Declared(fact.direction, fact.percent, fact.shown)
            other = found.get(name, own)
            same = own.direction if own.direction == other.direction else None
            found[name] = Declared(same, own.percent and other.percent, own.shown or other.shown)
    return found
