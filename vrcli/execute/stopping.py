"""Orderly ends: signals that ask for one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from vrcli.errors import stop_signals


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """While inside, the first Ctrl-C, SIGTERM or SIGHUP asks for an orderly end; a second one interrupts at once.

    Yields:
        Whether a stop was asked for.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, *stop_signals())}
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
