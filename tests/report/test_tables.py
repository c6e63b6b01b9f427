"""What the report table groups, counts, marks and never merges."""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from vrcli.report.tables.layout import fit, show
from vrcli.report.tables.notes import texts
from vrcli.report.tables.render import render
from vrcli.results.groups import shown_settings
from vrcli.results.summary import default_columns, selector, summarise
from vrcli.results.types import Column, Declared
from vrcli.stats.inference import t_interval

RNG = np.random.default_rng(0)
LOSSES = 0.06 + 0.002 * RNG.standard_normal((4, 10))


def cells(table, key="best_val_loss"):
    return {row.optimizer: row.cells[key] for row in table.rows}


def test_seeds_of_one_configuration_are_one_row(make_run) -> None:
    table = summarise([make_run(seed=s, loss=v) for s, v in enumerate(LOSSES[0])])
    (row,) = table.rows
    found = row.cells["best_val_loss"].summary
    assert (row.n, row.seeds, row.trials, row.epochs) == (10, tuple(range(10)), 1, 20)
    assert found.mean == pytest.approx(LOSSES[0].mean())
    assert (found.low, found.high) == pytest.approx(t_interval(LOSSES[0]))
    assert row.cells["test_loss"].summary.mean == pytest.approx(1.1 * LOSSES[0].mean())


@pytest.mark.parametrize(
    "other",
    [
        {"lr": 0.1},
        {"training": {"batch_size": 32}},
        {"training": {"epochs": 40}},
        {"preset": "paper"},
        {"dataset": "cifar10"},
        {"fingerprint": "ffff0000"},
        {"task": "transformer"},
    ],
)
def test_nothing_that_differs_is_merged(make_run, other) -> None:
    table = summarise([make_run(seed=0), make_run(seed=1), make_run(seed=0, **other)])
    assert sorted(row.n for row in table.rows) == [1, 2]


def test_the_learning_rate_and_what_differs_is_shown(make_run) -> None:
    runs = [make_run("vradam", beta3=1.0), make_run("vradam", beta3=2.0), make_run("sgd", momentum=0.9, lr=0.1)]
    shown = {(row.optimizer, row.shown.get("beta3")): row.shown for row in summarise(runs).rows}
    assert shown["vradam", 1.0] == {"lr": 0.003, "beta3": 1.0}
    assert shown["sgd", None] == {"lr": 0.1}
    assert [row.shown for row in summarise(runs[:1]).rows] == [{"lr": 0.003}]


def test_what_a_search_chose_is_shown_although_nothing_differs() -> None:
    own = {"lr": 0.1, "beta3": 1.0, "eps": 1e-8, "hidden": 8, "optimizer.hidden": 4, "epochs": 3}
    rows = [own, own, {"lr": 0.1, "eps": 1e-8}]
    axes = [("beta3", "opt_hidden", "epochs"), (), ()]
    found = shown_settings(rows, ["vradam", "vradam", "adamw"], axes, ignore=("epochs",))
    assert found[0].keys() >= {"lr", "beta3", "optimizer.hidden"}
    assert not found[0].keys() & {"eps", "epochs"}
    assert found[1:] == [{"lr": 0.1}, {"lr": 0.1}], "no search chose the rest for these"


def test_the_path_of_the_same_data_makes_no_difference(make_run) -> None:
    here, there = make_run(seed=0), make_run(seed=1)
    there.spec["task_settings"]["dataset"] = "/elsewhere/digits"
    assert len(summarise([here, there]).rows) == 1


def test_a_repeated_seed_counts_once_by_the_newest(make_run) -> None:
    late = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    runs = [make_run(seed=0, loss=0.5, created_at=late), make_run(seed=0, loss=0.1), make_run(seed=1, loss=0.3)]
    table = summarise(runs)
    assert table.rows[0].n == 2
    assert table.rows[0].repeats == 1
    assert table.rows[0].cells["best_val_loss"].summary.mean == pytest.approx(0.4)
    assert any("repeated" in note for note in texts(table))


def test_unfinished_and_failed_runs_are_not_results(make_run) -> None:
    runs = [make_run(seed=i, status=s) for i, s in enumerate(["running", "failed", "interrupted", "completed"])]
    assert summarise(runs).rows[0].seeds == (3,)
    assert summarise(runs[:3]).rows == ()
    assert summarise([]).rows == ()


def test_diverged_runs_are_counted_and_never_averaged(make_run) -> None:
    runs = [make_run("adamw", s, v) for s, v in enumerate(LOSSES[0])]
    runs += [make_run("sgd", s, 0.01, status="diverged" if s < 3 else "completed") for s in range(10)]
    runs += [make_run("rmsprop", s, 0.02, status="diverged") for s in range(10)]
    table = summarise(runs)
    found = cells(table)
    assert {row.optimizer: row.diverged for row in table.rows} == {"adamw": 0, "sgd": 3, "rmsprop": 10}
    assert found["sgd"].summary.mean == pytest.approx(0.01)
    assert found["sgd"].summary.n == 10
    assert math.isnan(found["rmsprop"].summary.mean)
    # Three runs lost: the mean of the rest is lower, and yet it is not the best.
    assert [row.optimizer for row in table.rows] == ["adamw", "sgd", "rmsprop"]
    assert found["adamw"].best
    assert not found["sgd"].best
    assert any(note.startswith("‡") for note in texts(table))
    assert "NaN: every run diverged" in texts(table)


def test_tied_rows_are_corrected_for_the_choice_of_the_best(make_run) -> None:
    shifts = (0.0, 0.0008, 0.0025, 0.02)
    names = ("a", "b", "c", "d")
    values = {n: LOSSES[i] + shift for i, (n, shift) in enumerate(zip(names, shifts, strict=True))}
    table = summarise([make_run(n, s, v) for n in names for s, v in enumerate(values[n])])
    best = min(names, key=lambda n: values[n].mean())
    p = {n: stats.ttest_rel(values[best], values[n]).pvalue for n in names if n != best}
    threshold, tied, still = 0.05, set(), True
    for rank, name in enumerate(sorted(p, key=p.__getitem__)):
        pairs = math.comb(len(p) - rank + 1, 2)  # of the rows not yet told from the best, and the best
        still = still and p[name] * pairs <= threshold
        if not still:
            tied.add(name)
    assert {n for n, c in cells(table).items() if c.tied} == tied
    assert {n for n, c in cells(table).items() if c.best} == {best}
    assert tied, "the example must contain a tie"
    assert "d" not in tied


def test_sections_do_not_compete(make_run) -> None:
    tasks = ("cnn", "transformer")
    runs = [make_run(n, s, v + (n == "b"), task=t) for n in "ab" for t in tasks for s, v in enumerate(LOSSES[0])]
    table = summarise(runs)
    found = {(row.task, row.optimizer): row.cells["best_val_loss"].best for row in table.rows}
    assert found == {(t, n): n == "a" for t in tasks for n in "ab"}


def test_a_row_alone_is_not_the_best_of_anything(make_run) -> None:
    runs = [make_run("a", s, v) for s, v in enumerate(LOSSES[0])]
    runs += [make_run("a", s, v, task="transformer") for s, v in enumerate(LOSSES[0])]
    table = summarise([*runs, make_run("lost", 0, 0.3, task="transformer", status="diverged")])
    found = {(row.task, row.optimizer): row.cells["best_val_loss"].best for row in table.rows}
    assert found == {("cnn", "a"): False, ("transformer", "a"): True, ("transformer", "lost"): False}
    assert "**" not in render(summarise(runs), "markdown")


def test_larger_is_better_for_accuracy(make_run) -> None:
    runs = [make_run("a", 0, 0.1, results={"val_accuracy": 0.9}), make_run("b", 0, 0.2, results={"val_accuracy": 0.95})]
    found = cells(summarise(runs), "val_accuracy")
    assert found["b"].best
    assert not found["a"].best


def test_unequal_budgets_are_flagged(make_run) -> None:
    equal = [make_run("a"), make_run("b")]
    assert not summarise(equal).unequal_budgets
    longer = [make_run("a"), make_run("b", training={"epochs": 40})]
    assert len(summarise(longer).unequal_budgets) == 1
    searched = summarise(equal, trials={equal[0].id: 20})
    assert {row.optimizer: row.trials for row in searched.rows} == {"a": 20, "b": 1}
    assert len(searched.unequal_budgets) == 1
    assert any(note.startswith("§") for note in texts(searched))
    elsewhere = [make_run("a"), make_run("b", task="transformer", training={"epochs": 40})]
    assert not summarise(elsewhere).unequal_budgets


def test_a_warning_stands_without_its_column_and_without_its_mark(make_run) -> None:
    table = summarise([make_run("a"), make_run("a", lr=0.1), make_run("b", training={"epochs": 3})])
    [marked] = [text for text in texts(table) if "budgets" in text]
    [plain] = [text for text in texts(show(table, ["optimizer", "n"])) if "budgets" in text]
    assert marked == f"§ {plain}"


def test_a_search_without_fresh_seeds_stands_for_nothing_and_is_named(make_run) -> None:
    trials = [replace(make_run("a", lr=lr), search_id=1, trial_id=number) for number, lr in enumerate((0.1, 0.2))]
    runs = [make_run("a", loss=0.5), *trials, make_run("b")]
    table = summarise(runs, trials={run.id: 2 for run in trials}, one_per_optimizer=True)
    assert [row.run_ids for row in table.rows if row.optimizer == "a"] == [(runs[0].id,)]
    assert any(text.startswith("a: the best of a sweep is not shown") for text in texts(table))


def test_one_row_per_optimizer_counts_its_settings_as_trials(make_run) -> None:
    runs = [make_run("a", 0, loss, lr=lr) for lr, loss in ((0.1, 0.3), (0.01, 0.2), (0.001, 0.4))] + [
        make_run("b", 0, 0.5)
    ]
    table = summarise(runs, one_per_optimizer=True)
    assert [(row.optimizer, row.trials, row.settings["lr"]) for row in table.rows] == [("a", 3, 0.01), ("b", 1, 0.003)]
    assert table.unequal_budgets


def test_one_seed_is_not_tested_and_says_so(make_run) -> None:
    table = summarise([make_run("a", 0, 0.1), make_run("b", 0, 0.2)])
    assert not any(c.tied for c in cells(table).values())
    assert any("n = 1" in note for note in texts(table))


def test_default_columns_follow_the_results(make_run) -> None:
    keys = {"best_val_loss": 1, "test_loss": 1, "test_accuracy": 1, "val_loss": 1, "val_accuracy": 1, "wall_s": 1}
    run = make_run(loss=None, results=keys)
    assert [c.key for c in default_columns([run])] == ["test_loss", "best_val_loss", "val_accuracy"]
    keys = {"best_val_modes": 3, "test_modes": 3, "test_loss": 1, "val_modes": 3}
    other = replace(make_run(loss=None, results=keys), objective="best_val_modes")
    assert [c.key for c in default_columns([other])] == ["test_modes", "best_val_modes", "test_loss"]


def test_a_metric_that_some_runs_lack_keeps_its_own_n(make_run) -> None:
    runs = [make_run(seed=0, results={"val_accuracy": 0.9}), make_run(seed=1)]
    (row,) = summarise(runs).rows
    assert (row.cells["val_accuracy"].summary.n, row.cells["best_val_loss"].summary.n) == (1, 2)


def test_costs_leave_diverged_runs_out_and_name_the_machines(make_run) -> None:
    runs = [
        make_run(seed=0, results={"wall_s": 4.0}),
        make_run(seed=1, results={"wall_s": 6.0}, cpu="cpu B"),
        make_run(seed=2, results={"wall_s": 0.1}, status="diverged"),
    ]
    table = summarise(runs, ["best_val_loss", "wall_s"])
    assert table.rows[0].cells["wall_s"].summary.mean == 5.0
    assert any("different machines: cpu A; cpu B" in note for note in texts(table))
    # Without a cost the row still holds runs of two machines, which it says.
    assert any(note == "runs of one row come from different machines: cpu A; cpu B" for note in texts(summarise(runs)))
    assert not any("machines" in note for note in texts(summarise([runs[0], runs[2]])))


def test_rows_whose_seeds_change_nothing_are_named(make_run) -> None:
    runs = [make_run(opt, seed=s, loss=v) for opt, v in (("sgd", 0.3), ("adamw", 0.2)) for s in range(3)]
    assert any("the same value on every seed" in text for text in texts(summarise(runs)))
    runs[0] = make_run("sgd", seed=0, loss=0.31)
    assert not any("the same value on every seed" in text for text in texts(summarise(runs)))


def test_columns_by_name() -> None:
    assert Column.of("test_accuracy") == Column("test_accuracy", "test acc", "max", True)
    assert Column.of("val_perplexity") == Column("val_perplexity", "val ppl", "min", False)
    assert Column.of("wall_s").is_cost


def test_rows_of_a_search_that_stopped_trials_early_are_marked(make_run) -> None:
    runs = [make_run("pruned", 0, 0.1), make_run("pruned", 1, 0.2), make_run("whole", 0, 0.3)]
    table = summarise(runs, pruned={runs[1].id})
    assert [(row.optimizer, row.seeds, row.pruned) for row in table.rows] == [
        ("pruned", (0,), False), ("pruned", (1,), True), ("whole", (0,), False)
    ]  # fmt: skip
    text = render(table, "plain")
    marked = [line for line in text.splitlines() if "¶" in line]
    # Other budgets share no row: the run of a search that was cut short stands alone; then comes the note.
    assert [line.split()[-1] for line in marked[:-1]] == ["¶"]
    assert "pruned" in marked[0]
    assert "stopped early" in marked[1]
    assert "¶" not in render(summarise(runs), "plain")
    assert r"\P" in render(table, "latex")
    assert [row["pruned"] for row in json.loads(render(table, "json"))["rows"]] == [False, True, False]


def test_a_budget_counts_the_runs_that_ranked_trials_again(make_run) -> None:
    fresh = [replace(make_run("a", seed, 0.1), search_id=1) for seed in (1, 2)]
    table = summarise([*fresh, make_run("b", 1, 0.2)], trials={run.id: 8 for run in fresh}, reranked={1: 9})
    text = render(table, "plain")
    assert "(8 + 9) x 20" in text
    assert " 1 x 20" in text
    assert "(a + b): the trials of each search, and the runs that ranked its best trials again" in text
    assert [row["reranked"] for row in json.loads(render(table, "json"))["rows"]] == [9, 0]


GFLOWNET = {
    "best_val_loss": Declared("min"),
    "val_loss_se": Declared("min"),
    "val_reward": Declared("max"),
    "val_hits": Declared("max", percent=True),
    "val_odd": Declared(None),
}


def test_the_best_of_a_metric_is_the_one_its_task_declares(make_run) -> None:
    low = make_run("low", 0, 0.1, results={"val_reward": 1.0, "val_loss_se": 0.1, "val_hits": 0.2, "val_odd": 1.0})
    high = make_run("high", 0, 0.2, results={"val_reward": 9.0, "val_loss_se": 0.2, "val_hits": 0.3, "val_odd": 2.0})
    table = summarise([low, high], ["test_loss", *GFLOWNET], known=GFLOWNET)
    best = {c.key: [row.optimizer for row in table.rows if row.cells[c.key].best] for c in table.columns}
    assert best == {
        "best_val_loss": ["low"],
        "test_loss": ["low"],  # by its name
        "val_hits": ["high"],
        "val_loss_se": ["low"],
        "val_odd": [],
        "val_reward": ["high"],
    }
    assert [c.percent for c in table.columns if c.key == "val_hits"] == [True]
    assert [c.key for c in default_columns([low, high])] == ["test_loss", "best_val_loss"]
    by_reward = summarise([low, high], ["val_reward"], known=GFLOWNET)
    assert [row.optimizer for row in by_reward.rows] == ["high", "low"]


def test_what_a_task_wants_shown_is_shown_and_never_left_out(make_run) -> None:
    known = {f"{split}_{name}": Declared("max", shown=name in ("length", "distinct_final_grids"))
             for split in ("val", "test") for name in ("reward", "distinct_final_grids", "length")}  # fmt: skip
    results = dict.fromkeys([*known, "test_loss", "val_accuracy"], 0.5)
    runs = [make_run(optimizer, seed, 0.1, results=results) for optimizer in "ab" for seed in range(3)]
    assert [c.key for c in default_columns(runs)] == ["test_loss", "best_val_loss", "val_accuracy"]
    table = summarise(runs, known=known)
    shown = ["test_loss", "best_val_loss", "val_accuracy", "val_distinct_final_grids", "val_length"]
    assert [c.key for c in table.columns] == shown
    fitted, dropped = fit(table, terminal=60)
    assert "val acc" in dropped
    assert "val_accuracy" not in fitted.shown
    assert {"best_val_loss", "test_loss", "val_distinct_final_grids", "val_length"} <= set(fitted.shown)


@pytest.mark.parametrize("name", ["reward", "reward_max", "diversity", "distinct", "length", "loss_se", "modes"])
def test_nothing_is_best_by_a_metric_that_nobody_declared(make_run, name) -> None:
    key = f"val_{name}"
    runs = [make_run(n, s, 0.1, results={key: v + s}) for n, v in (("a", 1.0), ("b", 9.0)) for s in range(3)]
    table = summarise(runs, [key])
    assert not any(cell.best or cell.tied for cell in cells(table, key).values())
    with pytest.raises(ValueError, match=f"^whether less or more {key} is better is not known, so nothing is best by"):
        summarise(runs, [key], one_per_optimizer=True)


@pytest.mark.parametrize("name", ["val_loss", "best_val_reward", "final_val_accuracy"])
def test_only_results_on_validation_choose(name) -> None:
    columns = [Column.of(key) for key in ("final_train_loss", "train_loss", "test_loss", "wall_s", "best_step", name)]
    assert selector(columns, []).key == name
    assert selector(columns[:-1], []).key == "best_val_loss"


# -- what is asked for -------------------------------------------------------------------------------------------------


def test_runs_of_other_budgets_share_no_row(make_run) -> None:
    runs = [make_run("a", seed, 0.1 + seed / 100) for seed in range(4)]
    table = summarise(runs, trials={runs[0].id: 20, runs[1].id: 20, runs[2].id: 40})
    assert sorted((row.trials, row.seeds) for row in table.rows) == [(1, (3,)), (20, (0, 1)), (40, (2,))]
    assert len(table.unequal_budgets) == 1


def test_pooling_is_by_one_setting_and_says_over_which_others(make_run) -> None:
    runs = [
        make_run("a", seed, lr + seed / 1000, lr=lr, beta=beta)
        for lr in (0.1, 0.2) for beta in (1, 2, 3) for seed in (0, 1)
    ]  # fmt: skip
    runs += [
        make_run("a", 0, 0.5, lr=0.1, beta=1, training={"epochs": 40}),
        make_run("a", 0, 9.0, dataset="other", lr=0.1),
    ]
    table = summarise(runs, group_by=["lr"])
    found = [(row.dataset, row.epochs, row.settings["lr"], row.n, dict(row.varying)) for row in table.rows]
    assert found == [
        ("digits", 20, 0.1, 6, {"beta": 3}),
        ("digits", 20, 0.2, 6, {"beta": 3}),
        ("digits", 40, 0.1, 1, {}),
        ("other", 20, 0.1, 1, {}),
    ]
    assert table.rows[0].shown == {"lr": 0.1}
    assert "beta" not in table.rows[0].settings
    assert table.rows[0].cells["best_val_loss"].summary.mean == pytest.approx(0.1005)
    assert not any(cell.tied for row in table.rows for cell in row.cells.values())
    (note,) = [note for note in texts(table) if note.startswith("rows pool")]
    assert "differ in beta (up to 3 values)" in note
    assert "lr" not in note
    assert not any("pool" in note for note in texts(summarise(runs)))


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (None, ["b", "c", "a", "lost"]),
        ("best_val_loss", ["b", "c", "a", "lost"]),
        ("-best_val_loss", ["a", "c", "b", "lost"]),
        ("wall_s", ["a", "b", "c", "lost"]),  # no column of the table
        ("lr", ["c", "a", "b", "lost"]),
        ("-lr", ["lost", "b", "a", "c"]),
        ("optimizer", ["a", "b", "c", "lost"]),
        ("-optimizer", ["lost", "c", "b", "a"]),
        ("-n", ["c", "b", "a", "lost"]),
    ],
)
def test_rows_are_sorted_by_anything(make_run, sort, expected) -> None:
    runs = [
        make_run("a", 0, 0.3, lr=0.02, results={"wall_s": 1.0}),
        make_run("b", 0, 0.1, lr=0.03, results={"wall_s": 2.0}),
        make_run("c", 0, 0.2, lr=0.01, results={"wall_s": 3.0}),
        make_run("c", 1, 0.2, lr=0.01, results={"wall_s": 3.0}),
        make_run("lost", 0, 0.2, lr=0.04, status="diverged"),
    ]
    assert [row.optimizer for row in summarise(runs, sort=sort).rows] == expected


def test_the_spread_is_what_was_asked_for(make_run) -> None:
    values = (0.2, 0.3, 0.7)
    runs = [make_run("a", s, v) for s, v in enumerate(values)]
    line = {
        kind: render(summarise(runs, ["best_val_loss"], spread=kind), "plain").splitlines()[1] for kind in
        ("ci", "sd", "minmax", "none")
    }  # fmt: skip
    half = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / math.sqrt(3)
    assert f"0.40 ± {half:.2f}" in line["ci"]
    assert f"0.40 ± {np.std(values, ddof=1):.2f}" in line["sd"]
    assert "0.4000 [0.2000, 0.7000]" in line["minmax"]
    assert " 0.4000 " in line["none"]
    assert "±" not in line["none"] + line["minmax"]
    assert any("standard deviation" in note for note in texts(summarise(runs, spread="sd")))


def test_the_best_settings_are_never_chosen_on_the_test_set(make_run) -> None:
    runs = [
        make_run("a", 0, 0.1, lr=0.1, results={"test_loss": 9.0}),
        make_run("a", 0, 0.2, lr=0.2, results={"test_loss": 1.0}),
    ]
    (row,) = summarise(runs, ["test_loss"], one_per_optimizer=True).rows
    assert row.settings["lr"] == 0.1
