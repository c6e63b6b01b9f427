"""Data embedded in the HTML page: JSON that a script tag cannot end, with numbers no longer than a chart shows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from vrcli.output import json_number

#: Significant digits of numbers in charts: finer than a pixel at any zoom that makes sense.
DIGITS = 5


def embeddable(value: Any) -> str:
    """JSON for a `<script type="application/json">`: no character in it can end the tag or a line of JavaScript."""
    text = json.dumps(plain(value), allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def plain(value: Any) -> Any:
    """The same in JSON's types; a number that is not finite, and what JSON does not know, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return json_number(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def numbers(values: Iterable[float]) -> list[float | int | None]:
    """Rounded values for a chart; null where there is no finite one."""
    return [_short(float(value)) if math.isfinite(value) else None for value in values]


def _short(value: float) -> float | int:
    short = float(f"{value:.{DIGITS}g}") if abs(value) < 1e5 or value != int(value) else value
    return int(short) if short == int(short) else short
