"""Passwords in command lines, which are kept with runs and shown on pages that people hand over."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: What SQLAlchemy reads as user and password of a URL, and a password among the URL's options.
_OF_A_USER = re.compile(r"(://[^:/]*):[^@]*@")
_OPTION = re.compile(r"(://.*[?&]password)=[^&]*")


def masked(words: Iterable[str]) -> list[str]:
    """The words of a command line with *** for the password of every URL in them; users stay."""
    return [_OPTION.sub(r"\1=***", _OF_A_USER.sub(r"\1:***@", word)) for word in words]
