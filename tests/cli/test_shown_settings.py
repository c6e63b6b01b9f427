"""Which settings stand beside a run: what a search chose is shown wherever runs are listed, at any width."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from vrcli.db.store import Store

sys.path.insert(0, str(Path(__file__).parents[1]))
from terminals import lines

#: Settings of each optimizer; no other has those of vradam, and no run of it has others.
CHOSEN = {
    "adamw": {"lr": 0.0103, "weight_decay": 0.01},
    "vradam": {"lr": 0.0117, "beta3": 1.2686, "weight_decay": 0.01, "normgrad": False, "lr_cutoff": 21},
}
ABOUT = {"task": "cnn", "preset": "quick", "dataset": "digits", "dataset_fingerprint": "ab"}
VRADAM = "lr=0.0117 beta3=1.2686 normgrad=False lr_cutoff=21"

#: The same on a screen, where they have the digits that mean something.
ON_SCREEN = ("lr=0.0117", "beta3=1.27", "normgrad=False", "lr_cutoff=21")


@pytest.fixture
def tuned(tmp_path: Path) -> None:
    """A search of one trial for each optimizer, and two fresh seeds of what it chose; weight_decay was fixed."""
    with Store.open(tmp_path / "vr.db") as store:
        for optimizer, settings in CHOSEN.items():
            sweep = store.searches.create({**ABOUT, "optimizer": optimizer}, key=optimizer, trials=1)
            params = {name: value for name, value in settings.items() if name != "weight_decay"}
            trial = store.searches.start_trial(store.searches.add_trial(sweep.id, params).id)
            for seed in range(3):
                spec: dict[str, Any] = {**ABOUT, "optimizer": optimizer, "seed": seed, "device": "cpu", "threads": 1}
                spec |= {"task_settings": {}, "training": {"epochs": 2}, "optimizer_settings": settings}
                of_trial = trial.id if seed == 0 else None
                run = store.runs.begin(
                    spec, spec_id=f"{optimizer}{seed}", provenance={}, search_id=sweep.id, trial_id=of_trial
                )
                results = {"best_val_loss": 0.1 + seed / 7, "test_loss": 0.11 + seed / 7, "val_accuracy": 0.9}
                store.runs.finish(run.id, "completed", results={**results, "wall_s": 1.0})
            store.searches.finish_trial(trial.id, "completed", value=0.1)


@pytest.mark.parametrize("format", ["markdown", "text", "latex"])
def test_a_report_has_them_in_a_column(vr, tuned, format: str) -> None:
    done = vr("report", "--format", format)
    heading, *_ = (line for line in done.out.splitlines() if "optimizer" in line)
    assert "settings" in heading
    line = next(line for line in done.out.splitlines() if "vradam" in line)  # of the table: notes come after it
    assert VRADAM in line.replace("\\", "")
    assert "weight_decay" not in line
    assert "settings" not in done.err


def test_a_report_in_data_has_them(vr, tuned) -> None:
    by_csv = {row["optimizer"]: row for row in csv.DictReader(io.StringIO(vr("report", "--format", "csv").out))}
    assert by_csv["vradam"]["settings"] == VRADAM
    by_json = {row["optimizer"]: row for row in json.loads(vr("report", "--format", "json").out)["rows"]}
    assert by_json["vradam"]["shown"] == {"lr": 0.0117, "beta3": 1.2686, "normgrad": False, "lr_cutoff": 21}
    assert by_json["adamw"]["shown"] == {"lr": 0.0103}


def test_trials_and_what_confirms_them_have_them_in_the_list(vr, tuned) -> None:
    lines = [line for line in vr("runs", "list").out.splitlines() if "vradam" in line]
    assert len(lines) == 3
    assert all(VRADAM in line for line in lines)
    assert VRADAM in vr("runs", "list", "--opt", "vradam", "--limit", "1").out


def test_the_page_has_them(vr, tuned, tmp_path: Path) -> None:
    assert vr("report", "--output", "report.html").code == 0
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    found = re.findall(r'<td><span class="words">(.*?)</td>', html)
    texts = [" ".join(re.sub("<.*?>", " ", one).split()) for one in found]
    assert texts.count(VRADAM) == 1 + 1 + 3  # results, its sweep, its runs


@pytest.mark.parametrize("width", [50, *(pytest.param(w, marks=pytest.mark.slow) for w in (90, 110))])
def test_a_narrow_terminal_has_them_too(tuned, tmp_path: Path, width: int) -> None:
    listed = lines(tmp_path, "runs", "list", "--opt", "vradam", width=width)
    report = lines(tmp_path, "report", width=width)
    for word in ON_SCREEN:
        assert " ".join(listed).split().count(word) == 3
        assert " ".join(report).split().count(word) == 1
    assert max(map(len, listed + report)) <= width
