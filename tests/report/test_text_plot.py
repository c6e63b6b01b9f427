"""The terminal plot: where marks stand, what is written, and that nothing breaks it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vrcli.report.text_plot import nice_ticks, plot


def area(text: str) -> list[str]:
    """The rows of the plotting area, without margin and legend."""
    rows = [line for line in text.splitlines() if "│" in line or "┤" in line]
    return [line.split("│" if "│" in line else "┤", 1)[1] for line in rows]


def test_a_straight_line_runs_from_corner_to_corner() -> None:
    rows = area(plot({"a": (np.arange(101), np.arange(101) + 0.0)}, width=60, height=11, log=False))
    assert len(rows) == 11
    columns = [[i for i, c in enumerate(row) if c == "●"] for row in rows]
    assert columns[-1][0] == 0
    assert columns[0][-1] == max(len(row) for row in rows) - 1
    centres = [np.mean(c) for c in columns]
    assert np.allclose(np.diff(centres[1:-1]), np.diff(centres[1:-1]).mean(), atol=1)


def test_an_exponential_is_straight_on_the_log_axis_it_asks_for() -> None:
    text = plot({"a": (np.arange(100), np.exp(-np.arange(100) / 10))}, width=70, height=12)
    assert "(log scale)" in text
    heights = {col: row for row, line in enumerate(area(text)) for col, c in enumerate(line) if c == "●"}
    line = np.polyfit(list(heights), list(heights.values()), 1)
    assert np.abs(np.polyval(line, list(heights)) - list(heights.values())).max() < 1
    assert "(log scale)" not in plot({"a": (np.arange(100), 1 + np.arange(100) / 50)})
    assert "(log scale)" not in plot({"a": (np.arange(3), [0.0, 1.0, 100.0])})


def test_tick_labels_stand_at_their_values() -> None:
    text = plot({"a": (np.arange(11), np.linspace(0, 10, 11))}, height=11, log=False)
    rows = text.splitlines()[1:12]
    labelled = {float(line.split("┤")[0]): index for index, line in enumerate(rows) if "┤" in line}
    assert len(labelled) >= 3
    for value, row in labelled.items():
        assert row == pytest.approx(10 - value, abs=0.5)


def test_noise_is_a_mean_with_its_range() -> None:
    noise = np.random.default_rng(0).standard_normal(5000)
    text = plot({"a": (np.arange(5000), noise)}, width=80, height=21, log=False)
    means = [row for row, line in enumerate(area(text)) for c in line if c == "●"]
    assert np.std(means) < 1.0
    assert text.count("·") > 5 * len(means)


def test_gaps_stay_gaps_and_lost_values_are_marked_on_top() -> None:
    y = np.ones(100)
    y[40:60] = math.nan
    rows = area(plot({"a": (np.arange(100), y + np.arange(100))}, width=80, height=8, log=False))
    marked = {i for row in rows for i, c in enumerate(row) if c == "●"}
    lost = {i for i, c in enumerate(rows[0]) if c == "×"}
    assert lost
    assert not marked & set(range(min(lost) + 1, max(lost)))
    assert "× not finite" in plot({"a": (np.arange(100), y)})


def test_sparse_points_are_joined() -> None:
    rows = area(plot({"a": ([0, 50, 100], [1.0, 2.0, 3.0])}, width=80, height=9, log=False))
    marked = {i for row in rows for i, c in enumerate(row) if c == "●"}
    assert marked == set(range(max(marked) + 1))


def test_series_have_their_own_marks_and_names() -> None:
    text = plot({"train_loss": ([1, 2], [1.0, 2.0]), "val_loss": ([1, 2], [2.0, 1.0])}, x_label="epoch")
    assert text.splitlines()[0] == "● train_loss   ○ val_loss"
    assert "○" in "".join(area(text))
    assert "epoch" in text


def test_ascii_is_ascii() -> None:
    y = np.random.default_rng(0).standard_normal(500)
    y[100:120] = math.nan
    assert plot({"a": (np.arange(500), y), "b": ([0, 400], [0.0, 1.0])}, ascii=True).isascii()


def test_nothing_to_draw_says_so() -> None:
    assert plot({}) == "nothing to plot"
    assert plot({"a": ([], [])}) == "nothing to plot"
    assert plot({"a": ([1, 2], [math.nan, math.inf])}) == "no finite values to plot"


def test_the_largest_and_smallest_numbers() -> None:
    text = plot({"a": (np.arange(5), [1e-300, 1, 1e300, 1e308, 1.7e308])}, width=50)
    assert area(text)[-1].startswith("●")
    assert area(plot({"a": (np.arange(3), [-1.7e308, 0.0, 1.7e308])}, width=50, log=False))[0].endswith("●")


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=30),
    st.integers(0, 120),
    st.integers(0, 30),
    st.sampled_from([None, True, False]),
)
@settings(deadline=None, max_examples=150, derandomize=True)
def test_any_values_fit_into_the_given_size(y: list[float], width: int, height: int, log: bool | None) -> None:
    text = plot({"a": (np.arange(len(y)), y), "b": ([0], [1.0])}, width=width, height=height, log=log)
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= max(30, width, len(lines[0]))
    assert len(lines) in (max(4, height) + 3, max(4, height) + 4)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(1, 12))
@settings(deadline=None, max_examples=100, derandomize=True)
def test_ticks_are_round_and_inside(low: float, span: float, count: int) -> None:
    ticks = nice_ticks(low, low + span, count)
    assert len(ticks) <= count + 1
    slack = 1e-6 * span + 2 * math.ulp(abs(low) + span)  # far from zero a span may be a few steps of a float
    for tick in ticks:
        assert low - slack <= tick <= low + span + slack
