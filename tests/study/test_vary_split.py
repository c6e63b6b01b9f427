"""A part of which every seed, or every search, has data of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vrcli
from vrcli.db.store import Store
from vrcli.studies import read_study

TEXT = """
title = "data of one's own"
[parts.stated]
task = "valley:Valley"
preset = "quick"
optimizers = ["vradam", "sgd"]
vary_split = true
seeds = 3
fix = { sgd = { lr = 0.01 } }
[parts.searched]
task = "valley:Valley"
preset = "quick"
optimizers = ["vradam", "sgd"]
vary_split = true
trials = 1
searches = 2
seeds = 2
search = "random"
[[claims]]
less = ["vradam", "sgd"]
metric = "test_loss"
"""


@pytest.fixture
def written(valley: None, inline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(TEXT)
    return tmp_path / "own.toml"


def test_every_seed_and_every_search_has_data_of_its_own(written: Path, tmp_path: Path) -> None:
    done = vrcli.study(written, threads=1, device="cpu").result
    assert all(one.complete for one in done.found.values())
    stated, searched = (done.found[name].blocks for name in ("stated", "searched"))
    for blocks in (stated, searched):
        vradam, sgd = ([run.dataset_fingerprint for own in blocks[name] for run in own] for name in ("vradam", "sgd"))
        assert vradam == sgd  # pairs have the same data
    ((first, second, third),) = stated["sgd"]
    assert len({one.dataset_fingerprint for one in (first, second, third)}) == 3
    assert [one.spec["task_settings"]["split_seed"] for one in (first, second, third)] == [1, 2, 3]
    prints = [{run.dataset_fingerprint for run in own} for own in searched["sgd"]]
    assert len(prints[0]) == len(prints[1]) == 1
    assert prints[0] != prints[1]
    assert {one.said.value for one in done.claims} <= {"reproduced", "contradicted", "not decided at this n"}


def test_the_same_study_again_runs_nothing_and_other_data_of_a_seed_do_not_count(written: Path, tmp_path: Path) -> None:
    vrcli.study(written, threads=1, device="cpu", only="stated")
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        before = len(store.runs.select())
    vrcli.study(written, threads=1, device="cpu", only="stated")
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        assert len(store.runs.select()) == before == 6
    written.write_text(TEXT.replace("vary_split = true\nseeds = 3", "seeds = 3"))
    assert read_study(written).result.found["stated"].done == 0  # of the same data for all there is none yet


def test_a_comparison_without_a_search_varies_the_split_too(valley: None, inline: None, tmp_path: Path) -> None:
    found = vrcli.compare(
        "valley:Valley", opt=["vradam", "sgd"], seeds=2, vary_split=True, fix=["sgd.lr=0.01"], threads=1, device="cpu",
        db=tmp_path / "vr.db",
    )  # fmt: skip
    runs = [run for own in found.result.blocks.values() for block in own for run in block]
    splits = {(run.optimizer, run.seed): run.spec["task_settings"]["split_seed"] for run in runs}
    assert splits == {(name, seed): seed for name in ("vradam", "sgd") for seed in (1, 2)}


def test_a_page_keeps_the_curves_that_it_shows(written: Path, tmp_path: Path, vr) -> None:
    figure = '[[figures]]\nkind = "envelope"\ncurves = ["val_loss"]\n'
    written.write_text(TEXT.split("[parts.searched]")[0] + figure)
    vrcli.study(written, threads=1, device="cpu")
    assert vr("study", "report", "own", "--output", "page").code == 0
    assert vr("study", "report", "own", "--db", "page/runs.sqlite", "--output", "again").code == 0
    assert (tmp_path / "page/page.md").read_bytes() == (tmp_path / "again/page.md").read_bytes()
    with (
        Store.open(tmp_path / "page/runs.sqlite", mode="read") as kept,
        Store.open(tmp_path / "vr.db", mode="read") as every,
    ):
        ids = [run.id for run in kept.runs.select()]
        assert set(kept.curves.metrics(ids)) <= {"val_loss", "gate"}
        assert "train_loss" in every.curves.metrics([run.id for run in every.runs.select()])
    assert json.loads(vr("study", "report", "own", "--db", "page/runs.sqlite", "--format", "json").out)["parts"]
