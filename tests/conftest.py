"""Shared fixtures: one thread, a private cache and working directory, reproducible property tests, and calling `vr`."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# One thread each, here and in every process that a test starts: as many tests run side by side as there are cores,
# and torch's threads would wait for each other. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

settings.register_profile("vr", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("vr")

SPIRALS = "vrcli.cli.scaffold.task_template:Spirals"


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests that stop and restart processes wait a lot."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the documents say takes longest of all: begun last, it would keep one process waiting for the other."""
    items.sort(key=lambda item: item.path.name not in ("test_docs.py", "test_readme.py"))


_NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def _private_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache, state or database."""
    # Numbered here: pytest looks through all folders that there are for the next number, which thousands of tests feel.
    own = tmp_path_factory.getbasetemp() / "private" / str(next(_NUMBERS))
    monkeypatch.setenv("VR_CACHE", str(own / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(own / "state"))
    monkeypatch.delenv("VR_DB", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def vr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run `vr ARGS` in an empty working directory."""
    from vrcli.cli.app import main

    monkeypatch.chdir(tmp_path)

    def call(*words: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["vr", *map(str, words)])
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return Result(stop.value.code or 0, captured.out, captured.err)

    return call


@pytest.fixture
def valley(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task valley:Valley, in reach of this process and its workers."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "plugins"))


class Inline:
    """An executor that runs its jobs in this process, one after the other, which saves the start of workers."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make, self.work, self.waiting = make, None, []  # type: ignore[var-annotated]

    def free(self) -> int:
        return 1 - len(self.waiting)

    def submit(self, key: Any, payload: Any) -> None:
        self.waiting.append((key, payload))

    def receive(self, timeout_s: float) -> list[Any]:
        from vrcli.execute.executor import Message, Refused

        key, payload = self.waiting.pop(0)
        notes: list[Any] = []
        try:
            self.work = self.work or self.make()
            done = Message(key, "done", self.work(payload, notes.append, lambda: False))
        except Refused as error:
            done = Message(key, "refused", str(error))
        except Exception as error:
            done = Message(key, "failed", f"{type(error).__name__}: {error}")
        return [*(Message(key, "note", body) for body in notes), done]

    def close(self, *, patience_s: float = 0.0) -> list[Any]:
        if self.work is not None:
            self.work.close()
        return []


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies run their jobs in this process."""
    from functools import partial

    from vrcli.execute.place import Place
    from vrcli.execute.worker import Worker

    def executor(self: Place) -> Inline:
        return Inline(partial(Worker, self.database, self.data_dir, False, self.checkpoints, self.probing))

    monkeypatch.setattr(Place, "executor", executor)


@pytest.fixture
def spirals(vr: Callable[..., Result]) -> Callable[..., Result]:
    """Run the template task's smoke preset, quickly."""
    return lambda *words: vr("run", SPIRALS, "--preset", "smoke", "--threads", "1", "--malloc-tuning", *words)


#: What a database held after what was written to it, by what it held before and what was written.
_WRITTEN: dict[tuple[bytes, str], tuple[bytes, Any]] = {}


@pytest.fixture
def written_once(tmp_path: Path) -> Callable[[str, Callable[[Path], Any]], Any]:
    """Write into vr.db; where the same was written into the same file before, the file is copied.

    Many tests begin with the same runs, and writing these takes longer than most tests. The first argument tells what
    is written from all else, the second writes it; what that gives back is given back.
    """
    path = tmp_path / "vr.db"

    def once(what: str, write: Callable[[Path], Any]) -> Any:
        beside = {one.name for one in path.parent.glob("*.db*")} - {path.name}
        if beside:  # a journal, so that not all is in the file, or another database, whose runs must be others
            return write(path)
        key = (hashlib.blake2b(path.read_bytes() if path.exists() else b"").digest(), what)
        if key in _WRITTEN:
            path.write_bytes(zlib.decompress(_WRITTEN[key][0]))
        else:
            found = write(path)
            _WRITTEN[key] = zlib.compress(path.read_bytes(), 1), found
        return _WRITTEN[key][1]

    return once


@pytest.fixture
def stored(written_once: Callable[..., Any]) -> Callable[..., int]:
    """Write a finished run into vr.db in the working directory of `vr`, without training; returns its number."""
    return lambda *words, **more: written_once(
        repr((words, sorted(more.items()))), lambda path: _write_run(path, *words, **more)
    )


def _write_run(
    path: Path,
    optimizer: str = "adamw",
    *,
    seed: int = 0,
    loss: float = 0.1,
    task: str = "cnn",
    dataset: str = "digits",
    preset: str = "quick",
    status: str = "completed",
    epochs: int = 4,
    tag: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    results: Mapping[str, float] | None = None,
    objective: str = "loss",
    larger: Sequence[str] = (),
    **settings: Any,
) -> int:
    from vrcli.db.store import Store

    training = {"epochs": epochs, "batch_size": 32, "max_steps": None}
    own = {"lr": 0.01, **settings}
    spec = {
        "task": task, "preset": preset, "dataset": dataset, "dataset_fingerprint": f"print-of-{dataset}",
        "optimizer": optimizer, "seed": seed, "device": "cpu", "threads": 1, "precision": "fp32",
        "task_settings": {"dataset": dataset, "width": 8}, "training": training, "optimizer_settings": own,
        "versions": {"vr": "1"},
    }  # fmt: skip
    spec_id = hashlib.blake2b(json.dumps(spec, sort_keys=True).encode(), digest_size=8).hexdigest()
    about = {"vr": "1", "python": "3", "device": "cpu", "cpu": "a processor", "threads": 1, "directory": "/here"}
    per_epoch, steps = 5, list(range(1, 5 * epochs + 1))
    end = math.nan if status == "diverged" else loss
    validation = [loss * (2 - e / epochs) for e in range(1, epochs)] + [end]
    at = list(range(per_epoch, per_epoch * epochs + 1, per_epoch))
    with Store.open(path) as store:
        said = [
            SimpleNamespace(name=name, direction="max" if name in larger else None, unit="", percent=False, shown=False)
            for name in dict.fromkeys([objective, *larger])
        ]
        run = store.runs.begin(
            spec, spec_id=spec_id, provenance={**about, **(provenance or {})}, tag=tag,
            metrics=said if objective != "loss" else (),
        )  # fmt: skip
        curves = {
            "train_loss": (steps, [loss * (3 - s / len(steps)) for s in steps]),
            "lr_effective": (steps, [own["lr"] / s for s in steps]),
            "val_loss": (at, validation), "val_accuracy": (at, [1 - v for v in validation]),
            "epoch": (at, [float(e) for e in range(1, epochs + 1)]),
            "wall_s": (at, [0.5 * e for e in range(1, epochs + 1)]),
        }  # fmt: skip
        store.curves.add(run.id, curves)
        found = {
            "best_val_loss": loss, "test_loss": loss * 1.1, "val_accuracy": 1 - loss, "final_val_loss": end,
            "wall_s": 2.0, "step_ms": 1.5, "peak_memory_bytes": 3e8,
            "steps": float(len(steps)), "epochs": float(epochs), **(results or {}),
        }  # fmt: skip
        store.runs.finish(run.id, status, results=found)
    return run.id
