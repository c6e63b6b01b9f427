"""`vr study new`: a study file with comments, which runs as it is."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from vrcli.errors import UsageError
from vrcli.output import Target


def write_study(name: str, folder: Path = Path()) -> Path:
    """Write `NAME.toml`.

    Raises:
        UsageError: the name cannot be one, or there is such a file.
    """
    plain = name.removesuffix(".toml")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", plain):
        raise UsageError(f"{name} cannot name a study: use letters, digits, - and _")
    path = folder / f"{plain}.toml"
    text = (files(__package__) / "study_template.toml").read_text("utf-8")
    if path.exists():
        raise UsageError(f"{path} is there already; name another study")
    Target(path, flag="vr study new").write_text(text.replace("TITLE", plain))
    return path
