"""Times to a target against their definition."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vrcli.report.figures import target as target_figure
from vrcli.report.figures.text import Page
from vrcli.stats.budget import steps_to_target

sys.path.insert(0, str(Path(__file__).parent))
from samples import RUNS, line, target


def test_target_curve_is_the_share_of_runs() -> None:
    runs = [([1, 2, 3], [3, 2, 0.1]), ([1, 2, 3], [3, 0.1, 0.1]), ([1, 2, 3], [3, 2, 1])]
    rows = target({"a": steps_to_target(runs, 0.5)}).rows
    assert [(r["x"], pytest.approx(r["share"])) for r in rows] == [(0.0, 0.0), (2.0, 1 / 3), (3.0, 2 / 3), (3.0, 2 / 3)]


def test_a_target_states_the_median_or_that_half_did_not_get_there() -> None:
    reached = {"a": steps_to_target(RUNS, 0.25), "b": steps_to_target(RUNS, 0.06)}
    text = target_figure.text(target(reached).rows, Page(), "steps", "loss ≤ 0.25")
    assert line(text, "a") == ["a", "3", "of", "3", "7.000"]
    assert line(text, "b") == ["b", "1", "of", "3", "not", "reached", "by", "half"]
