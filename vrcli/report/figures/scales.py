"""Axes of figures: where they are logarithmic, and what stands at their ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vrcli.report.text_plot import LOG_FROM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from vrcli.stats.inference import Array


def log_where_it_serves(axes: Axes, values: Iterable[Array], wanted: bool | None = None) -> bool:
    """A logarithmic y axis when asked for, or where all values are positive and span a factor of 20.

    Args:
        wanted: what was asked for; a logarithmic axis then leaves out what is not positive.
    """
    pool = _finite(values)
    shown = pool[pool > 0]
    if not len(shown) or wanted is False or (wanted is None and len(shown) < len(pool)):
        return False
    span = float(shown.max() / shown.min())
    if wanted or span >= LOG_FROM:
        axes.set_yscale("log")
        plain_log_ticks(axes.yaxis, span)
        return True
    return False


def log_of_lines(axes: Axes, lines: Sequence[Array], wanted: bool | None = None) -> bool:
    """A logarithmic y axis for lines, which may have gaps at zero; with values below it, linear around zero.

    Returns:
        whether the axis is logarithmic throughout.
    """
    from matplotlib.ticker import FuncFormatter, SymmetricalLogLocator

    pool = _finite(lines)
    if wanted is not None or not (pool < 0).any():
        return log_where_it_serves(axes, [line[line != 0] for line in lines], wanted)
    sizes = np.abs(pool[pool != 0])
    typical = float(np.median(sizes))
    if sizes.max() / typical >= LOG_FROM**2:
        linear = 10.0 ** round(math.log10(typical))
        axes.set_yscale("symlog", linthresh=linear)
        locator = SymmetricalLogLocator(base=10, linthresh=linear)
        locator.set_params(subs=[1.0], numticks=5)
        axes.yaxis.set_major_locator(locator)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
    return False


def placed(axes: Axes, y: Array) -> Array:
    """Values that the y axis has a place for, and NaN: a line ends there instead of falling out of the panel."""
    return np.where(np.isfinite(y) & ((y > 0) | (axes.get_yscale() != "log")), y, np.nan)


def _finite(values: Iterable[Array]) -> Array:
    return np.concatenate([np.empty(0), *(v[np.isfinite(v)] for v in values)])


def log_x_where_it_serves(axes: Axes, values: Sequence[float], room: int) -> None:
    """A logarithmic x axis where the values span a factor of 20; see `plain_log_ticks`."""
    if values and min(values) > 0 and max(values) / min(values) >= LOG_FROM:
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis, max(values) / min(values), room)


def plain_log_ticks(axis: Axis, span: float, room: int = 7) -> None:
    """Plain numbers at a logarithmic axis: powers of ten, and some of their multiples where there is room.

    Args:
        span: how many times its least value the greatest is.
        room: so many numbers fit beside each other.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    decades = math.log10(span) if span > 0 else 0.0
    subs = (1.0, 2.0, 5.0) if 3 * decades <= room else (1.0, 3.0) if 2 * decades <= room else (1.0,)
    # Within half a decade there may be no power of ten at all.
    axis.set_major_locator(MaxNLocator(min(room, 6)) if span < 4 else LogLocator(subs=subs, numticks=room))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
    axis.set_minor_formatter(NullFormatter())


def tick_text(value: float) -> str:
    """A value at an axis, short: 0.001, 200, 1e-4, 5e5."""
    if value == 0 or 1e-3 * (1 - 1e-9) <= abs(value) < 1e5:
        return f"{value:g}"
    mantissa, power = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(power)}"


def whole_ticks(axes: Axes) -> None:
    """No half steps, epochs or trials on the x axis."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
