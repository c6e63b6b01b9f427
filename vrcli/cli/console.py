"""Lines for people and documents for machines: results on stdout, progress and notices on stderr."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any

from vrcli.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 100
#: A space at which no line is broken.
_KEPT = "\N{NO-BREAK SPACE}"


def out() -> Console:
    """The console for results. Not a terminal: no colour, no wrapping to a terminal's width."""
    return _console(stderr=False)


def err() -> Console:
    """The console for progress and notices: one for each stream, so that a notice leaves a bar below it whole."""
    if _ERR.get("stream") is not sys.stderr:
        _ERR.update(stream=sys.stderr, console=_console(stderr=True))
    found: Console = _ERR["console"]
    return found


_ERR: dict[str, Any] = {}


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, soft_wrap=True, width=None if stream.isatty() else WIDTH)


def say(text: str = "", *, style: str | None = None, to: Console | None = None, prose: bool = False) -> None:
    """Print one line as it is: square brackets in it are not markup, control characters are written out.

    Args:
        prose: break long lines between words on a terminal; a pipe always gets whole lines.
    """
    console = to or out()
    line = visible(text)
    for part in folded(line, console.width, 0) if prose and console.is_terminal else [line]:
        console.print(part, style=style, markup=False, soft_wrap=True)


def folded(line: str, width: int, indent: int) -> list[str]:
    """A line in parts that fit a width, broken between its facts (three spaces apart) or else between words."""
    facts = [one.replace(" ", _KEPT) if len(one) <= width - indent else one for one in line.split("   ")]
    found = textwrap.wrap(
        "   ".join(facts), max(width, indent + 20), subsequent_indent=" " * indent, break_on_hyphens=False,
        break_long_words=False, replace_whitespace=False, drop_whitespace=True,
    )  # fmt: skip
    return [one.replace(_KEPT, " ") for one in found] or [""]


def put(text: str, *, exact: bool = False) -> None:
    """Print a whole document to stdout.

    Args:
        exact: it is for a machine, whose format has its own way to write control characters.
    """
    sys.stdout.write(text if exact else visible(text, lines=True))


def notice(text: str) -> None:
    """One line to stderr about something done on the user's behalf."""
    say(f"note: {text}", to=err(), style="magenta", prose=True)
