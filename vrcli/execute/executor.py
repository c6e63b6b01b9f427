"""Where runs run: local worker processes now, anything with the same four methods later.

Whoever decides what to run knows an `Executor` only: it hands over jobs, receives messages about them, and never waits
for a particular one. A cluster engine is put behind the same interface; neither search nor store see the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from vrcli.errors import VrError


@dataclass(frozen=True)
class Message:
    """What happened to a job.

    Args:
        kind: "note" while it runs; then once "done" (it returned), "failed" (it raised), "refused" (its request was no
            good), "edited" (its code was edited meanwhile), "outage" (its database stayed away) or "died" (its
            process did, under it).
        body: the note, what it returned, or why, in one line; of edited code its identity now.
    """

    key: Any
    kind: Literal["note", "done", "failed", "refused", "edited", "outage", "died"]
    body: Any


#: What runs in a worker: (payload, note, should_stop) -> result. `note` sends a message while the job runs. Where it
#: has a method `close`, that is called before the worker ends in order.
Work = Callable[[Any, Callable[[Any], None], Callable[[], bool]], Any]


class Executor(Protocol):
    """Runs jobs somewhere, a few at a time."""

    def free(self) -> int:
        """How many more jobs can be submitted now."""

    def submit(self, key: Any, payload: Any) -> None:
        """Start a job; `payload` can be pickled."""

    def receive(self, timeout_s: float) -> Sequence[Message]:
        """What happened since the last call; waits up to `timeout_s` for the first message."""

    def close(self, *, patience_s: float = 0.0) -> Sequence[Message]:
        """Ask the running jobs to stop, give them `patience_s`, end the rest. Returns the last messages."""


#: How long what is running may take to end in order after Ctrl-C; what takes longer is ended, and recorded so.
PATIENCE_S = 2.0


class Interrupted(VrError):
    """The user ended it; the same command continues it."""

    exit_code = 130


class Refused(Exception):
    """Raised by work whose request cannot be carried out as it stands (a data set that is not there)."""


class CodeChanged(Exception):
    """Raised by work whose process has other code than the one that asked for it: nothing more can be run.

    Args:
        now: the identity of the code of this process.
    """

    def __init__(self, now: Mapping[str, str]) -> None:
        super().__init__("code was edited")
        self.now = dict(now)
