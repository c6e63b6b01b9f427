"""Which runs a table quotes, and what search they cost."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from vrcli.report.selection import budgets, quotable
from vrcli.report.tables import render, summarise

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def minutes(count: int) -> dt.datetime:
    return NOON + dt.timedelta(minutes=count)


@pytest.fixture
def swept(make_run):
    """A sweep of four trials, one a minute, the third the best; two fresh seeds after the third."""
    losses = (0.4, 0.3, 0.1, 0.2)
    trials = [
        replace(make_run("a", 0, loss, lr=0.01 * i, created_at=minutes(i)), sweep_id=1, trial_id=i)
        for i, loss in enumerate(losses, start=1)
    ]
    fresh = [
        replace(make_run("a", seed, 0.15, lr=0.03, created_at=minutes(5)), sweep_id=1) for seed in (1, 2)
    ]  # fmt: skip
    ended = {(1, "a"): [minutes(i) + dt.timedelta(seconds=30) for i in (1, 2, 3)] + [minutes(9)]}
    return trials, fresh, ended


def test_a_fresh_run_cost_the_trials_that_had_ended_before_it(swept) -> None:
    trials, fresh, ended = swept
    found = budgets([*trials, *fresh], ended)
    assert {found[run.id] for run in fresh} == {3}  # the fourth ended later: the sweep was extended
    assert {found[run.id] for run in trials} == {4}
    late = replace(fresh[0], id=99, created_at=minutes(10))
    assert budgets([late], ended) == {99: 4}
    assert budgets([replace(late, optimizer="other")], ended) == {}


def test_a_trial_and_a_fresh_run_of_equal_settings_are_two_rows(swept) -> None:
    trials, fresh, ended = swept
    runs = [*trials, *fresh]
    table = summarise(runs, trials=budgets(runs, ended))
    same = [row for row in table.rows if row.settings["lr"] == 0.03]
    assert sorted((row.searched, row.seeds, row.trials) for row in same) == [(False, (1, 2), 3), (True, (0,), 4)]
    # Also where the counts are equal, and without any.
    for counts in (dict.fromkeys((run.id for run in runs), 4), {}):
        rows = summarise(runs, trials=counts).rows
        assert sorted(row.seeds for row in rows if row.settings["lr"] == 0.03) == [(0,), (1, 2)]
    assert any(note.startswith("‖") for note in table.notes)
    assert "4 x 20 ‖" in render(table, "plain")


def test_the_best_of_an_optimizer_is_a_fresh_row_before_a_lucky_trial(swept) -> None:
    trials, fresh, ended = swept
    runs = [*trials, *fresh]
    (row,) = summarise(runs, trials=budgets(runs, ended), one_per_optimizer=True).rows
    assert row.seeds == (1, 2)


def test_of_a_sweep_are_quoted_the_fresh_runs_or_its_best_trial(swept) -> None:
    trials, fresh, ended = swept
    both = quotable([*trials, *fresh], ended)
    assert (list(both.runs), both.searched, both.flattered) == (fresh, 4, 0)
    alone = quotable(trials, ended)
    assert (list(alone.runs), alone.searched, alone.flattered) == ([trials[2]], 3, 1)
    assert alone.trials == {trials[2].id: 4}


def test_one_optimizer_of_a_sweep_that_is_confirmed_does_not_hide_another(swept, make_run) -> None:
    trials, fresh, ended = swept
    other = replace(make_run("b", 0, 0.5), sweep_id=1, trial_id=50)
    assert quotable([*trials, *fresh, other], ended).runs == [*fresh, other]
