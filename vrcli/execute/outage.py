"""What goes on while a database is away: its server restarts, its disk is full, somebody keeps its lock.

Whoever writes tries again for a while, at growing intervals, and gives up in order: what is recorded stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from vrcli.db.errors import Unavailable as Unavailable
from vrcli.errors import VrError

#: How long a database may stay away, and the longest wait between two tries.
PATIENCE_S = 30.0
_LONGEST_WAIT_S = 4.0

T = TypeVar("T")


@dataclass(frozen=True)
class Away:
    """The first of several writes that failed, for whoever watches; its text is one line."""

    reason: str
    patience_s: float

    def __str__(self) -> str:
        return f"{self.reason}; trying again for {self.patience_s:.0f} s"


class Outage(VrError):
    """A database stayed away for longer than anybody waits.

    Args:
        reason: what it said at last.
        more: what stays and how to go on.
    """

    def __init__(self, reason: str, more: str) -> None:
        super().__init__(f"{reason}; {more}")
        self.reason = reason


class Patience:
    """Says when to try again, and when to give up.

    Args:
        should_stop: nobody wants to wait any longer.
    """

    def __init__(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.should_stop = should_stop
        self.forget()

    def forget(self) -> None:
        """The database is back."""
        self._since, self._next, self._wait = None, 0.0, 0.0  # type: float | None, float, float

    def failed(self, error: Unavailable) -> Away | None:
        """Note that a write failed.

        Returns:
            What to tell, the first time.

        Raises:
            Unavailable: the same, where it has been away for long enough and there was a second try.
        """
        now, first = time.monotonic(), self._since is None
        self._since = now if self._since is None else self._since
        if not first and (now - self._since >= PATIENCE_S or self.should_stop()):
            raise error
        self._next = now + self._wait
        self._wait = min(2 * self._wait, _LONGEST_WAIT_S) or 0.2
        return Away(str(error), PATIENCE_S) if first else None

    @property
    def due(self) -> bool:
        """Whether it is time for the next try."""
        return time.monotonic() >= self._next

    def pause(self) -> None:
        """Wait for the next try."""
        while not self.due and not self.should_stop():
            time.sleep(0.05)


def patiently(
    write: Callable[[], T],
    *,
    should_stop: Callable[[], bool] = lambda: False,
    arrived: Callable[[], T | None] = lambda: None,
) -> Generator[Away, None, T]:
    """Write, again and again while the database is away.

    Args:
        arrived: asked before another try: what an earlier one returned that arrived, though the answer was lost.

    Raises:
        Unavailable: it stayed away.
    """
    patience, again = Patience(should_stop), False
    while True:
        try:
            if again and (found := arrived()) is not None:
                return found
            return write()
        except Unavailable as error:
            again = True
            if (away := patience.failed(error)) is not None:
                yield away
            patience.pause()


def told(events: Generator[Away, None, T], tell: Callable[[Away], object]) -> T:
    """Carry out what waits patiently where nobody takes its events."""
    while True:
        try:
            tell(next(events))
        except StopIteration as stop:
            found: T = stop.value
            return found
