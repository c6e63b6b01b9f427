"""One broken cell: lists show its row as damaged and go on, and the check finds it and puts it aside."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vrcli.search.definition import Definition

NO_TEXT = "CAST(x'61ff' AS TEXT)"
#: What is done to the database, and what the check says of it.
DAMAGES = {
    "runs SET spec = '{\"a\":' WHERE id = 2": "run 2: spec is not JSON",
    "runs SET spec = '5' WHERE id = 2": "run 2: spec is not JSON",
    "runs SET spec = replace(spec, '0.01', '0.02') WHERE id = 11": "run 11: spec is not the one of its spec_id",
    "runs SET provenance = 'x' WHERE id = 2": "run 2: provenance is not JSON",
    "runs SET created_at = 'yesterday' WHERE id = 2": "run 2: created_at is not a date",
    "runs SET finished_at = '2026-99-01' WHERE id = 2": "run 2: finished_at is not a date",
    f"runs SET tag = {NO_TEXT} WHERE id = 2": "run 2: tag is not UTF-8 text",
    f"runs SET dataset = {NO_TEXT} WHERE id = 2": "run 2: dataset is not UTF-8 text",
    "runs SET host = x'ff00' WHERE id = 2": "run 2: host is not UTF-8 text",
    "runs SET seed = 'abc' WHERE id = 2": "run 2: seed is not an int",
    "trials SET params = '{' WHERE id = 2": "trial 2: params is not JSON",
    "trials SET created_at = '' WHERE id = 2": "trial 2: created_at is not a date",
    "searches SET settings = '[1' WHERE id = 1": "search 1: settings is not JSON",
    f"sweeps SET task = {NO_TEXT} WHERE id = 1": "sweep 1: task is not UTF-8 text",
    "points SET value = 'x' WHERE run_id = 2 AND step = 2 AND metric_id = 1": "point run_id 2, metric_id 1, step 2",
    "results SET value = 'x' WHERE run_id = 2": "result run_id 2, metric_id ",
}
LISTS = (
    "runs list", "runs list --format json", "report", "sweeps list", "runs show 2", "plot curves --metric val_loss",
    "runs export --to csv --output a.csv --force", "report --output r.html --force",
)  # fmt: skip


@pytest.fixture
def filled(searched: pd.DataFrame, stored: Callable[..., int], tmp_path: Path) -> Path:
    """A database of runs, sweeps and trials."""
    stored("adamw")
    definition = Definition(
        task="cnn", preset="quick", optimizer="adamw", explicit={}, settings={}, space={}, origins={}, seeds=(0,),
        device="cpu", search="gp", initial=5, search_seed=0, prune="none", epochs=3,
    ).plain()  # fmt: skip
    with closing(sqlite3.connect(tmp_path / "vr.db")) as plain, plain:
        plain.execute("UPDATE searches SET settings = ?", (json.dumps(definition),))
    return tmp_path / "vr.db"


@pytest.mark.parametrize("damage", DAMAGES)
def test_lists_go_on_and_the_check_puts_it_aside(vr: Callable[..., Any], filled: Path, damage: str) -> None:
    before = len(vr("runs", "list").out.splitlines())
    with closing(sqlite3.connect(filled)) as plain, plain:
        assert plain.execute(f"UPDATE {damage}").rowcount == 1
    for words in LISTS:
        done = vr(*words.split())
        assert done.code == 0, (words, done.err)
    listed = vr("runs", "list").out.splitlines()
    assert len(listed) == before
    if damage.startswith("runs") and "replace" not in damage:
        assert sum("damaged" in line for line in listed) == 1
        (run,) = [one for one in json.loads(vr("runs", "list", "--format", "json").out) if one["id"] == 2]
        assert run["status"] == "damaged"
    found = vr("db", "check")
    assert found.code == 1
    assert [line for line in found.out.splitlines() if line.startswith(DAMAGES[damage])]
    repaired = vr("db", "check", "--repair")
    first, *_, counted, last = repaired.out.splitlines()
    assert first.startswith(f"moved to damaged_rows: {DAMAGES[damage]}")
    assert counted.startswith("1 row moved; the database as it was is vr.before-repair-")
    assert (repaired.code, last) == (0, "vr.db: no problems found")
    (copy,) = filled.parent.glob("vr.before-repair-*.db")
    with closing(sqlite3.connect(filled)) as plain, closing(sqlite3.connect(copy)) as earlier:
        ((table, row),) = plain.execute("SELECT table_name, row FROM damaged_rows").fetchall()
        assert table == damage.split()[0]
        assert json.loads(row)
        runs = "SELECT count(*) FROM runs"
        lost = earlier.execute(runs).fetchone()[0] - plain.execute(runs).fetchone()[0]
        assert lost == (table == "runs")
    assert vr("run", "cnn", "--preset", "nosuch").code == 2  # it can be opened for writing, too


def test_points_that_are_missing_are_found(vr: Callable[..., Any], filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as plain, plain:
        train = "(SELECT id FROM metrics WHERE name = 'train_loss')"
        plain.execute(f"DELETE FROM points WHERE run_id = 11 AND step = 7 AND metric_id = {train}")
    done = vr("db", "check")
    assert (done.code, done.out) == (1, "run 11: 20 steps are recorded, and 19 points of train_loss\n")


def test_a_sound_database_is_not_repaired(vr: Callable[..., Any], filled: Path) -> None:
    files = sorted(filled.parent.iterdir())
    done = vr("db", "check", "--repair")
    assert (done.code, done.out) == (0, "vr.db: no problems found\n")
    assert sorted(filled.parent.iterdir()) == files


def test_nothing_of_a_damaged_database_comes_in(vr: Callable[..., Any], filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as plain, plain:
        plain.execute("UPDATE runs SET created_at = 'x' WHERE id = 2")
    done = vr("db", "merge", "vr.db", "--db", "new.db")
    assert done.code == 2
    assert "vr.db has 1 damaged row, and nothing of it came in; vr db check names" in done.err
