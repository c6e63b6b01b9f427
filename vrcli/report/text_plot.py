"""Curves as text, for a terminal.

Written here because the libraries at hand draw a noisy curve as a smear and tell series apart by colour alone. Each
column shows the mean of its points and the range they span, each series has a mark of its own, gaps stay gaps, and the
result is the same without colour and in plain ASCII.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vrcli.stats.inference import Array

Columns: TypeAlias = tuple[Array, Array, Array, NDArray[np.bool_]]


@dataclass(frozen=True)
class Glyphs:
    """The characters of one plot."""

    marks: str
    spread: str
    nonfinite: str
    wall: str
    tick: str
    floor: str
    foot: str
    corner: str


UNICODE = Glyphs("●○▲△■□◆◇", "·", "×", "│", "┤", "─", "┬", "└")
ASCII = Glyphs("*o#+%@&=", ".", "x", "|", "+", "-", "+", "+")
#: A range of values wider than this is drawn on a logarithmic axis.
LOG_FROM = 20.0


def plot(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    width: int = 80,
    height: int = 14,
    x_label: str = "step",
    log: bool | None = None,
    ascii: bool = False,
    limits: tuple[float, float] | None = None,
) -> str:
    """Draw curves with axes and a legend.

    Args:
        series: x (increasing) and y by name; y may contain NaN and infinities, which are marked on the top edge.
        width: of the whole text, at least 30 columns.
        height: rows of the plotting area, at least 4.
        log: logarithmic y axis; by default where all values are positive and span a factor of 20.
        ascii: use ASCII characters only.
        limits: of the y axis; by default those of the values.
    """
    glyphs = ASCII if ascii else UNICODE
    curves = {name: _arrays(x, y) for name, (x, y) in series.items()}
    curves = {name: (x, y) for name, (x, y) in curves.items() if len(x)}
    xs = [x for x, _ in curves.values()]
    values = [y[np.isfinite(y)] for _, y in curves.values()]
    if not any(len(v) for v in values):
        return "no finite values to plot" if curves else "nothing to plot"
    left, right = float(min(x[0] for x in xs)), float(max(x[-1] for x in xs))
    height, width = max(4, height), max(30, width)
    low, high = limits or (min(float(v.min()) for v in values if len(v)), max(float(v.max()) for v in values if len(v)))
    if log is None:
        log = low > 0 and high / low >= LOG_FROM
    axis = _Axis.over(low, high, height, log and low > 0)
    labels = axis.labels()
    margin = max(len(text) for text in labels.values()) + 1
    inner = width - margin - 1
    grid = [[" "] * inner for _ in range(height)]
    columns = {name: _columns(x, y, left, right, inner) for name, (x, y) in curves.items()}
    for found in columns.values():
        _draw_spread(grid, found, axis, glyphs)
    for (_, found), mark in zip(columns.items(), glyphs.marks * (len(columns) // len(glyphs.marks) + 1), strict=False):
        _draw_line(grid, found, axis, mark, glyphs)
    lines = [_legend(columns, glyphs, axis)]
    for row in range(height):
        label = labels.get(row, "")
        lines.append(f"{label:>{margin}}{glyphs.tick if label else glyphs.wall}{''.join(grid[row])}".rstrip())
    return "\n".join([*lines, *_x_axis(left, right, inner, margin, x_label, glyphs)])


def _arrays(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)


@dataclass(frozen=True)
class _Axis:
    """Maps values to rows, 0 on top."""

    low: float
    high: float
    height: int
    log: bool

    @classmethod
    def over(cls, low: float, high: float, height: int, log: bool) -> _Axis:
        if low == high:
            pad = abs(low) / 2 or 1.0
            return cls(low - pad, high + pad, height, False)
        return cls(low, high, height, log)

    def row(self, value: float) -> int:
        low, high, at = self.low, self.high, min(self.high, max(self.low, value))
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        # Halves first: the difference of the largest floats is infinite.
        share = (at / 2 - low / 2) / (high / 2 - low / 2)
        return min(self.height - 1, max(0, round((1 - share) * (self.height - 1))))

    def labels(self) -> dict[int, str]:
        """Tick labels by row, the roundest number of each row; at least one row apart."""
        ticks = _log_ticks(self.low, self.high) if self.log else nice_ticks(self.low, self.high, self.height // 3 + 1)
        found: dict[int, str] = {}
        for tick in ticks:
            row = self.row(tick)
            if not {row - 1, row, row + 1} & found.keys():
                found[row] = f"{tick:.6g}"
        return found or {0: f"{self.high:.4g}", self.height - 1: f"{self.low:.4g}"}


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """At most about `count` multiples of 1, 2 or 5 times a power of ten within [low, high]."""
    rough = (high - low) / max(1, count)
    if not 0 < rough < math.inf:
        return []
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10, 20) if power * m >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12 - math.floor(math.log10(step))) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten first, then their doubles and fivefolds, so that the roundest get their row."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    step = max(1, len(decades) // 6)
    ticks = [m * 10.0**d for m in (1, 2, 5) for d in decades if (d % step == 0 if m == 1 else step == 1)]
    return [t for t in ticks if low <= t <= high]


def _columns(x: Array, y: Array, left: float, right: float, count: int) -> Columns:
    """Mean, lowest and highest value of the points in each column, NaN where there are none; where some are not finite.

    Columns between two points are interpolated, unless a value that is not finite lies between them.
    """
    scale = (count - 1) / (right - left) if right > left else 0.0
    at = np.rint((x - left) * scale).astype(np.int64)
    finite = np.isfinite(y)
    mean, low, high = (np.full(count, np.nan) for _ in range(3))
    nonfinite = np.zeros(count, dtype=bool)
    nonfinite[at[~finite]] = True
    here, values = at[finite], y[finite]
    sums, counts = np.zeros(count), np.zeros(count)
    largest = float(np.abs(values).max(initial=1.0))  # scaled, so that sums of large values stay finite
    np.add.at(sums, here, values / largest)
    np.add.at(counts, here, 1)
    some = counts > 0
    mean[some] = sums[some] / counts[some] * largest
    low[some], high[some] = np.inf, -np.inf
    np.minimum.at(low, here, values)
    np.maximum.at(high, here, values)
    filled = np.flatnonzero(some)
    for first, second in pairwise(filled):
        if second > first + 1 and not nonfinite[first : second + 1].any():
            between = np.arange(first + 1, second)
            share = (between - first) / (second - first)
            mean[between] = mean[first] * (1 - share) + mean[second] * share
    return mean, low, high, nonfinite


def _draw_spread(grid: list[list[str]], columns: Columns, axis: _Axis, glyphs: Glyphs) -> None:
    _, low, high, _ = columns
    for column in np.flatnonzero(np.isfinite(low)):
        for row in range(axis.row(high[column]), axis.row(low[column]) + 1):
            if grid[row][column] == " ":
                grid[row][column] = glyphs.spread


def _draw_line(grid: list[list[str]], columns: Columns, axis: _Axis, mark: str, glyphs: Glyphs) -> None:
    mean, _, _, nonfinite = columns
    for column in np.flatnonzero(np.isfinite(mean)):
        grid[axis.row(mean[column])][column] = mark
    for column in np.flatnonzero(nonfinite):
        grid[0][column] = glyphs.nonfinite


def _legend(columns: Mapping[str, Columns], glyphs: Glyphs, axis: _Axis) -> str:
    names = [f"{glyphs.marks[i % len(glyphs.marks)]} {name}" for i, name in enumerate(columns)]
    if any(bool((found[2] > found[1]).any()) for found in columns.values()):
        names.append(f"{glyphs.spread} range")
    if any(bool(found[3].any()) for found in columns.values()):
        names.append(f"{glyphs.nonfinite} not finite")
    return "   ".join(names) + ("   (log scale)" if axis.log else "")


def _x_axis(left: float, right: float, inner: int, margin: int, label: str, glyphs: Glyphs) -> list[str]:
    """The bottom edge with its ticks, their numbers, and the name of the axis after the last of them."""
    floor, numbers = [glyphs.floor] * inner, [" "] * (inner + margin + 1)
    ticks: Sequence[float] = nice_ticks(left, right, max(2, inner // 14)) if right > left else [left]
    scale = (inner - 1) / (right - left) if right > left else 0.0
    free = 0
    for tick in ticks:
        column = round((tick - left) * scale)
        text = f"{tick:.6g}"
        start = min(margin + 1 + column - len(text) // 2, len(numbers) - len(text))
        if start >= free:
            floor[column] = glyphs.foot
            numbers[start : start + len(text)] = text
            free = start + len(text) + 1
    under = "".join(numbers).rstrip()
    edge = " " * margin + glyphs.corner + "".join(floor)
    if len(under) + 1 + len(label) <= len(numbers):
        return [edge, under + " " * (len(numbers) - len(under) - len(label)) + label]
    return [edge, under, label.rjust(len(numbers))]
