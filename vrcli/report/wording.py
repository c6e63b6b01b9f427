"""How numbers, times and command lines are written for people."""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from vrcli.direction import Direction, extremum
from vrcli.results.types import Several, end_of

MINUS = "\u2212"

#: Curves that are not called after a split.
QUANTITIES = {
    "grad_norm": "gradient norm",
    "lr_effective": "effective learning rate",
    "wall_s": "wall time (s)",
}
#: Beginnings of the names of results and curves, in words, and what stands behind them.
SIDES = (
    ("best_val_", "best validation", ""),
    ("val_", "validation", ""),
    ("test_", "test", ""),
    ("train_", "training", ""),
    ("epoch_train_", "training", " (epoch mean)"),
)


def number(value: float, digits: int = 4) -> str:
    """A value in `digits` significant digits; "nan" and "inf" as words.

    Args:
        value: shown plainly between 1e-4 and 1e6, with an exponent elsewhere.
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("inf" if value > 0 else f"{MINUS}inf")
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}".replace("-", MINUS, 1 if value < 0 else 0)
    whole = math.floor(math.log10(abs(value)))
    return f"{value:.{max(0, digits - 1 - whole)}f}".replace("-", MINUS)


def value(found: float | None, *, percent: bool = False) -> str:
    """A result on its own: in significant digits, or in per cent; a dash where there is none."""
    if found is None:
        return "-"
    return f"{100 * found:.1f} %" if percent and math.isfinite(found) else number(found)


def signed(value: float, digits: int = 2) -> str:
    """A difference, always with its sign."""
    return ("+" if value > 0 else "") + number(value, digits)


def with_half_width(mean: float, half: float, *, percent: bool = False) -> str:
    """ "0.0634 ± 0.0021": the half-width in two significant digits and the mean to the same place.

    Args:
        half: NaN where there is no interval; the mean then stands alone.
    """
    if percent:
        mean, half = 100 * mean, 100 * half
    unit = " %" if percent else ""
    if not math.isfinite(mean):
        return number(mean)
    if not math.isfinite(half):
        return (f"{mean:.1f}" if percent else number(mean)) + unit
    if half <= 1e-12 * abs(mean):  # values that do not spread, but for the rounding of their mean
        return f"{number(mean)} ± 0{unit}"
    largest = max(abs(mean), half)
    power = math.floor(math.log10(largest))
    if percent or -4 <= power < 6:
        decimals = min(12, max(0, 1 - math.floor(math.log10(half))))
        if percent:
            decimals = max(1, min(decimals, 2))
        return f"{mean:.{decimals}f} ± {half:.{decimals}f}{unit}".replace("-", MINUS)
    decimals = min(12, max(0, 1 + power - math.floor(math.log10(half))))
    scale = 10.0**power
    return f"({mean / scale:.{decimals}f} ± {half / scale:.{decimals}f})e{power:+03d}".replace("(-", f"({MINUS}")


def p_value(p: float) -> str:
    """ "p = 0.006"; "p < 0.001" below that."""
    if math.isnan(p):
        return "p not available"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.0995 else f"p = {p:.2f}"


def p_cell(p: float) -> str:
    """A p-value under its heading."""
    return "-" if math.isnan(p) else p_value(p).removeprefix("p = ").removeprefix("p ")


def setting(value: object, digits: int = 6) -> str:
    """A setting's value, short: floats without trailing zeros, lists as they are typed, a dash where there is none.

    Of several searches it is the range of numbers, or all choices: "0.003..0.02", "False|True".

    Args:
        digits: significant ones of a float.
    """
    if isinstance(value, Several):
        return span(value.values)
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, list | tuple):
        return ",".join(setting(item, digits) for item in value)
    return "-" if value is None else str(value)


def span(values: Sequence[object], digits: int = 2) -> str:
    """The range of numbers, or one where it has no extent; all choices, of what is no number.

    Args:
        digits: significant ones of a float.
    """
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values):
        return "|".join(sorted({setting(v) for v in values}))
    ends = (f"{v:.{digits}g}" if isinstance(v, float) else str(v) for v in (min(numbers), max(numbers)))
    return "..".join(dict.fromkeys(ends))


#: Digits of a setting that a search chose, on a screen: the search knows no more of them.
SEARCHED = 3


def settings(values: Mapping[str, object], *, searched: Collection[str] = ()) -> str:
    """ "lr=0.003 beta3=1".

    Args:
        searched: names of those that a search chose, which are rounded.
    """
    digits = {name: SEARCHED if name in searched else 6 for name in values}
    return " ".join(f"{name}={setting(value, digits[name])}" for name, value in values.items())


def replay(run: str, lr_from: str) -> str:
    """Where the learning rate of a run came from that replayed another's.

    Args:
        run: the other one's name.
        lr_from: of its training, "vradam:b1edf31fe7a35b3b".
    """
    return f"learning rate of run {run} ({lr_from.rpartition(':')[0]}), step for step; no schedule beside it"


def quantity(name: str) -> str:
    """A result or a curve as its axis is called: "validation loss" for val_loss, "training loss (epoch mean)"."""
    if name in QUANTITIES:
        return QUANTITIES[name]
    for prefix, side, note in SIDES:
        if name.startswith(prefix):
            return f"{side} {name.removeprefix(prefix).replace('_', ' ')}{note}"
    return name.replace("_", " ")


class Answering(Protocol):
    """What is run by a process."""

    @property
    def status(self) -> str: ...
    @property
    def answers(self) -> bool: ...


NOT_ANSWERING = "not answering"


def status(one: Answering) -> str:
    """How a run or search stands; what is recorded as running although its process is gone is not answering."""
    return NOT_ANSWERING if one.status == "running" and not one.answers else one.status


def best_over(direction: Direction | None, *, until: bool) -> str:
    """What the best value of a curve is: "minimum over epochs".

    Args:
        until: runs end by something else than epochs, and are evaluated as often as they say.
    """
    return f"{extremum(direction)} over {'evaluations' if until else 'epochs'}"


def counted(count: int, word: str, verb: str = "") -> str:
    """ "1 trial", "2 trials"; with the verb of several "1 trial is", "2 trials are".

    Args:
        verb: "are" or "have", as it stands with several.
    """
    noun = word if count == 1 else f"{word}{'es' if word.endswith(('s', 'x', 'ch', 'sh')) else 's'}"
    verb = {"are": "is", "have": "has"}[verb] if verb and count == 1 else verb
    return f"{count:,} {noun} {verb}".rstrip()


def size(count: int) -> str:
    """A number of bytes: "252 kB"."""
    amount, unit = float(count), "bytes"
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 999.5 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if amount >= 99.5 or unit == "bytes" else f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """ "4.3 s", "12 s", "3 min 20 s", "1 h 05 min"."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def ago(then: datetime, now: datetime) -> str:
    """ "2 min ago"; the date once it is a month past. A time without a zone is taken as UTC."""
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    now = now if now.tzinfo else now.replace(tzinfo=UTC)
    seconds = (now - then).total_seconds()
    if seconds < 10:
        return "just now"
    for size, unit, most in ((1, "s", 60), (60, "min", 60), (3600, "h", 24), (86400, "d", 30)):
        if seconds / size < most:
            return f"{int(seconds / size)} {unit} ago"
    return then.astimezone().strftime("%Y-%m-%d")


def command(argv: Sequence[str]) -> str:
    """A command line as it can be typed again.

    Args:
        argv: as a process has it, the program first.
    """
    return shlex.join(["vr", *argv[1:]])


def script(argv: Sequence[str]) -> str:
    """The same of a script that recorded itself."""
    return shlex.join(["python", *argv])


def end_text(settings: Mapping[str, Any]) -> str:
    """What was to end a run, of its settings: "20 epochs", "gradients:2000"."""
    end = end_of(settings)
    return f"{end} epoch{'s' * (end != '1')}" if end.isdecimal() else end


def unconfirmed(optimizers: Iterable[str]) -> str:
    """That these were searched, and that other settings stand for them."""
    names = ", ".join(sorted(optimizers))
    return f"{names}: the best of a sweep is not shown, since it has no fresh seeds (--confirm-seeds 3)"
