"""A small database with every kind of number, and exporting it as `vr runs export` does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vrcli.db.store import Store
from vrcli.results.export import write

#: Curves of the first run; those of the others are its beginning.
TRAIN = [1.5, 0.1, math.nan, math.inf, -math.inf, 1e-300, 1 / 3, 2.0]
VALIDATION = [1.0, math.nan]


def picture() -> bytes:
    """A PNG file."""
    data = BytesIO()
    Image.new("RGB", (7, 5), (255, 0, 0)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Three ended runs of two tasks and one that is running; the third is of a sweep."""
    with Store.open(tmp_path / "vr.db") as opened:
        sweep = opened.searches.create({"task": "transformer", "optimizer": "adamw"}, key="k", trials=1)
        trial = opened.searches.add_trial(sweep.id, {"lr": 0.1})
        for index, (task, optimizer) in enumerate(
            [("cnn", "vradam"), ("cnn", "my.module:Mine"), ("transformer", "adamw"), ("cnn", "sgd")]
        ):
            own: dict[str, Any] = {"betas": [0.9, 0.999], "nesterov": None} if index != 1 else {"power": 2}
            spec = {
                "task": task, "preset": "quick", "dataset": "digits", "dataset_fingerprint": "d1", "seed": index,
                "optimizer": optimizer, "task_settings": {"dataset": "digits", "flip": False, "model": 'a "b", c'},
                "training": {"epochs": 2}, "optimizer_settings": {"lr": 0.01, **own}, "device": "cpu", "threads": 1,
            }  # fmt: skip
            link: dict[str, Any] = {"trial_id": trial.id} if index == 2 else {"tag": "päper"}
            run = opened.runs.begin(spec, spec_id=f"s{index}", provenance={"git": {"commit": "abc"}}, **link)
            steps = list(range(1, len(TRAIN) + 1 - index))
            opened.curves.add(run.id, {"train_loss": (steps, TRAIN[: len(steps)]), "val_loss": ([4, 8], VALIDATION)})
            opened.curves.add(run.id, {"wall_s": ([4, 8], [2.0, 3.0])})
            opened.artifacts.add(run.id, "samples.png", picture(), media_type="image/png", step=8)
            if index < 3:
                results = {"best_val_loss": 1.0, "test_loss": math.nan, "epochs": 2.0}
                opened.runs.finish(run.id, "diverged" if index == 1 else "completed", results=results)
        yield opened


@pytest.fixture
def export(store: Store, tmp_path: Path) -> Callable[..., Path]:
    """Write all runs, or some, in a format; the path of what was written."""

    def write_them(format: str, name: str = "out", *, ids: list[int] | None = None, **options: Any) -> Path:
        output = tmp_path / name
        records = sorted(store.runs.select(ids=ids), key=lambda run: run.id)
        write(store, records, format, output, **options)
        return output

    return write_them
