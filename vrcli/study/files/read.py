"""Reading study files: those that ship with `vr`, those of the working folder, and the faults of one, a line each."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from vrcli.errors import UsageError, nearest
from vrcli.study.files.model import Study
from vrcli.visible import visible

_KINDS = {
    "int": "a whole number", "float": "a number", "string": "text", "bool": "true or false",
    "list": 'a list, as ["a", "b"]',
    "dict": "a table", "model": "a table",
}  # fmt: skip
_BOUNDS = {
    "greater_than": (">", "gt"), "greater_than_equal": (">=", "ge"), "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}  # fmt: skip


@dataclass(frozen=True)
class Written:
    """A study and where it is written.

    Args:
        name: "vradam/table1", or the path of a file without its ending.
        ships: it came with `vr`.
    """

    name: str
    path: Path
    study: Study
    ships: bool = False


class Faulty(UsageError):
    """A file that is not a study.

    Args:
        faults: a line each.
    """

    def __init__(self, path: Path, faults: Sequence[str]) -> None:
        more = f" (and {len(faults) - 1} more: vr study check {path} lists them)" if len(faults) > 1 else ""
        super().__init__(f"{path}, {faults[0]}{more}")
        self.faults = tuple(faults)


#: What `tomllib` raises of a file that is no TOML, or has a number with thousands of digits, or lists a thousand deep.
_NO_TOML = (ValueError, RecursionError)


def shipped() -> dict[str, Path]:
    """The studies that come with `vr`, by name."""
    folder = Path(str(files("vrcli.study"))) / "shipped"
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.toml"))}


def own(folder: Path = Path()) -> dict[str, Path]:
    """The files of a folder that look like studies: TOML with parts that have a task."""
    found = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            parts = tomllib.loads(path.read_text("utf-8")).get("parts")
        except (OSError, *_NO_TOML):
            continue
        if isinstance(parts, dict) and any(isinstance(part, dict) and "task" in part for part in parts.values()):
            found[path.with_suffix("").as_posix()] = path
    return found


def find(name: str) -> Written:
    """The study of that name: a file, or one that ships.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    path = Path(name)
    here = [one for one in (path, path.with_name(f"{path.name}.toml")) if one.is_file()] if path.name else []
    ship = shipped()
    if not here and name not in ship:
        known = [*ship, *own()]
        hint = nearest(name, known) or f"; there are {', '.join(known)}"
        raise UsageError(f"no study {name}{hint} (vr study list)")
    where = here[0] if here else ship[name]
    plain = name.removesuffix(".toml") if here else name
    return Written(plain, where, load(where), ships=not here)


def load(path: Path) -> Study:
    """Read a study file.

    Raises:
        Faulty: it is none.
        UsageError: there is no such file.
    """
    try:
        text = path.read_text("utf-8")
        body = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except _NO_TOML as error:
        raise Faulty(path, [f"it is not TOML: {first_line(error)}"]) from None
    try:
        return Study(**{key.replace("-", "_"): value for key, value in body.items()})
    except ValidationError as error:
        raise Faulty(path, _faults(error, lines_of(text))) from None


def first_line(error: Exception) -> str:
    """Its message in one line."""
    return visible(str(error).partition("\n")[0])


# -- faults -----------------------------------------------------------------------------------------------------------

Place = tuple[str | int, ...]


def _faults(error: ValidationError, lines: Mapping[Place, int]) -> list[str]:
    """All problems, in the order of the file; of a value that could be of several kinds one."""
    by_place: dict[Place, str] = {}
    for one in error.errors():
        where = tuple(key for key in one["loc"] if key not in ("float", "str", "bool", "int", "list[any]"))
        by_place.setdefault(where, _fault(one, where, lines))
    return [by_place[where] for where in sorted(by_place, key=lambda where: line_of(where, lines) or 0)]


def _fault(error: Mapping[str, Any], where: Place, lines: Mapping[Place, int]) -> str:
    """One problem in one line: where, what is wrong with it, and what is accepted."""
    kind, context = error["type"], error.get("ctx", {})
    given = visible(repr(error["input"]))[:80]
    if kind == "extra_forbidden":
        known = keys_at(where[:-1])
        hint = nearest(str(where[-1]), known) or f"; keys are {', '.join(known)}"
        return at(where, lines, f"is not a key here{hint}")
    if kind == "missing":
        return at(where, lines, "is missing")
    if kind in _BOUNDS:
        sign, name = _BOUNDS[kind]
        return at(where, lines, f"must be {sign} {context[name]:g}, got {given}")
    if kind == "literal_error":
        accepted = context["expected"].replace("'", "")
        return at(
            where,
            lines,
            f"must be {accepted}{nearest(str(error['input']), re.split(', | or ', accepted))}; got {given}",
        )
    if kind in ("too_short", "too_long"):
        sign = "at least" if kind == "too_short" else "at most"
        count = context["min_length" if kind == "too_short" else "max_length"]
        return at(where, lines, f"must have {sign} {count} of them, got {context['actual_length']}")
    if kind == "finite_number":
        return at(where, lines, f"must be a finite number, got {given}")
    if kind.endswith("_type"):
        wanted = _KINDS.get(kind.split("_")[0], error["msg"])
        return at(where, lines, f"must be {wanted}, got {given}")
    return at(where, lines, error["msg"].removeprefix("Value error, "))


def at(where: Place, lines: Mapping[Place, int], what: str) -> str:
    """ "line 12, parts.paper.trails: is not a key here"."""
    shown = "".join(f"[{key + 1}]" if isinstance(key, int) else f".{key}" for key in where).removeprefix(".")
    line = line_of(where, lines)
    return f"{f'line {line}, ' if line else ''}{shown or 'the file'}: {what}"


def line_of(where: Place, lines: Mapping[Place, int]) -> int | None:
    """The line of a key, or of the table that it is missing in."""
    return next((lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in lines), None)


def keys_at(where: Place) -> list[str]:
    """The keys that a table of the file takes."""
    model: Any = Study
    for key in where:
        if isinstance(model, type) and issubclass(model, BaseModel):
            info = model.model_fields.get(str(key))
            model = None if info is None else info.annotation
        else:
            model = next((one for one in get_args(model)[::-1]), None)
        while model is not None and not isinstance(model, type) and type(None) in get_args(model):
            model = get_args(model)[0]
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_WORD = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def lines_of(text: str) -> dict[Place, int]:
    """The line of every table and key; of what a line holds in braces, that line."""
    return dict(_lines(text))


def _lines(text: str) -> Iterator[tuple[Place, int]]:
    table: Place = ()
    counts: dict[Place, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = tuple(_words(header[2]))
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            yield table, number
        elif key := _KEY.match(line):
            yield (*table, *_words(key[1])), number


def _words(dotted: str) -> list[str]:
    return [word.strip("\"'") for word in _WORD.findall(dotted)]
