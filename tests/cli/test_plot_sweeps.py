"""`vr plot sweep` and `sensitivity`: the numbers behind them against the trials that were stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vrcli.db.store import Store


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path)


def test_sweep_numbers_are_the_trials(vr: Any, searched: pd.DataFrame, tmp_path: Path) -> None:
    done = vr("plot", "sweep", "--data", "a.csv")
    assert "2 trials failed" in done.err
    rows = read(tmp_path / "a.csv")
    for optimizer, trials in searched.groupby("optimizer"):
        own = rows[rows.optimizer == optimizer].groupby("trial").first()
        # The first of each failed: the others keep the numbers that they have in the search.
        assert own.index.tolist() == [2, 3, 4, 5, 6]
        np.testing.assert_array_equal(own.outcome, trials.value)
        np.testing.assert_allclose(own.best_so_far, trials.value.cummin().ffill())
        points = rows[(rows.optimizer == optimizer) & (rows.trial == 2)]
        assert points.x.tolist() == [1, 2, 3]
        np.testing.assert_allclose(points.y, trials.value.iloc[0] * np.array([3, 2, 1]))
    vr("plot", "sweep", "1", "--kind", "settings", "--data", "b.csv")
    rows = read(tmp_path / "b.csv")
    assert set(rows.optimizer) == {"adamw"}
    assert set(rows.setting) == {"lr", "nesterov"}
    assert rows.diverged.sum() == 2
    assert vr("plot", "sweep", "--kind", "parallel", "--opt", "sgd", "-o", "c.pdf").code == 0


def test_sensitivity_is_the_median_at_each_learning_rate(
    vr: Any, searched: pd.DataFrame, stored: Callable[..., int], tmp_path: Path
) -> None:
    vr("plot", "sensitivity", "--data", "a.csv")
    rows = read(tmp_path / "a.csv").set_index(["optimizer", "lr"])
    for _, trial in searched.iterrows():
        row = rows.loc[(trial.optimizer, trial.lr)]
        assert row.n == 1
        assert row.diverged == int(math.isnan(trial.value))
        assert row["median"] == pytest.approx(trial.value, nan_ok=True)
    text = vr("plot", "sensitivity", "--tolerance", "20").out
    assert "decades" in text
    assert "2.0" in text.splitlines()[-3]  # 1e-3 to 0.1: within 20 times the best's 0.1 + (number - 3)^2
    vr("plot", "sensitivity", "--setting", "nesterov")


def test_plain_runs_with_several_learning_rates_show_sensitivity(
    vr: Any, stored: Callable[..., int], tmp_path: Path
) -> None:
    for lr, losses in ((0.001, (0.5, 0.7)), (0.01, (0.1, 0.3)), (0.1, (0.9, 1.3))):
        for seed, loss in enumerate(losses):
            stored("adamw", seed=seed, loss=loss, lr=lr)
    vr("plot", "sensitivity", "--data", "a.csv")
    rows = read(tmp_path / "a.csv")
    assert rows.lr.tolist() == [0.001, 0.01, 0.1]
    np.testing.assert_allclose(rows["median"], [0.6, 0.2, 1.1])
    assert rows.stable.tolist() == [False, True, False]


def test_text_of_settings_and_parallel(vr: Any, searched: pd.DataFrame) -> None:
    text = vr("plot", "sweep", "--kind", "settings").out
    row = next(line.split() for line in text.splitlines() if line.split()[:3] == ["adamw", "nesterov", "True"])
    assert row[3:5] == ["2", "0"]
    best = vr("plot", "sweep", "--kind", "parallel", "--opt", "adamw").out.splitlines()[3].split()
    assert best[:2] == ["4", "0.1000"]
    assert "lr=0.01" in best


def new_sweep(path: Path, optimizer: str = "adamw", *, task: str = "cnn", preset: str = "quick") -> int:
    """A search with one trial that ended and one that was stopped before it had a value."""
    with Store.open(path / "vr.db") as store:
        about = {"task": task, "preset": preset, "dataset": "digits", "dataset_fingerprint": "ab"}
        more = {"optimizer": optimizer, "epochs": 3, "seeds": [0], "search": "gp"}
        sweep = store.searches.create({**about, **more}, key=f"{optimizer} {task} {preset}", trials=2)
        for state, value in (("pruned", None), ("completed", 0.5)):
            trial = store.searches.add_trial(sweep.id, {"lr": 0.1})
            store.searches.start_trial(trial.id)
            spec = {**about, "optimizer": optimizer, "seed": 0, "training": {"epochs": 3},
                    "optimizer_settings": {"lr": 0.1}}  # fmt: skip
            run = store.runs.begin(spec, spec_id=state, provenance={}, trial_id=trial.id)
            store.runs.finish(run.id, "completed", results={"best_val_loss": value} if value else {})
            store.searches.finish_trial(trial.id, state, value=value)
        return sweep.id


def test_a_trial_that_was_stopped_without_a_value_is_left_out(vr: Any, tmp_path: Path) -> None:
    new_sweep(tmp_path)
    done = vr("plot", "sweep", "--data", "a.csv")
    assert "1 trial failed, unfinished or not matching" in done.err
    rows = read(tmp_path / "a.csv")
    assert (rows.trial.tolist(), rows.outcome.tolist()) == ([2], [0.5])
    facts = vr("plot", "sweep").out.splitlines()[-1].split()
    assert facts[:4] == ["adamw", "1", "0", "0.5000"]
    assert facts[5] == "2"


def test_sweeps_of_tasks_and_presets_are_never_mixed_nor_dropped(vr: Any, tmp_path: Path) -> None:
    quick, other = new_sweep(tmp_path), new_sweep(tmp_path, task="transformer")
    paper = new_sweep(tmp_path, "sgd", preset="paper")
    for words, expected in (
        ([quick, "--preset", "paper"], f"--preset paper: sweep {quick} has quick"),
        ([quick, "transformer"], "different tasks, data sets or presets"),
        (["cnn", "transformer"], "different tasks, data sets or presets"),
        ([quick, paper], "different tasks, data sets or presets"),
        (["transformer", "--preset", "paper"], "no sweep of transformer has it"),
        (["--preset", "papr"], "did you mean paper"),
        (["--kind", "settings", "--x", "step"], "--x is the axis of curves"),
        (["--kind", "parallel", "--x", "epoch"], "--x is the axis of curves"),
    ):
        done = vr("plot", "sweep", *words)
        assert (done.code, done.out) == (2, ""), words
        assert expected in done.err
        assert done.err.count("\n") == 1
    for words, optimizer in (([paper, "--preset", "paper"], "sgd"), (["cnn", "--preset", "quick"], "adamw")):
        assert vr("plot", "sweep", *words, "--data", "a.csv").code == 0
        assert set(read(tmp_path / "a.csv").optimizer) == {optimizer}
    assert vr("plot", "sweep", other).code == 0


def test_too_many_sweeps_are_refused(vr: Any, tmp_path: Path) -> None:
    for optimizer in "abcdefg":
        new_sweep(tmp_path, optimizer)
    done = vr("plot", "sweep")
    assert (done.code, done.out) == (2, "")
    assert "7 sweeps are too many for one figure, which takes 6" in done.err
    assert vr("plot", "sweep", "--opt", "a", "--opt", "g").code == 0


def test_a_search_of_which_no_trial_has_ended_is_said(vr: Any, tmp_path: Path) -> None:
    with Store.open(tmp_path / "vr.db") as store:
        about = {"task": "cnn", "preset": "quick", "dataset": "digits", "dataset_fingerprint": "ab"}
        sweep = store.searches.create({**about, "optimizer": "sgd", "epochs": 3, "seeds": [0]}, key="a", trials=2)
        store.searches.add_trial(sweep.id, {"lr": 0.1})
    done = vr("plot", "sweep", "-o", "a.png")
    assert (done.code, done.out) == (0, "")
    assert done.err.endswith("no trial has ended yet\n")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("words", [
    ["sweep"], ["sweep", "--kind", "settings"], ["sweep", "--kind", "parallel"], ["sensitivity"], ["target"],
    ["telemetry", "--metric", "val_loss"],
])  # fmt: skip
def test_figure_and_text_say_what_they_are_of(
    vr: Any, searched: pd.DataFrame, tmp_path: Path, words: list[str]
) -> None:
    assert vr("plot", *words).out.splitlines()[0] == "cnn · digits · quick"
    assert vr("plot", *words, "-o", "a.svg").code == 0
    assert "cnn · digits · quick" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_sensitivity_names_the_settings_that_it_pools(vr: Any, stored: Callable[..., int], tmp_path: Path) -> None:
    for seed, (lr, momentum) in enumerate([(0.1, 0.9), (0.01, 0.9), (0.1, 0.5)]):
        stored("sgd", seed=seed, lr=lr, momentum=momentum)
    stored("adamw", lr=0.1, amsgrad=True)
    done = vr("plot", "sensitivity")
    assert "runs of one optimizer differ in momentum as well" in done.out.splitlines()[-1]
    vr("plot", "sensitivity", "-o", "a.svg")
    assert "momentum" in (tmp_path / "a.svg").read_text()
    assert "as well" not in vr("plot", "sensitivity", "--opt", "adamw").out


@pytest.mark.slow
def test_one_of_several_searches_is_called_by_its_seed(vr, tmp_path):
    words = ("sweep", "vrcli.cli.scaffold.task_template:Spirals", "--opt", "sgd", "--trials", "2", "--searches", "2")
    assert vr(*words, "--search", "random", "--preset", "smoke", "--threads", "1").code == 0
    assert "search seed 1" in vr("plot", "sweep", "--opt", "sgd").out
