"""Wherever `vr` writes a file that it was asked for: what it replaces, and what it never touches."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from vrcli.db.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from commands import Place, places

from vrcli.results.export import FORMATS

#: By command, or its last words, the ending of what it writes; another command's file may end as it likes.
ENDINGS = {"--output": {"plot": ".png", "report": ".md"}, "--data": {"plot": ".csv"}}


def _all() -> Iterator[tuple[Place, str, bool]]:
    """Every place, once for each format, with an ending that its command takes, and whether it is a folder."""
    for place in places():
        if place.command == ("runs", "export"):
            for format, ending in FORMATS.items():
                yield replace(place, words=(*place.words, "--to", format)), ending or "", ending is None
        else:
            yield place, ENDINGS.get(place.flag, {}).get(place.command[0], ".txt"), place.name == "folder"


#: Of the figures, whose files one place writes, these in the default tests.
FEW = ("curves", "sweep")
ALL = [
    pytest.param(
        *one,
        id=" ".join([*one[0].words, one[0].flag]),
        marks=pytest.mark.slow if one[0].command[0] == "plot" and one[0].command[1] not in FEW else (),
    )
    for one in _all()
]
FILES = [
    one for one in ALL
    if not one.values[2] and one.values[0].command not in (("study", "report"), ("plot", "trajectory"))
]  # fmt: skip
#: Without the bench, which takes an empty folder and keeps databases of its own there.
FOLDERS = [
    pytest.param(*one.values, marks=pytest.mark.slow) if "mlflow" in one.values[0].words else one
    for one in ALL
    if one.values[2] and one.values[0].command[0] != "bench"
]


def test_the_walk_finds_the_commands_that_write() -> None:
    found = {str(place) for place in places()}
    assert {"report --output", "sweeps export --output", "runs show --samples", "tasks new --folder"} <= found
    assert {f"plot {name} {flag}" for name in ("curves", "envelope") for flag in ("--output", "--data")} <= found
    assert all(place.forces for place in places() if place.name != "folder")


@pytest.fixture
def filled(vr: Callable[..., Any], searched: pd.DataFrame, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`vr` beside a database whose journal is in use, with sweeps, curves and a picture."""
    from vrcli.search.definition import Definition

    definition = Definition(
        task="cnn", preset="quick", optimizer="adamw", explicit={}, settings={}, space={}, origins={}, seeds=(0,),
        device="cpu", search="gp", initial=5, search_seed=0, prune="none", epochs=3, dataset="digits",
        dataset_fingerprint="ab",
    ).plain()  # fmt: skip
    png = BytesIO()
    Image.new("RGB", (7, 5), (255, 0, 0)).save(png, "PNG")
    picture = (1, "samples.png", 4, "image/png", len(png.getvalue()), png.getvalue())
    with closing(sqlite3.connect(tmp_path / "vr.db", isolation_level=None)) as busy:
        busy.execute("UPDATE searches SET settings = ? WHERE id = 1", (json.dumps(definition),))
        columns = "run_id, name, step, media_type, size, data, created_at"
        copied = "?, ?, ?, ?, ?, ?, created_at FROM runs WHERE id = 1"
        busy.execute(f"INSERT INTO artifacts ({columns}) SELECT {copied}", picture)
        with Store.open(tmp_path / "vr.db") as store:
            busy.execute("BEGIN")
            busy.execute("SELECT * FROM runs").fetchone()
            store.runs.tag(1, "kept")
            _compare(store)
        assert (tmp_path / "vr.db-wal").stat().st_size > 0
        shutil.copy(tmp_path / "vr.db", tmp_path / "other.db")
        yield vr


def _compare(store: Store) -> None:
    """Two optimizers of one sweep: all incumbents on the fresh seed 1, the winner without a trial."""
    about = {"task": "cnn", "preset": "quick", "dataset": "digits", "dataset_fingerprint": "ab", "search_seed": 0}
    sweep = None
    for optimizer in ("adamw", "sgd"):
        search = store.searches.create(
            {**about, "optimizer": optimizer}, key=f"{optimizer} 2", trials=4, sweep_id=sweep
        )
        sweep = search.sweep_id
        for number in range(4):
            trial = store.searches.add_trial(search.id, {"lr": 0.1 * number})
            store.searches.start_trial(trial.id)
            spec = {**about, "optimizer": optimizer, "optimizer_settings": {"lr": 0.1 * number}}
            winner = {"search_id": search.id, "group": "compare-1"} if number == 3 else {"trial_id": trial.id}
            for seed, lineage in ((0, {"trial_id": trial.id}), (1, winner)):
                run = store.runs.begin(
                    {**spec, "seed": seed}, spec_id=f"{optimizer} {number} {seed}", provenance={}, **lineage
                )
                value = 1.0 - 0.1 * number + 0.01 * seed
                probed = {"sharpness_1": ([4], [3.0]), "updates_norm": ([4], [0.1])}
                store.curves.add(run.id, {"val_loss": ([2, 4], [2.0, value]), "epoch": ([2, 4], [1.0, 2.0]), **probed})
                store.runs.finish(run.id, "completed", results={"best_val_loss": value, "test_loss": value})
            store.searches.finish_trial(trial.id, "completed", value=1.0 - 0.1 * number)


def _contents(folder: Path) -> dict[str, bytes | None]:
    """All files but SQLite's index of a journal, which readers change."""
    found = (path for path in sorted(folder.rglob("*")) if "-shm" not in path.name)
    return {path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes() for path in found}


def _refused(vr: Callable[..., Any], words: list[str], folder: Path) -> None:
    before = _contents(folder)
    done = vr(*words)
    assert (done.code, done.out) == (2, ""), words
    assert done.err.startswith("vr: ")
    assert done.err.count("\n") == 1, done.err
    assert _contents(folder) == before, words


@pytest.mark.parametrize(("place", "ending", "is_folder"), ALL)
def test_a_database_is_never_written_over(
    filled: Callable[..., Any], tmp_path: Path, place: Place, ending: str, is_folder: bool
) -> None:
    targets = [tmp_path / f"vr.db{journal}" for journal in ("", "-wal", "-shm", "-journal")]
    targets.append(tmp_path / "other.db-wal")
    for own in targets[:3]:
        targets.append(tmp_path / f"link{own.suffix[3:]}{ending}")
        targets[-1].symlink_to(own)
        targets.append(tmp_path / f"hard{own.suffix[3:]}{ending}")
        targets[-1].hardlink_to(own)
    (tmp_path / f"full{ending}").mkdir()
    (tmp_path / f"full{ending}" / "thesis.tex").write_text("years of work")
    targets.append(tmp_path / f"full{ending}")
    for target in targets:
        _refused(filled, place.aimed(target), tmp_path)
        if place.forces:
            _refused(filled, [*place.aimed(target), "--force"], tmp_path)


@pytest.mark.parametrize(("place", "ending", "is_folder"), FILES)
def test_another_file_is_replaced_only_when_told(
    filled: Callable[..., Any], tmp_path: Path, place: Place, ending: str, is_folder: bool
) -> None:
    target = tmp_path / f"mine{ending}"
    target.write_text("years of work")
    words = place.aimed(target)
    _refused(filled, words, tmp_path)
    done = filled(*words, "--force")
    assert done.code == 0, done.err
    assert f"wrote {target}" in done.err
    assert target.read_bytes() != b"years of work"
    if place.command == ("db", "backup"):  # which may be all that is left of a database
        _refused(filled, words, tmp_path)
    else:
        assert filled(*words).code == 0
    with target.open("ab") as file:
        file.write(b" ")
    _refused(filled, words, tmp_path)
    target.unlink()
    assert filled(*words).code == 0
    assert not [path for path in tmp_path.iterdir() if ".part" in path.name]


@pytest.mark.parametrize(("place", "ending", "is_folder"), FOLDERS)
def test_a_folder_of_vr_s_own_is_replaced_and_nothing_else(
    filled: Callable[..., Any], tmp_path: Path, place: Place, ending: str, is_folder: bool
) -> None:
    if "--to" in place.words:
        pytest.importorskip(place.words[-1])
    target = tmp_path / "mine"
    target.write_text("years of work")
    _refused(filled, place.aimed(target), tmp_path)
    target.unlink()
    done = filled(*place.aimed(target))
    assert done.code == 0, done.err
    assert f"wrote {target}" in done.err
    if place.forces:
        assert filled(*place.aimed(target)).code == 0
    else:  # a task that somebody may have begun to change
        _refused(filled, place.aimed(target), tmp_path)
    assert not [path for path in tmp_path.iterdir() if ".part" in path.name]


def test_a_command_that_is_told_to_stop_leaves_nothing(stored: Callable[..., int], tmp_path: Path) -> None:
    stored()
    parts, pipe = tmp_path / "parts", tmp_path / "pipe"
    parts.mkdir()
    os.mkfifo(pipe)  # nobody reads it: the command waits
    words = ["runs", "export", "--to", "json", "-o", str(pipe), "--db", str(tmp_path / "vr.db")]
    with subprocess.Popen(
        [sys.executable, "-m", "vrcli", *words], stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        env={**os.environ, "TMPDIR": str(parts)},
    ) as export:  # fmt: skip
        while not any(part.stat().st_size for part in parts.glob(".vr-*.part")):
            assert export.poll() is None
            time.sleep(0.1)
        export.terminate()
        _, errors = export.communicate(timeout=60)
    assert export.returncode == 130, errors
    assert list(parts.iterdir()) == []
