"""Commands that run a study: its events go to a display, and its result comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from vrcli.study.events import Event


class Display(AbstractContextManager[Any], Protocol):
    """Shows events as they come."""

    def show(self, event: Event) -> None: ...


def watch(study: Callable[[Callable[[], bool]], Iterator[Event]], display: Display) -> Any:
    """Carry out a study while a display shows it; the first Ctrl-C ends it in order.

    Args:
        study: makes the events; it is given what says whether to stop.

    Returns:
        The result.
    """
    from vrcli.study.follow import follow

    with display:
        return follow(study, display.show)
