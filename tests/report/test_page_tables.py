"""The comparisons of the HTML page: by what rows are chosen, and which runs count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scipy import stats

from vrcli.report.page.tables import at_a_glance, best_on_validation, verdicts
from vrcli.results.summary import summarise

NAMES = {"adamw": "adamw", "sgd": "sgd"}


@pytest.fixture
def runs(make_run: Callable[..., Any]) -> list[Any]:
    """Three seeds each: settings of adamw that are best on validation, others that are best on test; and sgd."""
    found = []
    for lr, loss, test in ((0.1, 0.1, 0.9), (0.01, 0.3, 0.2)):
        found += [
            make_run("adamw", s, loss + 0.01 * s, results={"test_loss": test + 0.02 * s}, lr=lr) for s in range(3)
        ]
    return found + [make_run("sgd", s, 0.2, results={"test_loss": 0.5 + 0.01 * s * s}) for s in range(3)]


def test_rows_are_chosen_on_validation_when_test_results_are_compared(runs: list[Any]) -> None:
    by_id = {run.id: run for run in runs}
    found = verdicts(summarise(runs, ["test_loss"]), by_id, NAMES)
    assert found is not None
    (one,) = found.found
    adamw, sgd = [0.9, 0.92, 0.94], [0.5, 0.51, 0.54]
    assert (one.a, one.b) == ("adamw", "sgd")
    assert one.difference == pytest.approx(sum(adamw) / 3 - sum(sgd) / 3)
    assert one.p == pytest.approx(stats.ttest_rel(adamw, sgd).pvalue)
    assert found.notes == [
        "of an optimizer with several settings one row is compared, that found with the most trials, of those the best "
        "by best val loss of the same runs"
    ]
    glance = at_a_glance(summarise(runs, ["test_loss"]), by_id)
    assert glance is not None
    assert glance["winner"].optimizer == "sgd"
    assert [row.run_ids for row in best_on_validation(summarise(runs, ["test_loss"]), by_id)] == [(1, 2, 3), (7, 8, 9)]


def test_a_run_that_lacks_the_result_is_left_out_and_has_not_diverged(runs: list[Any]) -> None:
    del runs[1].results["test_loss"]
    found = verdicts(summarise(runs, ["test_loss"]), {run.id: run for run in runs}, NAMES)
    assert found is not None
    (one,) = found.found
    assert one.diverged == (0, 0)
    assert (one.n, one.paired) == (2, False)
    assert one.difference == pytest.approx((0.9 + 0.94) / 2 - (0.5 + 0.51 + 0.54) / 3)
    assert found.notes[0] == "1 of 3 runs of adamw have no test_loss: left out"
    del runs[0].results["test_loss"]
    assert verdicts(summarise(runs, ["test_loss"]), {run.id: run for run in runs}, NAMES) is None


def test_what_is_chosen_by_the_values_compared_is_said_to_be_optimistic(runs: list[Any]) -> None:
    found = verdicts(summarise(runs, ["best_val_loss"]), {run.id: run for run in runs}, NAMES)
    assert found is not None
    assert found.found[0].difference == pytest.approx(0.11 - 0.2)
    assert found.notes[0].endswith("the best by best val loss of the same runs, so it is optimistic")


def test_a_single_run_is_not_the_best_beside_rows_of_several(make_run: Callable[..., Any]) -> None:
    runs = [make_run("lion", 0, 0.01, results={"test_loss": 0.01})]
    runs += [make_run("adamw", s, 0.2 + 0.01 * s, results={"test_loss": 0.2 + 0.01 * s}) for s in range(3)]
    runs += [make_run("sgd", s, 0.22 + 0.013 * s, results={"test_loss": 0.22 + 0.013 * s}) for s in range(2)]
    by_id = {run.id: run for run in runs}
    for column in ("best_val_loss", "test_loss"):
        found = at_a_glance(summarise(runs, [column]), by_id)
        assert found is not None
        assert (found["winner"].optimizer, found["winner"].n) == ("adamw", 3)
        assert "sgd (n = 2)" in found["tied"]
        assert found["untested"] == "of 1 single run nothing is tested"
    alone = at_a_glance(summarise(runs[:1] + runs[1:2], ["best_val_loss"]), by_id)
    assert alone is not None
    assert (alone["winner"].optimizer, alone["winner"].n) == ("lion", 1)
