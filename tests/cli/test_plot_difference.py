"""`vr plot difference` and `vr plot ranks`: comparisons as they are stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vrcli.report.figures.difference import Entry
from vrcli.report.figures.difference import draw as draw_difference
from vrcli.report.figures.ranks import draw as draw_ranks
from vrcli.report.figures.ranks import joined
from vrcli.stats.across_tasks import ranks_over_tasks

ONE, TWO = "valleys:One", "valleys:Two"
SMOKE = ("--preset", "smoke", "--threads", "1")
OPTS = ("--opt", "adamw", "--opt", "sgd")
TUNED = ("--trials", "2", "--searches", "3", "--seeds", "2", "--search", "random")
NAN = (float("nan"), float("nan"))

pytestmark = pytest.mark.usefixtures("valley", "inline")


def test_the_picture_shows_the_numbers_of_the_comparison(vr: Any, tmp_path: Path) -> None:
    words = ("compare", ONE, *OPTS, *TUNED, *SMOKE, "--format", "json")
    (pair,) = json.loads(vr(*words).out)["replicated"]["pairs"]
    vr("compare", ONE, "--opt", "adamw", "--opt", "rmsprop", "--seeds", "2", *SMOKE)
    done = vr("plot", "difference", "--opt", "adamw", "--opt", "sgd", "--data", "a.csv", "-o", "a.png")
    assert done.code == 0, done.err
    rows = pd.read_csv(tmp_path / "a.csv")
    assert rows["value"].tolist() == pytest.approx(pair["d"])
    assert rows["replicate"].tolist() == [1, 2, 3]
    assert (rows["estimate"][0], rows["low"][0], rows["high"][0]) == pytest.approx(
        (pair["difference"], *pair["interval"])
    )
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    text = vr("plot", "difference", "--opt", "adamw", "--opt", "sgd").out
    assert text.startswith("one · valley · smoke · difference in test loss\n")
    assert f"{pair['wins']} of 3" in text
    assert "●" in text
    page = vr("report", "--output", "page.html")
    assert page.code == 0, page.err
    html = (tmp_path / "page.html").read_text()
    assert html.index("data:image/svg+xml") < html.index('class="charts"')


def test_without_a_search_the_dots_are_seeds(vr: Any, tmp_path: Path) -> None:
    body = json.loads(vr("compare", ONE, *OPTS, "--seeds", "3", *SMOKE, "--format", "json").out)
    vr("run", ONE, "--opt", "rmsprop", *SMOKE)
    done = vr("plot", "difference", "--data", "a.csv")
    assert "one setting of each optimizer, so a dot is a seed, not a search" in done.err
    values = {name: np.array(list(one["values"].values())) for name, one in body["optimizers"].items()}
    assert pd.read_csv(tmp_path / "a.csv")["value"].tolist() == pytest.approx(
        (values["adamw"] - values["sgd"]).tolist()
    )


def test_several_tasks_are_ratios_and_ranks_claim_nothing_of_two(vr: Any, tmp_path: Path) -> None:
    words = ("compare", ONE, TWO, *OPTS, "--seeds", "2", *SMOKE, "--format", "json")
    (pair,) = json.loads(vr(*words).out)["across"]
    assert vr("plot", "difference", "--data", "a.csv").code == 0
    rows = pd.read_csv(tmp_path / "a.csv")
    ratios = [np.exp(ratio) for task in pair["tasks"] for ratio in task["ratios"]]
    assert rows[~rows["over_tasks"]]["value"].tolist() == pytest.approx(ratios)
    whole = rows[rows["over_tasks"]].iloc[0]
    assert (whole["estimate"], whole["low"]) == pytest.approx((np.exp(pair["effect"]), np.exp(pair["low"])))
    done = vr("plot", "ranks", "--data", "b.csv")
    assert done.code == 0, done.err
    assert "2 tasks are too few to claim anything of ranks: that takes 6 or more" in done.err
    assert sorted(pd.read_csv(tmp_path / "b.csv")["rank"]) == [1.0, 2.0]
    vr("compare", TWO, "--opt", "rmsprop", "--opt", "vradam", "--seeds", "2", "--epochs", "2", *SMOKE)
    refused = vr("plot", "ranks")
    assert refused.code == 2
    assert "ranks need two optimizers or more that ran on every task" in refused.err.splitlines()[-1]


def test_an_interrupted_comparison_shows_the_replicates_that_all_have(vr: Any, tmp_path: Path) -> None:
    vr("compare", ONE, *OPTS, *TUNED, *SMOKE, "--quiet")
    last = json.loads(vr("runs", "list", "--format", "json").out)[0]
    vr("runs", "rm", str(last["id"]), "--yes")
    vr("runs", "rm", str(last["id"] - 2), "--yes")
    done = vr("plot", "difference", "--data", "a.csv")
    assert "1 of the replicates have no runs of all optimizers: left out" in done.err
    assert len(pd.read_csv(tmp_path / "a.csv")) == 2


def test_what_cannot_be_drawn_is_said(vr: Any) -> None:
    vr("run", ONE, "--opt", "sgd", *SMOKE)
    for figure in ("difference", "ranks"):
        done = vr("plot", figure)
        assert (done.code, done.out) == (0, "")
        assert "no comparison of two optimizers is stored" in done.err
    vr("compare", ONE, *OPTS, "--seeds", "2", *SMOKE)
    for words, expected in (
        (
            ("difference", "--against", "rmsprop"),
            "--against rmsprop: it is not one of the optimizers compared, adamw, sgd",
        ),
        (("difference", "--level", "1"), "--level must be in [0.5, 1), got 1"),
        (("ranks", "--metric", "test_los"), "did you mean test_loss?"),
    ):
        refused = vr("plot", *words)
        assert (refused.code, refused.out) == (2, "")
        assert expected in refused.err.splitlines()[-1]


def test_bars_join_neighbours_of_which_no_two_are_told_apart() -> None:
    average = {"d": 4.0, "a": 1.0, "b": 2.0, "c": 3.0}
    apart = {("a", "c"), ("a", "d"), ("b", "d")}
    pairs = {(x, y): 0.01 if (x, y) in apart else 0.5 for x in "abcd" for y in "abcd" if x < y}
    assert joined(average, pairs, 0.05) == [["a", "b"], ["b", "c"], ["c", "d"]]
    assert joined(average, dict.fromkeys(pairs, 0.5), 0.05) == [["a", "b", "c", "d"]]
    assert joined(average, dict.fromkeys(pairs, 0.01), 0.05) == []


def test_every_kind_of_line_is_drawn(tmp_path: Path) -> None:
    entries = [
        Entry("t", "adamw", "sgd", [0.1, 0.2], 0.15, (0.1, 0.2), (0.0, 0.3), "sgd", "p = 0.01, 0 of 2"),
        Entry("t", "adamw", "vradam", [0.1, float("inf"), -float("inf")], float("nan"), NAN, NAN, "", "by rank"),
    ]
    for suffix in ("png", "svg", "pdf"):
        draw_difference(entries).save(tmp_path / f"a.{suffix}")
    draw_difference([]).save(tmp_path / "b.png")
    costs = {name: {str(task): place + 0.1 * task for task in range(7)} for place, name in enumerate("abcde")}
    ranks = ranks_over_tasks(costs)
    assert ranks is not None
    rows = draw_ranks(ranks.average, ranks, tasks=7).rows
    assert [row["optimizer"] for row in rows] == list("abcde")
    draw_ranks(ranks.average, ranks, tasks=7).save(tmp_path / "c.png")
    draw_ranks({"a": 1.5, "b": 1.5}, None, tasks=2).save(tmp_path / "d.png")
