"""`vr compare` on several tasks: each has the whole protocol, and what holds over them follows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import vrcli
from vrcli.errors import UsageError
from vrcli.stats.across_tasks import across_tasks

ONE, TWO = "valleys:One", "valleys:Two"
SMOKE = ("--preset", "smoke", "--threads", "1")
OPTS = ("--opt", "adamw", "--opt", "sgd")
TUNED = ("--trials", "2", "--searches", "2", "--seeds", "1", "--search", "random")

pytestmark = pytest.mark.usefixtures("valley", "inline")


def test_every_task_has_the_whole_protocol_and_the_ratios_hold_on_these_tasks(vr: Any) -> None:
    words = ("compare", ONE, TWO, *OPTS, *TUNED, *SMOKE)
    done = vr(*words, "--explain")
    assert done.code == 0, done.err
    assert "task 2 of 2: two" in done.err
    body = json.loads(vr(*words, "--format", "json").out)
    assert list(body["tasks"]) == ["one", "two"]
    alone = json.loads(vr("compare", TWO, *OPTS, *TUNED, *SMOKE, "--format", "json").out)
    assert body["tasks"]["two"] == alone
    y = {
        task: {n: np.reshape(list(o["values"].values()), (2, 1)) for n, o in one["optimizers"].items()}
        for task, one in body["tasks"].items()
    }
    (expected,) = across_tasks(y)
    (pair,) = body["across"]
    assert (pair["effect"], pair["p_holm"]) == pytest.approx((expected.effect, expected.p_holm))
    assert pair["smallest_p"] == 0.5
    assert body["ranks"] is None
    assert "on these 2 tasks" in done.out
    assert (
        "of tasks in general it says nothing: 2 tasks can reach no smaller p than 0.50; 6 can reach 0.031" in done.out
    )
    quiet = vr(*words, "--quiet").out.splitlines()
    assert quiet[0] == body["verdict"]
    assert [line.split(":")[0] for line in quiet[1:]] == ["one", "two"]
    for line in quiet:
        assert line.removeprefix("one: ").removeprefix("two: ") in done.out


def test_six_tasks_may_speak_of_tasks_in_general(vr: Any) -> None:
    names = [f"valleys:{name}" for name in ("One", "Two", "Three", "Four", "Five", "Six")]
    words = ("compare", *names, *OPTS, "--opt", "rmsprop", "--seeds", "2", *SMOKE)
    body = json.loads(vr(*words, "--format", "json").out)
    assert body["ranks"]["tasks"] == 6
    assert sum(body["ranks"]["average"].values()) == pytest.approx(6)
    assert all(pair["p_general"] >= 2.0**-5 for pair in body["across"])
    out = vr(*words, "--explain").out
    assert "signed-rank test over 6 tasks, times 3 comparisons" in out
    assert "ranks over 6 tasks: are all equal?" in out
    assert "with the preset's settings" in out


def test_a_task_that_fails_costs_no_other_its_result(vr: Any) -> None:
    done = vr("compare", ONE, "valleys:Failing", TWO, *OPTS, "--seeds", "2", *SMOKE, "--format", "json")
    assert done.code == 1
    body = json.loads(done.out)
    assert list(body["tasks"]) == ["one", "two"]
    assert list(body["failed"]) == ["failing"]
    assert "no gradient today" in body["failed"]["failing"]
    assert [task["task"] for task in body["across"][0]["tasks"]] == ["one", "two"]
    text = vr("compare", ONE, "valleys:Failing", TWO, *OPTS, "--seeds", "2", *SMOKE)
    assert text.code == 1
    assert "failing has no result: " in text.out
    assert "its runs are stored" in text.err
    every = vr("compare", "valleys:Failing", *OPTS, "--seeds", "2", *SMOKE)
    assert (every.code, every.out) == (1, "")


def test_a_task_whose_values_are_not_positive_has_no_ratio(vr: Any) -> None:
    done = vr("compare", ONE, "valleys:Below", TWO, *OPTS, "--seeds", "2", *SMOKE)
    assert done.code == 0, done.err
    assert "without below: a value is not positive, so ratios mean nothing there" in done.out
    assert "over these 2 tasks (one, two)" in done.out


def test_a_declared_pair_comes_first_and_the_others_wait_for_it(vr: Any) -> None:
    words = ("compare", ONE, TWO, *OPTS, "--opt", "rmsprop", *TUNED, *SMOKE, "--primary", "sgd,rmsprop")
    pairs = json.loads(vr(*words, "--format", "json").out)["across"]
    assert (pairs[0]["a"], pairs[0]["b"]) == ("sgd", "rmsprop")
    assert pairs[0]["p_holm"] == pairs[0]["p"]
    assert all(pair["p_holm"] >= pairs[0]["p"] for pair in pairs)


def test_settings_are_those_that_all_tasks_have(vr: Any) -> None:
    help_text = vr("compare", ONE, TWO, *OPTS, "--help").out
    assert "--width" in help_text
    assert "--depth" not in help_text
    assert "--depth" in vr("compare", TWO, *OPTS, "--help").out
    done = vr("compare", ONE, TWO, *OPTS, "--seeds", "2", "--width", "3", *SMOKE, "--format", "json")
    run = json.loads(done.out)["tasks"]["two"]["optimizers"]["sgd"]["runs"][0]
    spec = json.loads(vr("runs", "show", str(run), "--format", "json").out)["spec"]
    assert spec["task_settings"]["width"] == 3


REFUSED = {
    "a setting of one": (
        (ONE, TWO, *OPTS, "--depth", "2"),
        "--depth is not a setting of valleys:One: with several tasks",
    ),
    "a setting of none": ((ONE, TWO, *OPTS, "--widht", "2"), "did you mean --width?"),
    "twice": ((ONE, ONE, *OPTS), "valleys:One is given twice"),
    "looks": ((ONE, TWO, *OPTS, "--trials", "2", "--searches", "4", "--looks", "2"), "--looks 2 is for one task"),
    "preset": ((ONE, TWO, *OPTS, "--preset", "smok"), "smok"),
    "metric": ((ONE, TWO, *OPTS, "--metric", "test_los"), "did you mean test_loss?"),
    "directions": ((ONE, "valleys:Rising", *OPTS), "less is better on one task and more on another"),
    "unknown": ((ONE, "cmn", *OPTS), "cmn"),
    "space": ((ONE, TWO, *OPTS, "--trials", "2", "--space", "lrr=0.1:1"), "did you mean"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_carried_out_is_one_line_and_nothing_runs(vr: Any, tmp_path: Any, case: str) -> None:
    words, expected = REFUSED[case]
    done = vr("compare", *words)
    assert (done.code, done.out) == (2, "")
    assert expected in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "vr.db").exists()


def test_the_values_of_the_commands_own_options_are_no_tasks(vr: Any) -> None:
    done = vr("compare", ONE, *OPTS, "--seeds", "2", *SMOKE, "--tag", "cnn", "--format", "json")
    assert json.loads(done.out)["task"] == ONE


def test_in_python_the_outcome_holds_every_task_and_the_summary(monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    found = vrcli.compare([ONE, TWO], opt=["adamw", "sgd"], seeds=2, preset="smoke", threads=1)
    assert list(found.tasks) == ["one", "two"]
    assert found.tasks["one"].verdict in str(found)
    assert found.verdict in str(found)
    assert found.verdicts[1] == f"one: {found.tasks['one'].verdicts[0]}"
    assert (found.comparisons[0].a, found.comparisons[0].b) == ("adamw", "sgd")
    assert (found.ranks, dict(found.failed)) == (None, {})
    assert found.pairs()["task"].tolist() == ["one", "two"]
    assert len(found.frame()) == 8
    assert "<table>" in found._repr_html_()
    single = vrcli.compare([ONE], opt=["adamw", "sgd"], seeds=2, preset="smoke", threads=1)
    assert list(single.tasks) == ["one"]
    assert single.comparisons == ()
    with pytest.raises(UsageError, match="given at least twice"):
        vrcli.compare([ONE, TWO], opt="adamw")
