"""`vr runs rm`, `tag`, `rerun` and `retry`: what they change, and what they refuse."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pexpect
import pytest

from vrcli.cli import runs_manage
from vrcli.db.store import Store
from vrcli.errors import UsageError


def _ids(tmp_path: Path) -> list[int]:
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        return sorted(run.id for run in store.runs.select())


def test_rm_says_what_is_lost_and_removes_it(vr, stored, tmp_path):
    stored("adamw")
    stored("sgd", seed=3)
    stored("vradam")
    done = vr("runs", "rm", "2", "1", "1", "--yes")
    assert done.code == 0
    assert done.out == "removed runs 2, 1\n"
    assert "sgd · seed 3 · completed · 56 points" in done.err
    assert len(done.err.splitlines()) == 2
    assert _ids(tmp_path) == [3]
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        assert store.check() == []
        assert store.info()["points"] == 56


def test_rm_removes_nothing_where_one_run_is_not_there_or_goes_on(vr, stored, tmp_path):
    stored()
    with Store.open(tmp_path / "vr.db") as store:
        store.runs.begin({"task": "cnn", "optimizer": "sgd", "seed": 0}, spec_id="r", provenance={})
    for words, expected in (
        (["1", "9", "--yes"], "has no run 9"),
        (["1", "2", "--yes"], "run 2 is still running (pid "),
        (["1"], "nothing was asked and nothing was removed"),
    ):
        done = vr("runs", "rm", *words)
        assert done.code == 2
        assert expected in done.err.splitlines()[-1]
        assert _ids(tmp_path) == [1, 2]


@pytest.mark.parametrize(("answer", "left"), [("n", [1]), ("y", [])])
def test_rm_asks_on_a_terminal(vr, stored, tmp_path, answer, left):
    stored()
    child = pexpect.spawn(sys.executable, ["-m", "vrcli", "runs", "rm", "1"], cwd=str(tmp_path), timeout=30)
    child.expect("remove 1 run for good")
    child.sendline(answer)
    child.expect("removed run 1" if answer == "y" else "vr: nothing was removed")
    child.expect(pexpect.EOF)
    assert _ids(tmp_path) == left


def test_a_tag_can_be_changed_and_taken_away(vr, stored):
    stored(tag="old")
    assert vr("runs", "tag", "1", "new").out == "run 1: tag old -> new\n"
    (run,) = json.loads(vr("runs", "list", "--tag", "new", "--format", "json").out)
    assert run["results"]["best_val_loss"] == 0.1
    assert vr("runs", "tag", "1").out == "run 1: tag new -> none\n"
    for unusable in ("", "   ", "x" * 256):
        done = vr("runs", "tag", "1", unusable)
        assert (done.code, done.err) == (2, f"vr: WORD must have 1 to 255 letters, got {len(unusable.strip())}\n")
    assert vr("runs", "tag", "1", f"  {'x' * 255} ").out == f"run 1: tag none -> {'x' * 255}\n"
    assert vr("runs", "tag", "1", " x ").code == 0
    (run,) = json.loads(vr("runs", "list", "--tag", "x", "--format", "json").out)
    assert run["tag"] == "x"
    assert vr("runs", "tag", "4", "x").code == 2


def test_rerun_gives_the_same_bits_and_says_so(spirals, vr, tmp_path):
    first = json.loads(
        spirals("--opt", "vradam", "--beta3", "1.5", "--seed", "3", "--tag", "t", "--format", "json").out
    )
    done = vr("runs", "rerun", first["name"], "--format", "json")
    assert done.code == 0, done.err
    body = json.loads(done.out)
    assert (body["id"], body["again"], body["bit_identical"]) == (2, 1, True)
    assert (body["spec_id"], body["spec"], body["tag"]) == (first["spec_id"], first["spec"], "t")
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        curves = store.curves.read([1, 2])
    for (run, metric), curve in curves.items():
        if run == 1 and metric != "wall_s":
            assert bytes(curve.values) == bytes(curves[2, metric].values), metric
    assert vr("runs", "rerun", "1", "--quiet").out.splitlines()[-1] == "same curves as run 1, bit for bit"


def test_another_curve_is_noticed(spirals, vr, tmp_path):
    spirals("--opt", "adamw")
    with Store.open(tmp_path / "vr.db") as store:
        run = store.runs.get(1)
        values = list(store.curves.read(1)[1, "train_loss"].values)
        other = store.runs.begin(run.spec, spec_id=run.spec_id, provenance=run.provenance)
        store.curves.add(other.id, {"train_loss": ([1, 2], [values[0], values[1] + 1e-9])})
        store.runs.finish(other.id, "failed", error="made up")
    done = vr("runs", "retry", "2", "--quiet")
    assert done.code == 0
    last = done.out.splitlines()[-1]
    assert last.startswith("the curves of run 2 and run 3 part at step 2: train_loss is ")
    assert str(values[1]) in last


def test_retry_compares_as_far_as_the_stored_run_went(spirals, vr, tmp_path):
    spirals("--opt", "adamw")
    with Store.open(tmp_path / "vr.db") as store:
        run, curve = store.runs.get(1), store.curves.read(1)[1, "train_loss"]
        other = store.runs.begin(run.spec, spec_id=run.spec_id, provenance=run.provenance, group="g", tag="t")
        store.curves.add(other.id, {"train_loss": (curve.steps[:4], curve.values[:4])})
        store.runs.finish(other.id, "interrupted")
    done = vr("runs", "retry", "2", "--format", "json")
    body = json.loads(done.out)
    assert (body["id"], body["status"], body["group"], body["tag"]) == (3, "completed", "g", "t")
    assert body["verdict"].startswith("bit-identical as far as both go: 4 of ")
    assert body["bit_identical"] is False


def test_what_cannot_be_trained_again_is_refused(vr, stored, tmp_path):
    stored("adamw")  # its settings are not those of the task
    with Store.open(tmp_path / "vr.db") as store:
        spec = {**store.runs.get(1).spec, "threads": 10_000}
        run = store.runs.begin(spec, spec_id="x", provenance={})
        store.runs.finish(run.id, "failed")
        store.runs.begin(spec, spec_id="x", provenance={})
    for words, expected in (
        (["retry", "1"], "run 1 completed; vr runs rerun 1 trains it again"),
        (["rerun", "1"], "run 1 cannot be trained by this version"),
        (["rerun", "2"], "took 10000 threads; this machine has"),
        (["rerun", "3"], "run 3 is still running"),
        (["rerun", "nobody"], "has no run nobody"),
        (["rerun", "1", "--db", "none.db"], "there is no none.db here"),
    ):
        done = vr("runs", *words)
        assert done.code == 2, words
        assert expected in done.err
        assert len(done.err.splitlines()) == 1
    assert _ids(tmp_path) == [1, 2, 3]


def test_other_versions_and_other_data_are_said(spirals, vr, tmp_path):
    spirals("--opt", "adamw")
    with Store.open(tmp_path / "vr.db") as store:
        spec, made = store.runs.get(1).spec, store.runs.get(1).provenance
        changed = {**spec, "dataset_fingerprint": "other", "code": {**spec["code"], "task": "source 0"}}
        libraries = {**made["libraries"], "torch": "0.1"}
        other = store.runs.begin(changed, spec_id="x", provenance={
            **made, "libraries": libraries, "cpu": "abacus", "instructions": "beads",
        })  # fmt: skip
        store.runs.finish(other.id, "failed")
    done = vr("runs", "retry", "2", "--quiet")
    assert done.code == 0, done.err
    torch = f"run 2 was made with torch 0.1, this is {made['libraries']['torch']}; processor abacus, this is"
    assert f"{torch} {made['cpu']}; instructions beads, this is {made['instructions']}: that may" in done.err
    assert f"task code source 0 -> {spec['code']['task']}: other code may give other numbers" in done.err
    assert f"the data differ: {spec['dataset_fingerprint']} instead of other" in done.err
    plain = vr("runs", "rerun", "1", "--quiet")
    assert "instead of" not in plain.err
    assert "other" not in plain.err


def test_a_run_that_does_not_say_its_code_is_shown_and_trained_with_that_said(spirals, vr, tmp_path):
    first = json.loads(spirals("--opt", "adamw", "--format", "json").out)
    with Store.open(tmp_path / "vr.db") as store:
        old = {name: value for name, value in first["spec"].items() if name != "code"}
        old["versions"] = {"vr": "0.0.9", "torch": "2.11.0"}
        other = store.runs.begin(old, spec_id="old", provenance=store.runs.get(1).provenance)
        store.runs.finish(other.id, "completed", results=first["results"])
    assert "\n  code       not recorded\n" in vr("runs", "show", "2").out
    assert "the code that run 2 ran was not recorded" in vr("runs", "diff", "1", "2").out
    again = vr("runs", "rerun", "2", "--format", "json")
    assert again.code == 0, again.err
    assert "run 2 does not say which code it ran; this may be other code" in again.err
    assert json.loads(again.out)["spec_id"] == first["spec_id"]


def test_nobody_is_asked_where_only_one_side_is_a_terminal(monkeypatch):
    for stdin, stderr in ((True, False), (False, True), (False, False)):
        with monkeypatch.context() as patch:
            patch.setattr(runs_manage, "sys", _streams(stdin, stderr))
            with pytest.raises(UsageError, match=r"^remove it\? This is not a terminal, so nothing was asked"):
                runs_manage.confirm("remove it?")


def _streams(stdin: bool, stderr: bool) -> SimpleNamespace:
    return SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: stdin), stderr=SimpleNamespace(isatty=lambda: stderr))
