"""Best of k against draws, times to target against counting."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from vrcli.report.budget_text import best_of_k_rows
from vrcli.stats.budget import best_of_k, expected_best, steps_to_target


@pytest.mark.parametrize("direction", ["min", "max"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_expected_best_equals_the_mean_over_all_draws(k: int, direction: str) -> None:
    values = np.random.default_rng(0).standard_normal(5).tolist()
    best = min if direction == "min" else max
    draws = [best(draw) for draw in itertools.product(values, repeat=k)]
    assert expected_best(values, k, direction=direction) == pytest.approx(np.mean(draws))


def test_the_curve_of_all_draws() -> None:
    values = [0.5, 0.3, math.nan, 0.9, 0.1]
    found = best_of_k(values)
    worst = [math.inf if math.isnan(v) else v for v in values]
    for index in range(4):
        draws = [min(draw) for draw in itertools.product(worst, repeat=index + 1)]
        assert found.median[index] == np.quantile(draws, 0.5, method="inverted_cdf")
        assert found.all_diverged[index] == pytest.approx(np.isinf(draws).mean())
    assert np.isinf(found.expected).all()
    assert (found.n, found.diverged, len(found.k)) == (5, 1, 5)


def test_the_curve_falls_and_stops_at_the_trials_there_are() -> None:
    values = np.random.default_rng(1).lognormal(size=20)
    found = best_of_k(values.tolist(), most=50)
    assert found.k.tolist() == list(range(1, 21))
    assert (np.diff(found.expected) < 0).all()
    assert found.expected[0] == pytest.approx(values.mean())
    assert found.expected[-1] > values.min()
    assert found.median[0] == np.quantile(values, 0.5, method="inverted_cdf")
    rising = best_of_k((-values).tolist(), direction="max")
    assert rising.expected == pytest.approx(-found.expected)
    assert rising.median == pytest.approx(-found.median)


def test_a_diverged_trial_stays_infinite_where_its_share_is_too_small_for_a_float() -> None:
    values = [math.nan, *np.linspace(0.1, 0.9, 199).tolist()]
    assert (1 / 200) ** 150 == 0
    assert expected_best(values, 150) == math.inf
    assert expected_best(values, 150, direction="max") == -math.inf
    assert np.isposinf(best_of_k(values).expected).all()


def test_no_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        best_of_k([])
    with pytest.raises(ValueError, match="k >= 1"):
        expected_best([1.0], 0)


def test_rows_of_unequal_searches_meet_at_the_same_k() -> None:
    many = [("completed", v) for v in np.linspace(1.0, 2.0, 11)]
    few = [("completed", 3.0), ("pruned", 5.0), ("failed", None), ("failed", None)]
    lost = [("completed", 0.25), ("completed", 0.5), ("diverged", None)]
    rows = {row["trials"]: row for row in best_of_k_rows({"many": many, "few": few, "lost": lost, "none": few[2:]})}
    assert list(rows["many"]) == ["trials", "1", "2", "5", "10", "diverged", "stopped early", "failed, left out"]
    assert all(list(row) == list(rows["many"]) for row in rows.values())
    assert [rows["few"][k] for k in ("1", "2", "5", "diverged", "stopped early", "failed, left out")] == [
        "4.000", "3.500", "", "0/2", "1", "2",
    ]  # fmt: skip
    assert [rows["lost"][k] for k in ("1", "2", "diverged")] == ["0.5000", "0.2500", "1/3"]  # medians
    assert [rows["none"][k] for k in ("1", "diverged", "failed, left out")] == ["", "-", "2"]
    assert "stopped early" not in best_of_k_rows({"many": many})[0]


def curve(hit: float | None, end: float = 10.0) -> tuple[list[float], list[float]]:
    steps = np.arange(1.0, end + 1)
    return steps.tolist(), [0.0 if hit is not None and s >= hit else 1.0 for s in steps]


def test_first_crossing_and_its_absence() -> None:
    found = steps_to_target([curve(3), curve(None), curve(7), ([1, 2, 3], [math.nan, 0.2, 0.1])], 0.5)
    assert found.when == (3.0, None, 7.0, 2.0)
    assert (found.n, found.reached) == (4, 3)
    assert found.last == (10.0, 10.0, 10.0, 3.0)
    assert found.median == 3.0
    rising = steps_to_target([([1, 2, 3], [0.1, 0.6, 0.9])], 0.6, direction="max")
    assert rising.when == (2.0,)


def test_the_median_is_over_all_runs() -> None:
    found = steps_to_target([curve(2), curve(None, 3), curve(4), curve(6), curve(None, 9)], 0.5)
    assert found.median == 6.0  # the third of five
    assert str(found) == "6 (median, reached by 3 of 5)"
    assert [part.tolist() for part in found.distribution()] == [[2, 4, 6], pytest.approx([0.2, 0.4, 0.6])]


def test_less_than_half_reached_has_no_median() -> None:
    found = steps_to_target([curve(2), curve(None), curve(None)], 0.5)
    assert found.median is None
    assert str(found) == "reached by 1 of 3"
    assert steps_to_target([], 0.5).median is None
    # Two slow runs end their budget of seconds before the fast one gets there: they did not get there, either.
    assert steps_to_target([curve(9), curve(None, 5), curve(None, 6)], 0.5).median is None


def test_a_diverged_run_never_gets_there() -> None:
    touched = [curve(5), curve(2), curve(3)]
    assert steps_to_target(touched, 0.5).median == 3.0
    found = steps_to_target(touched, 0.5, diverged=[False, True, True])
    assert found.when == (5.0, None, None)
    assert (found.reached, found.median) == (1, None)
