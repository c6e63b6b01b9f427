"""What a person sees while nothing can be counted yet: a moving sign and what is being done."""

from __future__ import annotations

import atexit
import math
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock, Timer
from typing import Any, TypeVar

T = TypeVar("T")

#: What takes less is not worth a sign that comes and goes.
PATIENCE_S = 0.3


class Sign:
    """The one sign on stderr; nothing where that is not a terminal."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._text = ""
        self._timer: Timer | None = None
        self._status: Any = None
        self._hidden_at = -math.inf

    def show(self, text: str) -> None:
        """Say what is being done from now on."""
        if not sys.stderr.isatty() or "_VR_COMPLETE" in os.environ:
            return
        with self._lock:
            self._text = text
            if self._status is not None:
                self._status.update(text)
            elif self._timer is None:
                lately = time.monotonic() - self._hidden_at < PATIENCE_S
                self._timer = Timer(0.0 if lately else PATIENCE_S, self._begin)
                self._timer.daemon = True
                self._timer.start()

    def _begin(self) -> None:
        from vrcli.cli.console import err

        with self._lock:
            # It may be over already, and another timer wait in its place.
            if self._timer is not threading.current_thread() or self._status is not None:
                return
            self._status = err().status(self._text)
            self._status.start()
            atexit.register(self.hide)  # the cursor comes back, however the command ends

    def hide(self) -> None:
        """Take the sign away; whatever else is printed comes after this."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._status is not None:
                self._status.stop()
                self._status = None
                self._hidden_at = time.monotonic()
                atexit.unregister(self.hide)


SIGN = Sign()


@contextmanager
def waiting(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Say what is being done while it is.

    Args:
        text: a few words, such as "reading the task".
        quiet: say nothing.
    """
    if not quiet:
        SIGN.show(text)
    try:
        yield
    finally:
        SIGN.hide()


def waited(things: Iterable[T], text: str) -> Iterator[T]:
    """The same things, while what is being done is said until each of them comes."""
    left = iter(things)
    while True:
        try:
            with waiting(text):
                found = next(left)
        except StopIteration:
            return
        yield found
