"""`vr runs export`: which runs it takes, and what it refuses before anything is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from vrcli.db.curves import Curves
from vrcli.db.store import Store


def test_the_runs_asked_for_are_written(vr, stored, tmp_path):
    for seed, optimizer in enumerate(["adamw", "vradam", "adamw", "sgd"]):
        stored(optimizer, seed=seed)
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        name = store.runs.get(3).name
    for words, expected in (
        ([], [1, 2, 3, 4]),
        (["4", name], [3, 4]),
        (["--opt", "adamw"], [1, 3]),
        (["1", "2", "--where", "seed>0"], [2]),
    ):
        done = vr("runs", "export", *words, "--output", "out.csv", "--force")
        assert done.code == 0, done.err
        assert done.err.startswith(f"wrote out.csv and out.curves.csv: {len(expected)} run")
        assert pd.read_csv(tmp_path / "out.csv")["id"].tolist() == expected
        assert pd.read_csv(tmp_path / "out.curves.csv")["run"].unique().tolist() == expected


def test_the_format_is_that_of_the_file(vr, stored, tmp_path):
    stored()
    assert vr("runs", "export", "-o", "out.json").code == 0
    assert json.loads((tmp_path / "out.json").read_text())[0]["id"] == 1
    assert vr("runs", "export", "--to", "parquet", "-o", "plain").code == 0
    assert (tmp_path / "plain.parquet").exists()
    assert vr("runs", "export", "-o", "copy.db").code == 0
    assert json.loads(vr("runs", "list", "--db", "copy.db", "--format", "json").out)[0]["task"] == "cnn"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-o", "out"], "--to is missing, and out does not say the format; one of csv, json"),
        (["--to", "parket", "-o", "out"], "--to parket is not one of .*did you mean parquet"),
        (["-o", "there.csv"], "--output there.csv is there already; --force replaces it"),
        (["-o", "new.csv", "--metric", "val_los"], "did you mean val_loss"),
        (["-o", "new.csv", "--opt", "adamm"], "--opt adamm: .*did you mean adamw"),
        (["9", "-o", "new.csv"], "has no run 9; its runs are 1 to 1"),
        (["1", "-o", "new.csv", "--where", "seed>3"], "none of the 1 stored runs matches"),
        (["-o", "nowhere/new.csv"], "there is no folder nowhere"),
        (["-o", "vr.db", "--force"], "is the database that is read"),
        (
            ["--to", "mlflow", "-o", "there.csv", "--force"],
            "there.csv is a file; .* is written to a folder",
        ),
        (["--to", "csv", "-o", ".", "--force"], r"--output \. is a folder"),
        (["-o", "new.db", "--metric", "val_loss"], "--metric does not go with --to sqlite"),
    ],
)
def test_what_cannot_be_written_is_refused(vr, stored, tmp_path, words, expected):
    stored()
    (tmp_path / "there.csv").write_text("mine")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = vr("runs", "export", *words)
    assert done.code == 2
    assert re.search(expected, done.err), done.err
    assert len(done.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_the_curves_of_all_runs_are_looked_up_at_once(vr, stored, monkeypatch):
    for seed in range(4):
        stored(seed=seed)
    asked, metrics = [], Curves.metrics
    monkeypatch.setattr(Curves, "metrics", lambda self, ids: asked.append(ids) or metrics(self, ids))
    assert vr("runs", "export", "-o", "out.csv", "--metric", "val_loss").code == 0
    assert asked == [[1, 2, 3, 4]]
    assert vr("runs", "diff", "1", "2", "--metric", "val_loss").code == 0
    assert asked[1:] == [[1, 2]]
    for words, of in ((["export", "-o", "new.csv"], "these runs"), (["show", "1"], "run 1")):
        done = vr("runs", *words, "--metric", "zzz")
        assert done.err.startswith(f"vr: --metric zzz is not a curve of {of}; there are train_loss, "), done.err


def test_an_empty_database_is_no_fault(vr, tmp_path: Path):
    Store.open(tmp_path / "vr.db").close()
    done = vr("runs", "export", "-o", "out.csv")
    assert done.code == 0
    assert "has no runs yet" in done.err
    assert not (tmp_path / "out.csv").exists()


def test_no_password_of_a_recorded_command_leaves(vr, stored, tmp_path):
    stored(provenance={"argv": ["/bin/vr", "run", "cnn", "--db", "postgresql://me:hunter2@host/runs"]})
    stored(task="gone:Task", provenance={"argv": ["vr", "run", "cnn", "--db", "postgresql://me:hunter2@host/runs"]})
    for name in ("out.json", "out.db", "out.csv"):
        assert vr("runs", "export", "-o", name).code == 0
        assert b"hunter2" not in (tmp_path / name).read_bytes(), name
    assert "me:***@host" in (tmp_path / "out.json").read_text()
    with Store.open(tmp_path / "out.db", mode="read") as store:
        assert store.runs.get(1).provenance["argv"][-1] == "postgresql://me:***@host/runs"
    for words in (["show", "1"], ["show", "2"], ["show", "1", "--format", "json"], ["diff", "1", "2", "--all"]):
        done = vr("runs", *words)
        assert done.code == 0, done.err
        assert "hunter2" not in done.out, words
