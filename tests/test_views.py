"""The example queries for people with an SQL shell: they run on a real database and mean what they say."""

from __future__ import annotations

import math
import re
import shutil
import sqlite3
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from vrcli.db.store import Store

ROOT = Path(__file__).parents[1]
#: As they stand in the documentation: the best run of each optimizer, mean and deviation over seeds, steps to a target.
BEST, SEEDS, TARGET = re.findall(r"```sql\n(.*?)```", (ROOT / "docs/how-to/sql.md").read_text(), re.S)

LOSSES = {"vradam": [0.05, 0.25, 0.09], "adamw": [0.5, math.nan, 0.08]}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    """Two optimizers with three seeds each, one of which diverged."""
    path = tmp_path / "vr.db"
    with Store.open(path) as store:
        for optimizer, losses in LOSSES.items():
            for seed, loss in enumerate(losses):
                spec = {"task": "cnn", "preset": "quick", "dataset": "digits", "optimizer": optimizer, "seed": seed}
                run = store.runs.begin(spec, spec_id=f"{optimizer}{seed}", provenance={}, group="compare-1")
                store.curves.add(
                    run.id, {"val_loss": ([9, 18, 27], [1.0, 0.3 if math.isnan(loss) else loss + 0.02, loss])}
                )
                lost = math.isnan(loss)
                results = {"best_val_loss": 0.3} if lost else {"best_val_loss": loss, "test_loss": 2 * loss}
                store.runs.finish(run.id, "diverged" if lost else "completed", results=results)
    return path


def _rows(path: Path, query: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as plain:
        return plain.execute(query).fetchall()


def test_the_best_run_of_each_optimizer(database: Path) -> None:
    assert _rows(database, BEST) == [
        ("cnn", "vradam", 3, 0, 0.05, 0.1, 1),
        ("cnn", "adamw", 3, 1, 0.08, 0.16, 6),
    ]


def test_mean_and_standard_deviation_over_seeds(database: Path) -> None:
    expected = []
    for optimizer, losses in LOSSES.items():
        kept = [2 * loss for loss in losses if not math.isnan(loss)]
        lost = len(losses) - len(kept)
        mean, sd = round(statistics.mean(kept), 4), round(statistics.stdev(kept), 4)
        expected.append(("cnn", optimizer, len(kept), lost, mean, sd))
    assert _rows(database, SEEDS) == expected


def test_steps_until_a_target(database: Path) -> None:
    assert _rows(database, TARGET) == [
        ("adamw", 0, None),
        ("adamw", 1, None),
        ("adamw", 2, 27),
        ("vradam", 0, 18),
        ("vradam", 1, None),
        ("vradam", 2, 27),
    ]


@pytest.mark.skipif(not shutil.which("sqlite3"), reason="the sqlite3 shell is not installed")
@pytest.mark.parametrize("query", [BEST, SEEDS, TARGET])
def test_the_shell_takes_them_too(database: Path, query: str) -> None:
    done = subprocess.run(["sqlite3", database, query], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(_rows(database, query))
