"""A database that an early version wrote, once it is upgraded: every command reads it, or refuses in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from vrcli.db.store import Store

OLD = Path(__file__).parents[1] / "db" / "assets" / "schema_0001.db"

READS = [
    "runs list", "runs list --format json", "runs list --where lr>0.001", "runs show 1", "runs show 2", "runs show 5",
    "runs show 2 --format json", "runs show 1 --metric val_loss", "runs diff 1 2", "runs diff 1 2 --all",
    "runs diff 3 4 --format json", "runs export -o out.csv", "runs export -o out.json", "runs export -o out.parquet",
    "runs export -o out.db", "report", "report --trials", "report --best", "report --format json",
    "report --format markdown", "report --format latex", "report --format csv", "report --output page.html",
    "plot curves", "sweeps list", "sweeps list --format json", "db info", "db info --format json",
    "db check", "db backup copy.db", "db merge vr.db --db new.db",
]  # fmt: skip


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = Path(shutil.copy(OLD, tmp_path / "vr.db"))
    Store.upgrade(path)
    Store.open(path).close()  # marks what was running as interrupted
    return path


def test_every_command_reads_it(vr, old):
    for line in READS:
        done = vr(*line.split())
        assert "unexpected" not in done.err, (line, done.err)
        assert done.code == 0, (line, done.err)


def test_a_run_is_shown_as_far_as_it_was_recorded(vr, old):
    shown = vr("runs", "show", "1").out
    assert "  all        epochs=3  device=cpu  lr=0.001  betas=0.9,0.999\n" in shown
    assert shown.endswith("repeat it with\n  vr run cnn\n")  # its stored command line
    assert "None" not in shown.partition("file notes.txt")[0]


@pytest.mark.parametrize("words", [("rerun", "1"), ("retry", "3")])
def test_a_run_that_lacks_settings_is_not_trained(vr, old, words):
    done = vr("runs", *words)
    assert done.code == 2
    expected = "cannot be trained by this version: task_settings, training, optimizer_settings, threads not recorded"
    assert done.err == f"vr: run {words[1]} {expected}\n"
    with Store.open(old, mode="read") as store:
        assert len(store.runs.select()) == 5


def test_event_files_of_it(vr, old, tmp_path):
    pytest.importorskip("tensorboard")
    done = vr("runs", "export", "--to", "tensorboard", "-o", "events")
    assert done.code == 0, done.err
    assert len(json.loads((tmp_path / "events" / ".vr-export.json").read_text())["files"]) >= 5


@pytest.mark.parametrize("words", ["report", "trials"])
def test_a_report_of_it_has_the_numbers_that_it_had(vr, tmp_path, words):
    """Written by an earlier version from real runs and two searches, of whose best settings fresh seeds were run."""
    assets = OLD.parent
    shutil.copy(assets / "schema_0002.db", tmp_path / "vr.db")
    Store.upgrade(tmp_path / "vr.db")
    done = vr("report", "--format", "json", *(["--trials"] if words == "trials" else []))
    rows = json.loads(done.out)["rows"]
    expected = json.loads((assets / "schema_0002_report.json").read_text())[words]
    assert len(rows) == len(expected)
    for row, before in zip(rows, expected, strict=True):
        found = {key: row[key] for key in before if key != "metrics"}
        found["metrics"] = {
            name: {key: row["metrics"][name][key] for key in values} for name, values in before["metrics"].items()
        }
        assert found == before
