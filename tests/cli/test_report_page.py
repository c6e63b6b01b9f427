"""The HTML page from a database: what it gathers, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db.store import Store
from vrcli.cli.report_page import source_of, write_page
from vrcli.errors import UsageError


def written(path: Path, **options: Any) -> str:
    """The page of every run in vr.db beside it."""
    with Store.open(path / "vr.db", mode="read") as store:
        write_page(store, store.runs(), path / "report.html", **options)
    return (path / "report.html").read_text(encoding="utf-8")


def embedded(html: str, id: str) -> Any:
    return json.loads(re.search(rf'<script type="application/json" id="{id}">(.*?)</script', html, re.S)[1])


def test_every_run_stands_on_the_page_with_its_command_and_curves(stored: Callable[..., int], tmp_path: Path):
    ids = [stored("adamw", seed=seed, loss=0.1 + 0.01 * seed) for seed in range(3)]
    ids += [stored("sgd", seed=seed, loss=0.3 + 0.01 * seed) for seed in range(3)]
    ids.append(stored("sgd", seed=3, status="diverged", lr=9.0))
    html = written(tmp_path, command="vr report --format html --output report.html")
    details = embedded(html, "details")
    assert sorted(map(int, details)) == sorted(ids)
    assert all(run["command"].startswith("vr run cnn --opt ") for run in details.values())
    assert all([c["title"] for c in run["curves"]][1] == "validation loss" for run in details.values())
    series = embedded(html, "section-0-curves")["series"]
    assert len(series) == 3
    assert series[0]["val_loss"]["c"] == pytest.approx([0.11 * (2 - e / 4) for e in (1, 2, 3)] + [0.11], rel=1e-4)
    assert "adamw is better than sgd" in html
    assert "vr report --format html --output report.html" in html


def test_passwords_that_older_versions_recorded_are_not_shown(stored: Callable[..., int], tmp_path: Path):
    run = stored("adamw", provenance={"argv": ["vr", "run", "cnn", "--db", "postgresql://user:SECRET@host/db"]})
    html = written(tmp_path)
    assert "SECRET" not in html
    assert embedded(html, "details")[str(run)]["provenance"]["argv"][-1] == "postgresql://user:***@host/db"


def test_tasks_and_data_are_never_merged(stored: Callable[..., int], tmp_path: Path):
    for task, dataset in (("cnn", "digits"), ("cnn", "mnist"), ("diffusion", "digits")):
        stored("adamw", task=task, dataset=dataset)
    html = written(tmp_path)
    assert [re.sub(r"<.*?>", "", h) for h in re.findall(r'<h2 id="section-\d+-title">(.*?)</h2>', html)] == [
        "cnn digits · quick", "cnn mnist · quick", "diffusion digits · quick",
    ]  # fmt: skip


def test_asked_results_are_the_columns(stored: Callable[..., int], tmp_path: Path):
    stored("adamw")
    results = re.search(
        r'<section id="section-0".*?</table>', written(tmp_path, metrics=["wall_s", "test_loss"]), re.S
    )[0]
    heads = re.findall(r'class="sort">(.*?)<', results)
    assert heads[1:3] == ["s/run", "test loss"]


def test_sweeps_come_with_the_trials_of_the_optimizers_asked_for(tmp_path: Path):
    with Store.open(tmp_path / "vr.db") as store:
        definition = {"task": "cnn", "preset": "quick", "dataset": "digits", "dataset_fingerprint": "f"}
        sweep = store.create_sweep(definition, key="k", trials=3)
        for lr, state, value in ((0.1, "completed", 0.5), (0.01, "completed", 0.2), (9.0, "diverged", float("nan"))):
            trial = store.start_trial(store.add_trial(sweep.id, "sgd", {"lr": lr}).id)
            spec = {**definition, "optimizer": "sgd", "seed": 0, "device": "cpu", "threads": 1}
            spec |= {"task_settings": {}, "training": {"epochs": 2}, "optimizer_settings": {"lr": lr}}
            run = store.begin_run(spec, spec_id=str(lr), provenance={}, sweep_id=sweep.id, trial_id=trial.id)
            store.finish_run(run.id, state, results={"best_val_loss": value} if state == "completed" else {})
            store.finish_trial(trial.id, state, value=value)
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        source = source_of(store, store.runs(), metrics=(), command="")
    (search,) = source.searches
    assert [(t.number, t.params, t.state) for t in search.trials] == [
        (1, {"lr": 0.1}, "completed"), (2, {"lr": 0.01}, "completed"), (3, {"lr": 9.0}, "diverged"),
    ]  # fmt: skip
    assert list(source.selection.trials.values()) == [3]
    html = written(tmp_path)
    assert "1/3 (33 %)" in html
    assert embedded(html, "section-0-sweeps")["searches"][0]["best"] == [0.5, 0.2, 0.2]


def test_a_place_that_cannot_be_written_is_refused_before_any_work(stored: Callable[..., int], tmp_path: Path):
    stored("adamw")
    with Store.open(tmp_path / "vr.db", mode="read") as store, pytest.raises(UsageError, match="there is no folder"):
        write_page(store, store.runs(), tmp_path / "nowhere" / "report.html")
    with Store.open(tmp_path / "vr.db", mode="read") as store, pytest.raises(UsageError, match="is the database that"):
        write_page(store, store.runs(), tmp_path / "vr.db")
    assert not (tmp_path / "nowhere").exists()


def test_a_page_without_finished_runs_is_a_page(stored: Callable[..., int], tmp_path: Path):
    stored("adamw", status="failed")
    html = written(tmp_path)
    assert "1 run still running, failed or interrupted" in html
    assert '<h2 id="runs-title">' in html


def test_the_command_writes_the_page(vr: Callable[..., Any], stored: Callable[..., int], tmp_path: Path):
    stored("adamw")
    done = vr("report", "--format", "html", "--output", "report.html")
    assert (done.code, done.out[:29]) == (0, "report.html: 1 run on one pag"), done.err
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "vr report --format html --output report.html" in html
