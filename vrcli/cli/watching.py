"""Commands that run a study: its events go to a display, and its result comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vrcli.cli.compare_display import CompareDisplay
from vrcli.cli.run_display import RunDisplay
from vrcli.cli.study_display import StudyDisplay
from vrcli.cli.sweep_display import SweepDisplay
from vrcli.study.follow import follow

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
    with display:
        return follow(study, display.show)


def display_of(what: Literal["run", "sweep", "compare", "study"]) -> Display:
    """The display of progress alone: whoever asked gets the result and prints it."""
    if what == "study":
        return StudyDisplay(quiet=False, summary=False)
    if what == "compare":
        return CompareDisplay(quiet=False, summary=False)
    return RunDisplay({}, quiet=False, summary=False) if what == "run" else SweepDisplay(quiet=False, summary=False)
