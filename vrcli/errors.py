"""Errors that the user can act on: one line on stderr and an exit code."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class VrError(Exception):
    """A known failure. The message is one line; `exit_code` is the process's.

    Exit codes: 1 the run failed or diverged, 2 usage, 130 interrupted.
    """

    exit_code = 1


class UsageError(VrError):
    """The request cannot be carried out as written; nothing was recorded.

    Args:
        text: the message, without the option that it begins with.
        option: that one, as "--margin"; empty for none. A file of settings calls it otherwise.
    """

    exit_code = 2

    def __init__(self, text: str, option: str = "") -> None:
        super().__init__(refusal(option, text))
        self.text, self.option = text, option


def refusal(option: str, text: str) -> str:
    """An option and what is said of it."""
    return f"{option}{'' if text.startswith(':') else ' '}{text}" if option else text


def stop_signals() -> list[int]:
    """The signals that end a command in order, beside Ctrl-C; one that is ignored, as under nohup, stays so."""
    names = ("SIGTERM", "SIGHUP")  # some systems have no SIGHUP
    found = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in found if signal.getsignal(number) is not signal.SIG_IGN]


def first_line(error: BaseException) -> str:
    """What was raised, in one line: its class, and the first line of its message."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was not enough memory: Python, torch on a device and torch on a CPU each say it in their way."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


@contextmanager
def contained() -> Iterator[None]:
    """Around code of others: what would end this process (sys.exit) is an error like any other; Ctrl-C stays one."""
    try:
        yield
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise RuntimeError(f"it raised {first_line(error)}") from error


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the known name most like `name`, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.65)
    return f"; did you mean {match[0]}?" if match else ""


def no_curve(name: str, known: Iterable[str], *, flag: str = "--metric ", of: str = "these runs") -> UsageError:
    """The refusal of a curve that no run has.

    Args:
        known: the curves that there are.
        flag: what stands before the name.
        of: whose curves they are.
    """
    names = list(known)
    hint = nearest(name, names) or f"; there are {', '.join(names) or 'none'}"
    return UsageError(f"{flag}{name} is not a curve of {of}{hint}")
