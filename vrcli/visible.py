"""The one way in which text that others wrote reaches a terminal: nothing in it is a command to the terminal."""

from __future__ import annotations

import re

#: Controls (C0, DEL, C1), what turns the direction of writing, line and paragraph ends, halves of characters.
_CONTROLS = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROL = re.compile(f"[{_CONTROLS}]")
_CONTROL_IN_LINES = re.compile(f"(?!\n)[{_CONTROLS}]")


def visible(text: str, *, lines: bool = False) -> str:
    r"""Text with its control characters written out, such as \x1b, \n and \u202e.

    Args:
        lines: the text has several lines, whose ends stay.
    """
    found = _CONTROL_IN_LINES if lines else _CONTROL
    return found.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def visible_json(text: str) -> str:
    """JSON of several lines, with the control characters of its strings escaped as JSON does it."""
    return _CONTROL_IN_LINES.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def has_controls(text: str) -> bool:
    """Whether a text holds what `visible` writes out."""
    return _CONTROL.search(text) is not None
