"""What several tests of commands need: processes of `vr`, and databases of two optimizers' seeds, and of searches."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vrcli.db.store import Store


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begin a `vr` of its own in the test's folder, with words for the environment; none outlives the test.

    Words that begin with -c are for the interpreter itself.
    """
    begun = []

    def begin(*words: str, env: Mapping[str, str], **more: Any) -> subprocess.Popen[str]:
        how = list(words) if words[0] == "-c" else ["-m", "vrcli", *words]
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        process = subprocess.Popen([sys.executable, *how], cwd=tmp_path, env={**os.environ, **env}, text=True, **more)
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture
def seeds(stored: Callable[..., int]) -> list[int]:
    """Three seeds of two optimizers; one run of the second lost its last validation."""
    ids = [stored("adamw", seed=seed, loss=0.10 + 0.01 * seed) for seed in range(3)]
    ids += [stored("sgd", seed=seed, loss=0.20 + 0.02 * seed) for seed in range(2)]
    return [*ids, stored("sgd", seed=2, loss=0.3, status="diverged")]


@pytest.fixture
def searched(written_once: Callable[..., Any]) -> pd.DataFrame:
    """Two searches of six trials with curves, one trial of each diverged and one failed; the trials as a frame."""
    return pd.DataFrame(written_once("two searches", _search))


def _search(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with Store.open(path) as store:
        for optimizer, worse in (("adamw", 1.0), ("sgd", 2.0)):
            about = {"task": "cnn", "preset": "quick", "dataset": "digits", "dataset_fingerprint": "ab"}
            more = {"optimizer": optimizer, "epochs": 3, "seeds": [0], "search": "gp"}
            sweep = store.searches.create({**about, **more}, key=optimizer, trials=6)
            for number in range(6):
                lr = 10.0 ** (number - 5)
                trial = store.searches.add_trial(sweep.id, {"lr": lr, "nesterov": number % 2 == 0})
                store.searches.start_trial(trial.id)
                if number == 0:
                    store.searches.finish_trial(trial.id, "failed", error="no memory")
                    continue
                lost = number == 5
                value = math.nan if lost else worse * (0.1 + (number - 3) ** 2)
                spec = {**about, "optimizer": optimizer, "seed": 0, "task_settings": {}, "training": {"epochs": 3},
                        "optimizer_settings": {"lr": lr, "nesterov": number % 2 == 0}, "device": "cpu"}  # fmt: skip
                run = store.runs.begin(spec, spec_id=f"{optimizer}{number}", provenance={}, trial_id=trial.id)
                y = [math.nan] * 3 if lost else [3 * value, 2 * value, value]
                points = {"val_loss": ([2, 4, 6], y), "epoch": ([2, 4, 6], [1.0, 2.0, 3.0])}
                store.curves.add(run.id, points)
                store.runs.finish(run.id, "diverged" if lost else "completed", results={"best_val_loss": value})
                store.searches.finish_trial(trial.id, "diverged" if lost else "completed", value=value)
                rows.append({"optimizer": optimizer, "lr": lr, "value": value, "run": run.id})
            store.searches.set_status(sweep.id, "completed")
    return rows


@pytest.fixture
def stored_curves(tmp_path: Path) -> Callable[[str], dict[int, pd.Series]]:
    """Reads the stored points of one metric: values by step, by run."""

    def read(metric: str) -> dict[int, pd.Series]:
        with Store.open(tmp_path / "vr.db", mode="read") as store:
            found = store.curves.read([run.id for run in store.runs.select()], metric)
        return {run: pd.Series(list(curve.values), index=list(curve.steps)) for (run, _), curve in found.items()}

    return read
