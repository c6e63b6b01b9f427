"""`vr runs diff`: what differs comes first, and equal curves are said to be so."""

from __future__ import annotations

import json


def test_what_differs_comes_first(vr, stored):
    stored("adamw", loss=0.2, lr=0.01)
    stored("adamw", loss=0.1, lr=0.02)
    out = vr("runs", "diff", "1", "2").out
    lines = out.splitlines()
    assert lines[3] == "→ the curves of run 1 and run 2 part at step 1: lr_effective is 0.01 and 0.02"
    table = lines[lines.index(next(line for line in lines if line.startswith("settings"))) + 1]
    assert table.split() == ["lr", "0.01", "0.02"]
    assert out.index("settings") < out.index("results") < out.index("\ncurves") < out.index("equal: ")
    assert "width" not in out  # equal settings are counted
    assert "○ run 2" in out
    everything = vr("runs", "diff", "1", "2", "--all").out
    assert "width" in everything
    assert "equal: " not in everything


def test_equal_runs_are_bit_identical(vr, stored):
    stored("adamw", status="diverged")
    stored("adamw", status="diverged", results={"wall_s": 9.0})
    out = vr("runs", "diff", "1", "2").out
    assert "→ bit-identical: all 5 curves of run 1 and run 2, 52 points" in out
    assert "one spec" in out
    assert "wall_s" in out
    body = json.loads(vr("runs", "diff", "1", "2", "--format", "json").out)
    assert body["bit_identical"] is body["same_spec"] is True
    assert all(curve["first_step"] is None for curve in body["curves"])
    assert [pair["name"] for pair in body["results"] if not pair["equal"]] == ["wall_s"]
    assert next(pair for pair in body["results"] if pair["name"] == "final_val_loss")["a"] == "nan"


def test_only_the_curves_asked_for(vr, stored):
    stored("adamw", lr=0.01)
    stored("adamw", lr=0.02)
    out = vr("runs", "diff", "1", "2", "--metric", "lr_effective").out
    assert "lr_effective" in out
    assert "val_accuracy  " not in out.partition("curves")[2]
    curves = json.loads(vr("runs", "diff", "1", "2", "--metric", "val_loss", "--format", "json").out)["curves"]
    assert [curve["metric"] for curve in curves] == ["val_loss"]


def test_what_cannot_be_compared_is_refused(vr, stored):
    stored()
    stored("sgd")
    for words, expected in (
        (["1", "7"], "its runs are 1 to 2"),
        (["1", "1"], "are the same run"),
        (["1", "2", "--metric", "val_los"], "did you mean val_loss?"),
    ):
        done = vr("runs", "diff", *words)
        assert done.code == 2
        assert expected in done.err
        assert len(done.err.splitlines()) == 1
