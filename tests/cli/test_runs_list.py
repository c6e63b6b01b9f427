"""`vr runs list` and `show`: lines that fit the terminal, runs whose process is gone, pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from vrcli.db.store import Store


def test_a_run_whose_process_is_gone_is_not_said_to_be_running(vr, tmp_path: Path):
    code = (
        "from vrcli.db.store import Store\n"
        "spec = dict(task='cnn', optimizer='sgd', seed=0, task_settings={}, training={}, optimizer_settings={},"
        " device='cpu', threads=1)\n"
        "Store.open('vr.db').runs.begin(spec, spec_id='x', provenance={'argv': ['vr', 'run']})\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert "not answering" in vr("runs", "list").out
    assert "marks it as interrupted" in vr("runs", "show", "1").out
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        assert store.runs.get(1).status == "running"  # reading changes nothing


def test_show_says_how_to_get_a_picture(vr, tmp_path):
    spec = {"task": "cnn", "optimizer": "sgd", "seed": 0, "device": "cpu", "threads": 1}
    spec |= {"task_settings": {}, "training": {}, "optimizer_settings": {}}
    with Store.open(tmp_path / "vr.db") as store:
        run = store.runs.begin(spec, spec_id="x", provenance={"argv": ["vr", "run"]})
        store.artifacts.add(run.id, "samples.png", b"PNG", media_type="image/png", step=3)
        store.runs.finish(run.id, "completed", results={"wall_s": 1.0})
    assert "--samples FILE writes the newest" in vr("runs", "show", "1").out
    assert vr("runs", "show", "1", "--samples", "out.png").code == 0
    assert (tmp_path / "out.png").read_bytes() == b"PNG"


def test_a_list_takes_the_filters_and_says_when_there_are_more(vr, stored):
    for seed in range(3):
        stored("adamw", seed=seed, lr=0.1 * (seed + 1))
    found = vr("runs", "list", "--where", "lr>0.15", "--format", "json")
    assert [run["id"] for run in json.loads(found.out)] == [3, 2]
    few = vr("runs", "list", "--limit", "2")
    assert len(few.out.splitlines()) == 3
    assert "the newest 2; --limit shows more" in few.err
    assert "more" not in vr("runs", "list", "--limit", "3").err
    assert vr("runs", "list", "--status", "running").out == "no runs are running\n"
    assert json.loads(vr("runs", "list", "--status", "running", "--format", "json").out) == []
    assert "did you mean adamw" in vr("runs", "list", "--opt", "adamm").err


def test_samples_never_overwrite_the_database(vr, stored, tmp_path):
    with Store.open(tmp_path / "vr.db") as store:
        run = store.runs.begin({"task": "cnn", "optimizer": "sgd"}, spec_id="r", provenance={})
        store.artifacts.add(run.id, "samples.png", b"a picture", media_type="image/png")
        store.runs.finish(run.id, "failed")
    (tmp_path / "link.db").symlink_to(tmp_path / "vr.db")
    before = (tmp_path / "vr.db").read_bytes()
    for path in ("vr.db", "./vr.db", tmp_path / "vr.db", "link.db", "vr.db-wal"):
        done = vr("runs", "show", "1", "--samples", path)
        assert (done.code, done.out) == (2, "")
        assert done.err == f"vr: --samples {Path(path)} is the database that is read; name another file\n"
        assert (tmp_path / "vr.db").read_bytes() == before
    assert vr("runs", "show", "1", "--samples", "nowhere/p.png").code == 2
    assert vr("runs", "show", "1", "--samples", "p.png").code == 0
    assert (tmp_path / "p.png").read_bytes() == b"a picture"
