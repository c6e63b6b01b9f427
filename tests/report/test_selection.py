"""Which runs a table quotes, and what search they cost."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from vrcli.report.tables.notes import texts
from vrcli.report.tables.render import render
from vrcli.results.selection import Searches, budgets, quotable
from vrcli.results.summary import summarise

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def minutes(count: int) -> dt.datetime:
    return NOON + dt.timedelta(minutes=count)


@pytest.fixture
def swept(make_run):
    """A sweep of four trials, one a minute, the third the best; two fresh seeds after the third."""
    losses = (0.4, 0.3, 0.1, 0.2)
    trials = [
        replace(make_run("a", 0, loss, lr=0.01 * i, created_at=minutes(i)), search_id=1, trial_id=i)
        for i, loss in enumerate(losses, start=1)
    ]
    fresh = [
        replace(make_run("a", seed, 0.15, lr=0.03, created_at=minutes(5)), search_id=1) for seed in (1, 2)
    ]  # fmt: skip
    ended = {1: [minutes(i) + dt.timedelta(seconds=30) for i in (1, 2, 3)] + [minutes(9)]}
    return trials, fresh, Searches(ended)


def test_a_fresh_run_cost_the_trials_that_had_ended_before_it(swept) -> None:
    trials, fresh, ended = swept
    found = budgets([*trials, *fresh], ended)
    assert {found[run.id] for run in fresh} == {3}  # the fourth ended later: the sweep was extended
    assert {found[run.id] for run in trials} == {4}
    late = replace(fresh[0], id=99, created_at=minutes(10))
    assert budgets([late], ended) == {99: 4}
    assert budgets([replace(late, search_id=2)], ended) == {}


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
    assert any(note.startswith("‖") for note in texts(table))
    assert "4 x 20 ‖" in render(table, "plain")


def test_the_best_of_an_optimizer_is_a_fresh_row_before_a_lucky_trial(swept) -> None:
    trials, fresh, ended = swept
    runs = [*trials, *fresh]
    (row,) = summarise(runs, trials=budgets(runs, ended), one_per_optimizer=True).rows
    assert row.seeds == (1, 2)


def test_of_a_sweep_are_quoted_the_fresh_runs_or_its_best_trial(swept) -> None:
    trials, fresh, ended = swept
    both = quotable([*trials, *fresh], ended)
    assert (list(both.runs), both.searched, both.on_search_seed) == (fresh, 4, 0)
    alone = quotable(trials, ended)
    assert (list(alone.runs), alone.searched, alone.on_search_seed) == ([trials[2]], 3, 1)
    assert alone.trials == {trials[2].id: 4}


def test_one_search_of_a_sweep_that_is_confirmed_does_not_hide_another(swept, make_run) -> None:
    trials, fresh, ended = swept
    other = replace(make_run("b", 0, 0.5), search_id=2, trial_id=50)
    assert quotable([*trials, *fresh, other], ended).runs == [*fresh, other]


def test_a_filter_that_leaves_out_fresh_runs_puts_no_trial_in_their_place(swept) -> None:
    trials, fresh, ended = swept
    known = replace(ended, confirmed={1})
    assert quotable(trials, known).runs == []
    assert quotable([*trials, fresh[0]], known).runs == fresh[:1]


def test_a_run_that_repeats_a_trial_is_no_result(swept) -> None:
    trials, _, ended = swept
    again = replace(trials[2], id=70, search_id=None, trial_id=None, created_at=minutes(20))
    before = replace(again, id=69, created_at=minutes(0))
    other = replace(again, id=71, seed=5, spec_id="another seed")
    known = replace(ended, specs={run.spec_id: run.created_at for run in trials})
    assert known.repeats(again)
    assert not known.repeats(other)
    assert not known.repeats(before)  # the search repeated it, not it the search
    assert not known.repeats(trials[2])
    found = quotable([*trials, again, other], known)
    assert [run.id for run in found.runs] == [71, trials[2].id]


def test_the_settings_found_with_the_most_trials_stand_for_their_optimizer(swept, make_run) -> None:
    _, fresh, ended = swept
    untuned = [make_run("a", seed, 0.05, lr=0.5) for seed in range(3)]
    runs = [*fresh, *untuned]
    (row,) = summarise(runs, trials=budgets(runs, ended), one_per_optimizer=True).rows
    assert (row.settings["lr"], row.trials) == (0.03, 3)
    more = [*runs, *(make_run("a", 0, 0.001 + i, lr=1.0 + i) for i in range(3))]
    (row,) = summarise(more, trials=budgets(more, ended), one_per_optimizer=True).rows
    assert (row.settings["lr"], row.trials) == (0.03, 3)  # however many were tried by hand, one of them luckily
    (row,) = summarise(more[2:], one_per_optimizer=True).rows
    assert (row.settings["lr"], row.trials) == (1.0, 4)


def test_neither_a_trial_nor_a_single_run_is_the_best_beside_several(swept, make_run) -> None:
    trials, _, ended = swept
    lucky = make_run("b", 0, 0.01)
    steady = [make_run("c", seed, 0.2 + 0.01 * seed) for seed in range(3)]
    runs = [trials[2], lucky, *steady]
    rows = {r.optimizer: r.cells["best_val_loss"] for r in summarise(runs, trials=budgets(runs, ended)).rows}
    assert {name for name, cell in rows.items() if cell.best} == {"c"}
    rows = {r.optimizer: r.cells["best_val_loss"] for r in summarise([trials[2], lucky]).rows}
    assert {name for name, cell in rows.items() if cell.best} == {"b"}
    assert not any(r.cells["best_val_loss"].best for r in summarise(trials).rows)
