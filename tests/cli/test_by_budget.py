"""`--by-budget` and `vr plot budget`: what each search had found after a part of its trials, on fresh seeds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vrcli.report.figures.budget import draw
from vrcli.report.figures.style import Series
from vrcli.results.frames import Frames
from vrcli.stats.budget import after_trials, parts_of

VALLEY = "valley:Valley"
WORDS = ("compare", VALLEY, "--opt", "adamw", "--opt", "sgd", "--trials", "4", "--searches", "2", "--seeds", "2")
WORDS = (*WORDS, "--search", "random", "--preset", "smoke", "--threads", "1")

pytestmark = pytest.mark.usefixtures("valley", "inline")


def runs(tmp_path: Path) -> pd.DataFrame:
    with Frames(str(tmp_path / "vr.db")) as stored:
        return stored.runs()


def test_incumbents_are_measured_on_the_fresh_seeds_and_no_table_quotes_them(vr: Any, tmp_path: Path) -> None:
    first = vr(*WORDS)
    promised = re.search(r"--by-budget +what a part of the trials would have found, with (\d+) more runs?", first.out)
    assert promised is not None
    before, table = len(runs(tmp_path)), json.loads(vr("report", "--format", "json").out)
    done = vr(*WORDS, "--by-budget")
    assert done.code == 0, done.err
    assert len(runs(tmp_path)) == before + int(promised[1])
    assert "test loss by tuning budget: the best of each search so far, on the fresh seeds" in done.out
    assert "after 1 trial" in done.out
    assert "after 4 trials" in done.out
    body = json.loads(vr(*WORDS, "--by-budget", "--format", "json").out)
    assert len(runs(tmp_path)) == before + int(promised[1])  # nothing runs twice
    assert json.loads(vr("report", "--format", "json").out) == table
    searches = json.loads(vr("sweeps", "show", "1", "--format", "json").out)
    every = runs(tmp_path)
    for name, one in body["optimizers"].items():
        values: dict[int, list[list[float]]] = {}
        for replicate in one["replicates"]:
            (search,) = [s for s in searches if s["search"] == replicate["search_id"]]
            for part in (1, 2, 4):
                best = min(search["trials"][:part], key=lambda trial: trial["value"])
                own = every[(every["optimizer"] == name) & np.isclose(every["lr"], best["params"]["lr"])]
                fresh = own[own["seed"].isin(replicate["seeds"])].sort_values("seed")
                values.setdefault(part, []).append(fresh["test_loss"].tolist())
        expected = after_trials({part: np.array(table) for part, table in values.items()})
        assert body["by_budget"][name]["trials"] == [1, 2, 4]
        assert body["by_budget"][name]["mean"] == pytest.approx(list(expected.mean))
        assert body["by_budget"][name]["low"] == pytest.approx(list(expected.low))
    drawn = vr("plot", "budget", "--data", "a.csv", "-o", "a.png")
    assert drawn.code == 0, drawn.err
    rows = pd.read_csv(tmp_path / "a.csv")
    for name, own in rows.groupby("optimizer"):
        assert own["mean"].tolist() == pytest.approx(body["by_budget"][name]["mean"])
    assert "trials of each search" in vr("plot", "budget").out


def test_it_needs_searches(vr: Any, tmp_path: Path) -> None:
    done = vr("compare", VALLEY, "--opt", "adamw", "--opt", "sgd", "--by-budget", "--preset", "smoke")
    assert (done.code, done.out) == (2, "")
    assert "--by-budget is for several searches, and --trials 0 makes none" in done.err
    assert not (tmp_path / "vr.db").exists()
    vr("compare", VALLEY, "--opt", "adamw", "--opt", "sgd", "--seeds", "2", "--preset", "smoke")
    assert "no searches are compared in these runs" in vr("plot", "budget").err


def test_the_parts_are_a_quarter_half_and_all() -> None:
    assert [parts_of(trials) for trials in (1, 2, 3, 8, 20)] == [(1,), (1, 2), (1, 3), (2, 4, 8), (5, 10, 20)]


def test_a_diverged_incumbent_has_no_mean(tmp_path: Path) -> None:
    found = after_trials({2: np.array([[0.2, 0.3], [np.nan, np.nan], [0.1, 0.2]]), 8: np.full((3, 2), 0.1)})
    plot = draw({Series("sgd", "sgd"): found})
    assert [(row["diverged"], np.isnan(row["mean"])) for row in plot.rows] == [(1, True), (0, False)]
    plot.save(tmp_path / "a.png")
    draw({}).save(tmp_path / "b.png")
