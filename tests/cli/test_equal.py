"""`--equal`: every optimizer is searched over the same settings, whatever else it has."""

from __future__ import annotations

import json
from typing import Any

import pytest

import vrcli

VALLEY = "valley:Valley"
SMOKE = ("--preset", "smoke", "--threads", "1")
OPTS = ("--opt", "vradam", "--opt", "sgd")
TOLD = "only lr is searched (--equal); what else an optimizer has stays as stated"

pytestmark = pytest.mark.usefixtures("valley", "inline")


def test_only_what_is_named_is_searched_and_the_notes_say_so(vr: Any) -> None:
    words = ("compare", VALLEY, *OPTS, "--trials", "2", "--searches", "2", "--seeds", "1", "--search", "random", *SMOKE)
    free = vr(*words)
    assert "searched: vradam 2 settings, sgd 1 setting" in free.out
    assert "--equal" not in free.out + free.err
    done = vr(*words, "--equal", "lr")
    assert done.code == 0, done.err
    assert TOLD in done.out
    assert TOLD in done.err
    assert "; searched: vradam" not in done.out
    body = json.loads(vr(*words, "--equal", "lr", "--format", "json").out)
    assert body["equal"] == ["lr"]
    arms = [arm for one in body["optimizers"].values() for arm in one["replicates"]]
    assert [list(arm["settings"]) for arm in arms] == [["lr"]] * 4
    run = body["optimizers"]["vradam"]["runs"][0]
    spec = json.loads(vr("runs", "show", str(run), "--format", "json").out)["spec"]
    assert spec["optimizer_settings"]["normgrad"] is False  # as stated


def test_a_sweep_has_it_too(vr: Any) -> None:
    done = vr("sweep", VALLEY, *OPTS, "--trials", "2", "--search", "random", "--equal", "lr", *SMOKE, "--plan")
    assert TOLD in done.err
    found = vrcli.sweep(VALLEY, opt=["vradam", "sgd"], trials=2, search="random", preset="smoke", equal=["lr"])
    assert [list(one.definition.space) for one in found.searches] == [["lr"], ["lr"]]


REFUSED = {
    "not of all": (("--equal", "momentum"), "--equal momentum: vradam has no such setting"),
    "no range": (("--equal", "lr,weight_decay"), "--equal weight_decay: vradam has no range of it; give --space"),
    "fixed": (("--equal", "lr", "--fix", "lr=0.1"), "--equal lr: it has a fixed value, so it is not searched"),
    "another axis": (("--equal", "lr", "--space", "weight_decay=0:1"), "--space weight_decay is not one of --equal lr"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_equal_is_refused_in_one_line(vr: Any, tmp_path: Any, case: str) -> None:
    words, expected = REFUSED[case]
    for command in ("sweep", "compare"):
        done = vr(command, VALLEY, *OPTS, "--trials", "2", *words, *SMOKE)
        assert (done.code, done.out) == (2, "")
        assert expected in done.err
        assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "vr.db").exists()


def test_without_a_search_there_is_nothing_to_make_equal(vr: Any) -> None:
    done = vr("compare", VALLEY, *OPTS, "--equal", "lr", *SMOKE)
    assert done.code == 2
    assert "--equal is for a search, and --trials 0 makes none" in done.err
