"""The one way in which words that may hold a password are shown, stored and refused."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote_plus

#: What begins a URL, also where a slash or the colon was forgotten.
URL_BEGINS = r"(?:://|\bpostgres[\w+]*(?::/?(?!/)|//))"
#: A user and a password with no beginning before them.
_BARE = re.compile(r"(?<!\S)([\w.+-]+):(?!\*\*\*@)\S+@(?=[^@/\s]+/)")
#: A user's password reaches to the last @: one that was not written as %40 belongs to the password.
_OF_A_USER = re.compile(rf"({URL_BEGINS}[^:]*):(?!\*\*\*@).*@", re.DOTALL)
_SECRET_NAMES = r"(?:pass|pwd|secret|token|credential|scram)"
#: An option of a URL, up to its value, whose name or content is a secret.
SECRET_OPTION = re.compile(rf"([\w.-]*{_SECRET_NAMES}[\w.-]*\s*=)(?!\*{{3}}(?:\W|$))", re.IGNORECASE)
#: Outside a URL only what libpq calls its passwords: a task may well have a setting with "token" in its name.
_OF_LIBPQ = re.compile(r"\b((?:ssl)?password\s*=\s*)('[^']*'|\S+)", re.IGNORECASE)
_SUSPECT = re.compile(rf"{URL_BEGINS}|password", re.IGNORECASE)


def masked(text: str) -> str:
    """A word of a command line with *** for the passwords of a URL or a connection string; users stay.

    What is masked stays as it is. A password is taken to reach as far as it may: too much is masked before too little.
    """
    if not re.search(URL_BEGINS, text):
        return _OF_LIBPQ.sub(r"\1***", _BARE.sub(r"\1:***@", text))
    return re.sub(r"[^?&]+", lambda found: _masked_option(found[0]), _OF_A_USER.sub(r"\1:***@", text))


def masked_line(text: str) -> str:
    """A message that may repeat words of a command line. In it a password ends with the word: what follows stays."""
    return " ".join(map(masked, text.split(" ")))


def _masked_option(part: str) -> str:
    """A part of a URL between ? and &, cut behind the name of an option that holds a secret."""
    plain = unquote_plus(part)
    found = SECRET_OPTION.search(plain)
    return part if found is None else f"{plain[: found.end()]}***"


def masked_provenance(text: str) -> str:
    """The stored origin of a run, in JSON, with the command line masked."""
    if not _SUSPECT.search(text):
        return text
    try:
        stored = json.loads(text)
    except ValueError:  # damaged
        return masked_line(text)
    shown = [masked(word) if isinstance(word, str) else word for word in stored.get("argv", ())]
    return text if shown == stored.get("argv", []) else json.dumps(stored | {"argv": shown})
