"""The HTML page from a database: what it gathers, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vrcli.cli.report import page_source
from vrcli.db.store import Store
from vrcli.report.page.data import page_of
from vrcli.report.page.render import render_page
from vrcli.results.reading import Reading


def written(path: Path, **options: Any) -> str:
    """The page of every run in vr.db beside it."""
    with Store.open(path / "vr.db", mode="read") as store:
        return render_page(page_of(page_source(store, Reading.of(store, store.runs.select()), **options)))


def embedded(html: str, id: str) -> Any:
    return json.loads(re.search(rf'<script type="application/json" id="{id}">(.*?)</script', html, re.S)[1])


def test_every_run_stands_on_the_page_with_its_command_and_curves(stored: Callable[..., int], tmp_path: Path):
    ids = [stored("adamw", seed=seed, loss=0.1 + 0.01 * seed) for seed in range(3)]
    ids += [stored("sgd", seed=seed, loss=0.3 + 0.02 * seed) for seed in range(3)]
    ids.append(stored("sgd", seed=3, status="diverged", lr=9.0))
    html = written(tmp_path, words="vr report --format html --output report.html")
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
    results = re.search(r'<section id="section-0".*?</table>', written(tmp_path, metric=["wall_s", "test_loss"]), re.S)[
        0
    ]
    heads = re.findall(r'class="sort">(.*?)<', results)
    assert heads[2:4] == ["s/run", "test loss"]


def test_sweeps_come_with_the_trials_of_the_optimizers_asked_for(tmp_path: Path):
    with Store.open(tmp_path / "vr.db") as store:
        definition = {"task": "cnn", "preset": "quick", "dataset": "digits", "dataset_fingerprint": "f"}
        sweep = store.searches.create(definition, key="k", trials=3)
        for lr, state, value in ((0.1, "completed", 0.5), (0.01, "completed", 0.2), (9.0, "diverged", float("nan"))):
            trial = store.searches.start_trial(store.searches.add_trial(sweep.id, {"lr": lr}).id)
            spec = {**definition, "optimizer": "sgd", "seed": 0, "device": "cpu", "threads": 1}
            spec |= {"task_settings": {}, "training": {"epochs": 2}, "optimizer_settings": {"lr": lr}}
            run = store.runs.begin(spec, spec_id=str(lr), provenance={}, trial_id=trial.id)
            store.runs.finish(run.id, state, results={"best_val_loss": value} if state == "completed" else {})
            store.searches.finish_trial(trial.id, state, value=value)
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        source = page_source(store, Reading.of(store, store.runs.select()))
    (search,) = source.searches
    assert [(t.number, t.params, t.state) for t in search.trials] == [
        (1, {"lr": 0.1}, "completed"), (2, {"lr": 0.01}, "completed"), (3, {"lr": 9.0}, "diverged"),
    ]  # fmt: skip
    assert list(source.selection.trials.values()) == [3]
    html = written(tmp_path)
    assert "1/3 (33 %)" in html
    assert embedded(html, "section-0-sweeps")["searches"][0]["best"] == [0.5, 0.2, 0.2]


def test_a_place_that_cannot_be_written_is_refused(vr: Callable[..., Any], stored: Callable[..., int], tmp_path: Path):
    stored("adamw")
    done = vr("report", "--output", "nowhere/report.html")
    assert (done.code, done.out) == (2, "")
    assert "there is no folder" in done.err
    done = vr("report", "--format", "html", "--output", "vr.db")
    assert done.code == 2
    assert "is the database that" in done.err
    assert not (tmp_path / "nowhere").exists()


def test_a_page_without_finished_runs_is_a_page(stored: Callable[..., int], tmp_path: Path):
    stored("adamw", status="failed")
    html = written(tmp_path)
    assert "1 run still running, failed or interrupted" in html
    assert '<h2 id="runs-title">' in html


def test_the_command_writes_the_page(vr: Callable[..., Any], stored: Callable[..., int], tmp_path: Path):
    stored("adamw")
    done = vr("report", "--format", "html", "--output", "report.html")
    assert (done.code, done.out, done.err[:36]) == (0, "", "wrote report.html: 1 run on one page"), done.err
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "vr report --format html --output report.html" in html


def test_the_best_settings_come_with_a_command_that_takes_a_fresh_seed(tmp_path: Path):
    """The search's own seed would repeat its luck bit for bit; and whole settings stay whole."""
    from vrcli.search.definition import Definition

    definition = Definition(
        task="cnn", preset="quick", optimizer="vradam", explicit={"epochs": 2}, settings={}, space={}, origins={},
        seeds=(0, 3), device="cpu", search="gp", initial=5, search_seed=0, prune="none", epochs=2, dataset="digits",
        dataset_fingerprint="f",
    ).plain()  # fmt: skip
    with Store.open(tmp_path / "vr.db") as store:
        sweep = store.searches.create(definition, key="k", trials=1)
        params = {"lr": 0.01, "lr_cutoff": 29, "normgrad": True}
        trial = store.searches.start_trial(store.searches.add_trial(sweep.id, params).id)
        spec = {"task": "cnn", "preset": "quick", "dataset": "digits", "dataset_fingerprint": "f", "seed": 0,
                "optimizer": "vradam", "optimizer_settings": {**params, "lr_cutoff": 29.0}}  # fmt: skip
        run = store.runs.begin(spec, spec_id="x", provenance={}, trial_id=trial.id)
        store.runs.finish(run.id, "completed", results={"best_val_loss": 0.1})
        store.searches.finish_trial(trial.id, "completed", value=0.1)
    (commands,) = re.findall(r'<ul class="commands">(.*?)</ul>', written(tmp_path), re.S)
    assert re.findall(r"<code>(.*?)</code>", commands) == [
        "vr run cnn --opt vradam --seed 4 --epochs 2 --lr 0.01 --lr-cutoff 29 --normgrad"
    ]


def test_the_page_has_the_colours_of_the_figures(stored: Callable[..., int], tmp_path: Path):
    from vrcli.report.figures.style import Series, style_of

    for optimizer, lr in (("adamw", 0.1), ("adamw", 0.2), ("vradam", 0.1), ("sgd", 0.1)):
        for seed in range(2):
            stored(optimizer, lr=lr, seed=seed, loss=lr)
        if optimizer != "sgd":
            stored(optimizer, lr=lr, task="diffusion", loss=lr)
    html = written(tmp_path)
    lines = embedded(html, "palette")["lines"]
    keys = re.findall(r'data-colour="(\d+)" title="(.*?)"', html)
    assert len(keys) == 7
    first: dict[str, str] = {}
    for place, name in keys:
        first.setdefault(name, lines[int(place)]["light"])
    names = [Series(name, name) for name in ("adamw", "vradam", "sgd")]
    assert first == {series.optimizer: style["color"] for series, style in style_of(names).items()}
    for section in html.split('<section id="section-')[1:]:
        own = re.findall(r'data-colour="(\d+)"', section)
        assert len(set(own)) == len(own)


def test_notes_of_comparisons_are_sentences(stored: Callable[..., int], tmp_path: Path):
    for optimizer, lr in (("adamw", 0.1), ("adamw", 0.2), ("sgd", 0.1)):
        for seed in range(3):
            stored(optimizer, lr=lr, seed=seed, loss=lr + 0.01 * seed)
    (notes,) = re.findall(r'<ul class="notes">\s*(<li>p \(Holm\).*?)</ul>', written(tmp_path), re.S)
    found = re.findall("<li>(.*?)</li>", notes)
    assert found[0] == "p (Holm) is corrected for 1 comparison; the interval is not."
    assert found[1].startswith("Of an optimizer with several settings")
    assert all(note.endswith(".") for note in found)
