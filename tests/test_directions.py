"""Larger is better: a task and its mirror image come to the same, and an accuracy goes through every command."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrcli.db.store import Store
from vrcli.direction import better, cost
from vrcli.errors import UsageError
from vrcli.results.types import Column
from vrcli.search.prune import limits
from vrcli.stats.budget import best_of_k, steps_to_target
from vrcli.stats.inference import oriented
from vrcli.stats.profiles import sensitivity_of

Vr = Callable[..., Any]

#: By what a figure finds the task and its mirror image.
NAMES = {"sensitivity": ("down", "up"), "budget": ("down", "up"), "sweep": ("Down", "Up")}
VALUES = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf])


@given(a=VALUES, b=VALUES)
def test_values_and_their_negatives_are_better_alike(a: float, b: float):
    assert better(a, b, "min") == better(-a, -b, "max")
    assert not (better(a, b, "max") and better(b, a, "max"))
    assert not better(math.nan, a, "max")
    assert cost(a, "max") == oriented([a], "max")[0]


@given(curves=st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=4, max_size=6))
def test_pruning_and_figures_are_mirrored(curves: list[list[float]]):
    mirrored = [[-value for value in curve] for curve in curves]
    for rule in ("median", "halving"):
        here, there = limits(rule, curves, 9, "min"), limits(rule, mirrored, 9, "max")
        assert there == {epoch: -limit for epoch, limit in here.items()}
    ends, turned = [curve[-1] for curve in curves], [curve[-1] for curve in mirrored]
    assert (best_of_k(turned, direction="max").median == -best_of_k(ends).median).all()
    x = range(3)
    assert (
        steps_to_target([(x, curve) for curve in curves], 1.0).when
        == steps_to_target([(x, curve) for curve in mirrored], -1.0, direction="max").when
    )
    down, up = (sensitivity_of(list(enumerate(own, 1)), direction=d) for own, d in ((ends, "min"), (turned, "max")))
    assert (down.best, down.stable, down.diverged) == (up.best, up.stable, up.diverged)


def searched(path: Path, task: str) -> list[tuple[Any, ...]]:
    """Settings, value and end of every trial, and the best, search by search; values as costs."""
    sign = -1 if task == "up" else 1
    with Store.open(path) as store:
        views = {row["id"]: row for row in store.searches.overview()}
        return [
            (
                search.optimizer, search.search_seed, views[search.id]["best_trial"],
                [(t.params, t.state, None if t.value is None else sign * t.value, t.epochs)
                 for t in store.searches.trials(search.id)],
            )
            for search in store.searches.select(task=f"mirror:{task.title()}")
        ]  # fmt: skip


def runs(path: Path, task: str) -> list[tuple[Any, ...]]:
    """What every run came to; the objective as a cost."""
    sign = -1 if task == "up" else 1
    with Store.open(path) as store:
        return [
            (run.optimizer, run.seed, run.status, run.results.get("best_epoch"), run.results.get("steps"),
             *(sign * run.results[name] for name in ("best_val_q", "test_q") if name in run.results))
            for run in store.runs.select(task=task)
        ]  # fmt: skip


def rows_of(vr: Vr, *words: str) -> list[dict[str, str]]:
    """The numbers of a figure."""
    done = vr("plot", *words, "--data", "figure.csv", "--force")
    assert done.code == 0, done.err
    return list(csv.DictReader(io.StringIO(Path("figure.csv").read_text())))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_task_and_its_mirror_image_come_to_the_same(vr: Vr, valley: None, inline: None, tmp_path: Path):
    told = {}
    for task in ("Down", "Up"):
        made = vr(
            "compare", f"mirror:{task}", "--opt", "sgd", "--opt", "adamw", "--trials", "4", "--searches", "2",
            "--seeds", "2", "--patience", "2", "--by-budget", "--margin", "0.5", "--format", "json", "--threads", "1",
        )  # fmt: skip
        assert made.code == 0, made.err
        swept = vr("sweep", f"mirror:{task}", "--opt", "sgd", "--trials", "8", "--prune", "median", "--threads", "1")
        assert swept.code == 0, swept.err
        told[task.lower()] = json.loads(made.out)
    path = tmp_path / "vr.db"
    assert searched(path, "down") == searched(path, "up")
    assert {t[1] for *_, found in searched(path, "up") for t in found} >= {"completed", "pruned"}
    assert runs(path, "down") == runs(path, "up")
    down, up = told["down"], told["up"]
    for here, there in zip(down["comparisons"], up["comparisons"], strict=True):
        assert (here["a"], here["b"], here["better"], here["p_holm"]) == (
            there["a"], there["b"], there["better"], there["p_holm"],
        )  # fmt: skip
        assert here["difference"] == pytest.approx(-there["difference"])
        assert [here["low"], here["high"]] == pytest.approx([-there["high"], -there["low"]])
    tables = {}
    for task in ("down", "up"):
        shown = vr("report", task, "--format", "json")
        assert shown.code == 0, shown.err
        tables[task] = [
            (
                row["optimizer"],
                row["seeds"],
                [(cell["best"], cell["tied_with_best"]) for cell in row["metrics"].values()],
            )
            for row in json.loads(shown.out)["rows"]
        ]
    assert tables["down"] == tables["up"]
    for figure, words, kept in (
        ("sensitivity", ("{}",), ("optimizer", "lr", "stable", "n", "diverged")),
        ("sweep", ("mirror:{}", "--opt", "sgd"), ("optimizer", "trial", "ended", "settings")),
    ):
        here, there = (rows_of(vr, figure, *(word.format(name) for word in words)) for name in NAMES[figure])
        assert [[row[name] for name in kept] for row in here] == [[row[name] for name in kept] for row in there]
    for figure, words, name in (("sweep", ("mirror:{}", "--opt", "sgd"), "best_so_far"), ("budget", ("{}",), "mean")):
        here, there = (
            [float(row[name] or "nan") for row in rows_of(vr, figure, *(w.format(task) for w in words))]
            for task in NAMES[figure]
        )
        assert here == pytest.approx([-value for value in there], nan_ok=True)
    page = vr("report", "--format", "html", "--output", "page.html")
    assert page.code == 0, page.err
    assert "best validation q" in Path("page.html").read_text()


@pytest.mark.timeout(600)
def test_an_accuracy_is_searched_for_pruned_compared_and_shown(vr: Vr, valley: None, inline: None, tmp_path: Path):
    assert vr("tasks", "check", "mirror:Signs").code == 0
    done = vr("run", "mirror:Signs", "--opt", "adamw", "--lr", "0.1", "--threads", "1", "--format", "json")
    assert done.code == 0, done.err
    with Store.open(tmp_path / "vr.db") as store:
        (run,) = store.runs.select()
        curve = store.curves.read([run.id], ["val_accuracy"])[run.id, "val_accuracy"]
    assert run.results["best_val_accuracy"] == max(curve.values) > min(curve.values)
    swept = vr("sweep", "mirror:Signs", "--opt", "sgd", "--trials", "6", "--prune", "halving", "--threads", "1")
    assert swept.code == 0, swept.err
    assert "objective: best validation accuracy" in swept.err
    assert "best val accuracy" in swept.out
    with Store.open(tmp_path / "vr.db") as store:
        (search,) = store.searches.select()
        ended = [trial for trial in store.searches.trials(search.id) if trial.state == "completed"]
        best = max(ended, key=lambda trial: (trial.value, -trial.number))
        (seen,) = store.searches.overview()
    assert seen["best_trial"] == best.number
    assert seen["best_value"] == best.value > min(trial.value for trial in ended)
    made = vr("compare", "mirror:Signs", "--opt", "sgd", "--opt", "adamw", "--seeds", "4", "--trials", "0",
              "--threads", "1", "--tag", "pair", "--format", "json")  # fmt: skip
    assert made.code == 0, made.err
    table = vr("report", "signs")
    assert "test acc" in table.out
    for words in (("sensitivity", "signs"), ("profile", "signs", "--tag", "pair", "--per-seed"), ("sweep",),
                  ("envelope", "signs"), ("target", "signs", "--metric", "val_accuracy"),
                  ("difference", "signs")):  # fmt: skip
        shown = vr("plot", *words)
        assert shown.code == 0, (words, shown.err)
    shown = vr("sweeps", "show", "1")
    assert "val accuracy" in shown.out
    assert "val loss" not in shown.out


def test_a_result_of_which_nobody_knows_the_better_value_is_refused():
    assert Column.of("test_loss").better == "min"
    with pytest.raises(UsageError, match="--metric test_reward: whether less or more is better is not known"):
        _ = Column.of("test_reward").better
