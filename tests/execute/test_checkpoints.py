"""Checkpoints as files: written in full or not at all, and recognised for what they are."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vrcli.db.store import Store
from vrcli.engine.events import Every
from vrcli.errors import UsageError
from vrcli.execute.checkpoints import Checkpoints, Shelf, every, remove, tidy, weigh

SPEC = {"task": "cnn", "optimizer": "sgd", "seed": 0, "code": {"engine": "1"}}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "vr.db") as opened:
        yield opened


def begun(store: Store) -> Any:
    return store.runs.begin(SPEC, spec_id="s", provenance={})


@pytest.fixture
def shelf(store: Store) -> Shelf:
    return Checkpoints().of(store.location, begun(store))


def save(shelf: Shelf, *steps: int, recorded: int = 0) -> None:
    for step in steps:
        shelf.save(step, {"weights": torch.full((1000,), float(step))}, recorded=recorded)


def test_the_last_two_are_kept_and_the_newest_is_taken(shelf: Shelf, tmp_path: Path) -> None:
    save(shelf, 5, 30, 200)
    assert [path.name for path in shelf.files()] == ["step-200.checkpoint", "step-30.checkpoint"]
    found, problem = shelf.newest(recorded=200)
    assert found is not None
    assert (found.step, problem) == (200, "")
    assert torch.equal(found.state["weights"], torch.full((1000,), 200.0))
    assert shelf.folder.parent == tmp_path / "vr.db-checkpoints"


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _other(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 something else\n" * 9)


@pytest.mark.parametrize(
    ("damage", "what"),
    [(_torn, "is torn"), (_flipped, "is torn"), (_empty, "is not a checkpoint"), (_other, "is not a checkpoint")],
)
def test_what_is_damaged_is_recognised_and_the_one_before_taken(shelf: Shelf, damage: Any, what: str) -> None:
    save(shelf, 10, 20)
    damage(shelf.files()[0])
    found, problem = shelf.newest(recorded=20)
    assert found is not None
    assert (found.step, problem) == (10, f"step-20.checkpoint {what}; the one of step 10 is taken")
    damage(shelf.files()[1])
    assert shelf.newest(recorded=20) == (
        None, f"step-20.checkpoint {what}; step-10.checkpoint {what}; there is no other checkpoint"
    )  # fmt: skip


def test_another_runs_checkpoint_is_recognised(store: Store, shelf: Shelf) -> None:
    other = Checkpoints().of(store.location, begun(store))
    save(shelf, 10)
    save(other, 20)
    other.files()[0].replace(shelf.folder / "step-20.checkpoint")
    found, problem = shelf.newest(recorded=20)
    assert found is not None
    assert (found.step, problem) == (10, "step-20.checkpoint is another run's; the one of step 10 is taken")


def test_an_older_format_is_recognised(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vrcli.execute.checkpoints._FORMAT", 0)
    save(shelf, 20)
    monkeypatch.undo()
    assert shelf.newest(recorded=20)[1].startswith("step-20.checkpoint is of format 0, which this version does not")


def test_one_that_is_ahead_of_the_database_is_not_taken(shelf: Shelf) -> None:
    """After a power cut a database may lack what it had taken last."""
    save(shelf, 10, recorded=10)
    save(shelf, 20, recorded=20)
    found, problem = shelf.newest(recorded=15)
    assert found is not None
    assert found.step == 10
    assert "step 20, and the database lost points before it" in problem


def test_nothing_but_data_is_read_back(shelf: Shelf, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "executed",)

    shelf.save(5, {"weights": Evil()}, recorded=0)
    found, problem = shelf.newest(recorded=5)
    assert found is None
    assert "holds what cannot be read back" in problem
    assert not (tmp_path / "executed").exists()


def test_a_full_disk_leaves_those_before(shelf: Shelf) -> None:
    save(shelf, 10)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(OSError, match="large"):
            save(shelf, 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in shelf.folder.iterdir()] == ["step-10.checkpoint"]
    assert shelf.newest(recorded=20)[1] == ""


def test_what_a_killed_process_left_half_written_goes_with_the_next_one(shelf: Shelf) -> None:
    save(shelf, 10)
    (shelf.folder / "999.part").write_bytes(b"half")
    assert shelf.newest(recorded=10)[1] == ""
    save(shelf, 20)
    assert sorted(path.name for path in shelf.folder.iterdir()) == ["step-10.checkpoint", "step-20.checkpoint"]


def test_what_ended_runs_left_is_removed_and_the_rest_weighed(store: Store, tmp_path: Path) -> None:
    runs = [begun(store) for _ in range(3)]
    for run in runs:
        save(Checkpoints().of(store.location, run), 10)
    store.runs.finish(runs[0].id, "completed")
    store.runs.finish(runs[1].id, "interrupted")
    number, size = weigh(store)
    assert number == 2
    assert size > 8000
    tidy(store)
    base = tmp_path / "vr.db-checkpoints"
    assert {path.name for path in base.iterdir()} == {run.uuid for run in runs[1:]}
    for run in runs[1:]:
        remove(store.location, run)
    assert not base.exists()


def test_what_every_means() -> None:
    assert every("off") is None
    assert every("1.5s") == Every(seconds=1.5)
    assert every("20") == Every(steps=20)
    for bad in ("soon", "0", "0s", "-1", "-5s", "nans", "infs", "", "s", "1m"):
        with pytest.raises(UsageError, match="--checkpoint-every takes seconds"):
            every(bad)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(UsageError, match="is not a folder"):
            Checkpoints(Every(), folder).check()
    Checkpoints(Every(), tmp_path / "new" / "deep").check()
    assert not (tmp_path / "new").exists()
