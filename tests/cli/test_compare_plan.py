"""`vr compare --plan`: what would run, what of it is stored; nothing is recorded."""

from __future__ import annotations

import json
import sqlite3

import pytest

pytestmark = pytest.mark.usefixtures("valley", "inline")
WORDS = ("compare", "valley:Valley", "--opt", "vradam", "--opt", "sgd", "--threads", "1", "--device", "cpu")
SEARCHED = (*WORDS, "--trials", 3, "--search", "random", "--searches", 2, "--seeds", 2)


def planned(vr, *words):
    done = vr(*words, "--plan", "--format", "json")
    assert done.code == 0, done.err
    (task,) = json.loads(done.out)["tasks"]
    return {name: (one["trials"], one["reranking"], one["fresh"], one["stored"], one["left"])
            for name, one in task["optimizers"].items()}  # fmt: skip


def test_a_plan_counts_what_a_comparison_then_runs(vr, tmp_path):
    assert planned(vr, *SEARCHED) == dict.fromkeys(("vradam", "sgd"), (6, 18, 4, 0, 28))
    assert not (tmp_path / "vr.db").exists()
    assert vr(*SEARCHED).code == 0
    with sqlite3.connect(tmp_path / "vr.db") as connection:
        runs = dict(connection.execute("SELECT optimizer, count(*) FROM v_runs GROUP BY optimizer"))
    # A trial that diverged is not ranked again.
    assert {name: (*one[3:], sum(one[:3])) for name, one in planned(vr, *SEARCHED).items()} == {
        name: (count, 0, count) for name, count in runs.items()
    }
    more = (*SEARCHED[:-1], 3)
    assert {name: one[3:] for name, one in planned(vr, *more).items()} == {
        name: (count, 2) for name, count in runs.items()
    }
    shown = vr(*more, "--plan").out
    assert "2 independent searches of each optimizer, then 3 fresh seeds per search" in shown
    assert "4 runs left: about " in shown


def test_a_plan_without_a_search(vr, tmp_path):
    assert vr(*WORDS, "--seeds", 2).code == 0
    assert planned(vr, *WORDS, "--seeds", 3) == dict.fromkeys(("vradam", "sgd"), (0, 0, 3, 2, 1))
    assert "no run is left: all are stored" in vr(*WORDS, "--seeds", 2, "--plan").out


def test_a_plan_with_a_split_for_each_seed_finds_no_run_of_another_split(vr):
    assert vr(*WORDS, "--seeds", 2).code == 0
    varied = (*WORDS, "--seeds", 2, "--vary-split")
    assert planned(vr, *varied) == dict.fromkeys(("vradam", "sgd"), (0, 0, 2, 0, 2))
    assert vr(*varied).code == 0
    assert planned(vr, *varied) == dict.fromkeys(("vradam", "sgd"), (0, 0, 2, 2, 0))


def test_a_plan_refuses_what_the_comparison_refuses(vr, tmp_path):
    done = vr(*WORDS[:4], "--plan")
    assert done.code == 2
    assert "must be given at least twice" in done.err
    assert not (tmp_path / "vr.db").exists()
