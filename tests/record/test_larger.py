"""Larger is better, for a loop of one's own and for a command: from the search to the verdict."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("inline")
#: Of two optimizers the first is better by far; a small learning rate is best.
SCRIPT = """
import json, random, sys

lr, best, noise = float(sys.argv[1]), {"high": 0.9, "low": 0.5}[sys.argv[2]], random.Random(sys.argv[3]).random() / 50
for step in range(1, 5):
    print(json.dumps({"step": step, "val_accuracy": best * (1 - lr) * step / 4 + noise}), flush=True)
print(json.dumps({"test_accuracy": best * (1 - lr) + noise}))
"""


def best_of(path: Path) -> list[tuple[float, list[float]]]:
    """The best value of each search, and those of its trials."""
    import vrcli

    with vrcli.load(path) as found:
        searches, trials = found.searches(), found.trials()
    own = {name: list(rows["value"].dropna()) for name, rows in trials.groupby("search_id")}
    return [(row.best_value, own[row.search_id]) for row in searches.itertuples()]


def told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.chdir(folder)
    (folder / "train.py").write_text(SCRIPT)
    return ("--command", f"{sys.executable} train.py {{lr}} {{opt}} {{seed}}", "--opt", "high", "--opt", "low",
            "--threads", "1", "--metric", "accuracy:max")  # fmt: skip


def test_commands_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vr: Callable[..., Any]) -> None:
    done = vr("compare", *told(tmp_path, monkeypatch), "--fix", "lr=0.1", "--seeds", "2", "--format", "json")
    assert done.code == 0, done.err
    body = json.loads(done.out)
    assert (body["metric"], body["comparisons"][0]["wins"]) == ("best_val_accuracy", 2)


@pytest.mark.slow
def test_a_command_is_searched_pruned_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vr: Callable[..., Any]
) -> None:
    words = (*told(tmp_path, monkeypatch), "--space", "lr=0.0:0.9")
    done = vr("sweep", *words, "--trials", "6", "--prune", "median", "--format", "json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["sweeps"][0]["statuses"]["completed"] > 0
    for best, values in best_of(tmp_path / "vr.db"):
        assert best == max(values)
    # The task of a command goes by its name.
    for shown in (vr("plot", "sweep", "train").out, vr("sweeps", "list").out):
        assert "train" in shown
        assert "vrcli.record" not in shown
    done = vr("compare", *words, "--trials", "2", "--searches", "3", "--seeds", "1", "--format", "json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["replicated"]["pairs"][0]["better"] == "high"


def test_a_loop_is_searched_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vr: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "plugins")
    words = ("compare", "looping:Gaining", "--opt", "adamw", "--opt", "sgd", "--threads", "1", "--trials", "2",
             "--searches", "2", "--seeds", "1")  # fmt: skip
    done = vr(*words, "--format", "json")
    assert done.code == 0, done.err
    body = json.loads(done.out)
    (pair,) = body["replicated"]["pairs"]
    sums = {name: sum(own["values"].values()) for name, own in body["optimizers"].items()}
    assert (pair["wins"] > pair["losses"]) == (sums[pair["a"]] > sums[pair["b"]])
    for best, values in best_of(tmp_path / "vr.db"):
        assert best == max(values)


def test_the_order_of_name_and_direction_is_said(vr: Callable[..., Any]) -> None:
    done = vr("run", "--command", "t {seed}", "--metric", "max:accuracy")
    assert done.code == 2
    assert "--metric max:accuracy: say which is better behind the name: --metric accuracy:max" in done.err
