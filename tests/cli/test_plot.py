"""`vr plot`: the curves and envelopes against the store."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vrcli.db.curves import Curves
from vrcli.db.store import Store


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path)


@pytest.mark.parametrize("band", ["sd", "ci", "minmax", "quantile"])
def test_envelope_numbers_equal_pandas(
    vr: Any, seeds: list[int], stored_curves: Callable[..., Any], tmp_path: Path, band: str
) -> None:
    level = ["--level", "0.9"] if band in ("ci", "quantile") else []
    done = vr("plot", "envelope", "--band", band, *level, "--data", "out.csv")
    assert (done.code, done.out) == (0, "")
    rows = read(tmp_path / "out.csv")
    for panel, metric in (("training loss", "train_loss"), ("validation loss", "val_loss")):
        for optimizer, ids in (("adamw", seeds[:3]), ("sgd", seeds[3:])):
            own = rows[(rows.panel == panel) & (rows.optimizer == optimizer)]
            curves = stored_curves(metric)
            table = pd.DataFrame({run: curves[run] for run in ids})
            n, sd = table.count(axis=1), table.std(axis=1)
            centre = table.median(axis=1) if band == "quantile" else table.mean(axis=1)
            from scipy import stats

            high = {
                "sd": centre + sd,
                "ci": centre + sd / np.sqrt(n) * stats.t.ppf(0.95, n - 1),
                "minmax": table.max(axis=1),
                "quantile": table.quantile(0.95, axis=1),
            }[band]
            assert own.x.tolist() == table.index.tolist()
            assert own.n.tolist() == n.tolist()
            np.testing.assert_allclose(own.centre, centre)
            np.testing.assert_allclose(own.high, high)
            assert own.nonfinite.sum() == int(table.isna().sum().sum())
            assert set(own.runs) == {3}


def test_envelope_over_epochs_and_seconds(
    vr: Any, seeds: list[int], stored_curves: Callable[..., Any], tmp_path: Path
) -> None:
    assert vr("plot", "envelope", "--x", "epoch", "--data", "epoch.csv").code == 0
    rows = read(tmp_path / "epoch.csv")
    validation = rows[(rows.panel == "validation loss") & (rows.optimizer == "adamw")]
    assert validation.x.tolist() == [1, 2, 3, 4]
    training = rows[(rows.panel == "training loss") & (rows.optimizer == "adamw")]
    np.testing.assert_allclose(training.x, np.arange(1, 21) / 5)
    assert vr("plot", "envelope", "--x", "seconds", "--data", "seconds.csv", "--opt", "adamw").code == 0
    rows = read(tmp_path / "seconds.csv")
    validation = rows[(rows.panel == "validation loss") & (rows.n > 0)]
    curves = stored_curves("val_loss")
    mean = np.mean([curves[run] for run in seeds[:3]], axis=0)
    np.testing.assert_allclose(validation.centre, np.interp(validation.x, [0.5, 1.0, 1.5, 2.0], mean))


def test_each_optimizer_stands_with_its_best_settings_unless_all_are_asked_for(
    vr: Any, stored: Callable[..., int], tmp_path: Path
) -> None:
    for lr, loss in ((0.1, 0.5), (0.01, 0.2), (0.001, 0.9)):
        for seed in range(2):
            stored("adamw", seed=seed, loss=loss + 0.01 * seed, lr=lr)
    best = vr("plot", "envelope", "--data", "best.csv")
    assert "--all" in best.err
    rows = read(tmp_path / "best.csv")
    assert set(rows.optimizer) == {"adamw"}
    assert rows[rows.panel == "validation loss"].centre.min() == pytest.approx(0.205)
    vr("plot", "envelope", "--all", "--data", "all.csv")
    rows = read(tmp_path / "all.csv")
    assert set(rows.optimizer) == {"adamw lr=0.1", "adamw lr=0.01", "adamw lr=0.001"}
    assert set(rows.runs) == {2}


def test_tasks_have_a_row_each_and_too_many_are_refused(vr: Any, stored: Callable[..., int], tmp_path: Path) -> None:
    for task in ("cnn", "transformer"):
        stored("adamw", task=task, loss=1.0 if task == "cnn" else 5.0)
    vr("plot", "envelope", "-o", "a.svg", "--data", "a.csv")
    rows = read(tmp_path / "a.csv")
    assert set(rows.section) == {"cnn · digits · quick", "transformer · digits · quick"}
    assert (rows[rows.section.str.startswith("cnn")].centre < 4).all()
    refused = vr("plot", "telemetry")
    assert refused.code == 2
    assert "2 tasks, data sets or presets" in refused.err
    for dataset in "abcdefg":
        stored("adamw", dataset=dataset)
    refused = vr("plot", "envelope")
    assert refused.code == 2
    assert "--where dataset=NAME" in refused.err
    assert refused.err.count("\n") == 1


def test_data_sets_that_differ_only_in_content_are_told_apart(
    vr: Any, stored: Callable[..., int], tmp_path: Path
) -> None:
    first = stored("adamw")
    with Store.open(tmp_path / "vr.db") as store:
        spec = {**store.runs.get(first).spec, "dataset_fingerprint": "other-content"}
        run = store.runs.begin(spec, spec_id="x", provenance={})
        store.curves.add(run.id, {"val_loss": ([1, 2], [1.0, 0.5])})
        store.runs.finish(run.id, "completed", results={"best_val_loss": 0.5})
    vr("plot", "envelope", "--data", "a.csv")
    assert set(read(tmp_path / "a.csv").section) == {
        "cnn · digits#print- · quick",
        "cnn · digits#other- · quick",
    }


def test_curves_are_the_stored_points(
    vr: Any, seeds: list[int], stored_curves: Callable[..., Any], tmp_path: Path
) -> None:
    vr("plot", "curves", "--metric", "val_loss", "--data", "a.csv")
    rows = read(tmp_path / "a.csv")
    for run, curve in stored_curves("val_loss").items():
        own = rows[rows.run == run]
        assert own.x.tolist() == curve.index.tolist()
        np.testing.assert_array_equal(own.y, curve)
    assert vr("plot", "curves", seeds[0], seeds[3], "--metric", "loss", "--data", "b.csv").code == 0
    rows = read(tmp_path / "b.csv")
    assert set(rows.run) == {seeds[0], seeds[3]}
    assert set(rows.panel) == {"training loss", "validation loss"}
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        name = store.runs.get(seeds[1]).name
    assert name in vr("plot", "curves", name).out
    assert name in vr("plot", "curves", "--run", name).out
    assert vr("plot", "curves", seeds[0], "--opt", "sgd").code == 2


def test_long_curves_are_averaged_unless_every_step_is_asked_for(vr: Any, tmp_path: Path) -> None:
    y = np.random.default_rng(0).standard_normal(1000) + 5
    with Store.open(tmp_path / "vr.db") as store:
        spec = {"task": "cnn", "preset": "quick", "dataset": "d", "dataset_fingerprint": "f", "optimizer": "sgd",
                "seed": 0, "optimizer_settings": {"lr": 0.1}}  # fmt: skip
        run = store.runs.begin(spec, spec_id="a", provenance={})
        store.curves.add(run.id, {"train_loss": (range(1, 1001), y.tolist())})
        store.runs.finish(run.id, "completed", results={"best_val_loss": 1.0})
    vr("plot", "envelope", "--data", "a.csv")
    rows = read(tmp_path / "a.csv")
    assert len(rows) == 100
    np.testing.assert_allclose(rows.centre, y.reshape(100, 10).mean(axis=1))
    vr("plot", "envelope", "--every-step", "--data", "b.csv")
    np.testing.assert_allclose(read(tmp_path / "b.csv").centre, y)


def test_telemetry_draws_what_was_recorded_and_names_what_was_not(vr: Any, seeds: list[int], tmp_path: Path) -> None:
    done = vr("plot", "telemetry", "--data", "a.csv")
    assert "velocity norm, gate" in done.err
    rows = read(tmp_path / "a.csv")
    assert list(dict.fromkeys(rows.panel)) == ["training loss", "effective learning rate"]
    rate = rows[(rows.panel == "effective learning rate") & (rows.optimizer == "adamw")]
    np.testing.assert_allclose(rate.centre, 0.01 / np.arange(1, 21))


def test_text_of_an_envelope_states_n_and_the_last_mean(vr: Any, seeds: list[int]) -> None:
    out = vr("plot", "envelope", "--metric", "val_loss").out
    row = next(line.split() for line in out.splitlines() if line.startswith("adamw"))
    assert row[1:4] == ["3", "3", "0"]
    assert row[4] == row[6] == "0.1100"
    sgd = next(line.split() for line in out.splitlines() if line.startswith("sgd"))
    assert sgd[1:4] == ["3", "2", "1"]


def test_the_best_settings_are_those_of_the_report(vr: Any, stored: Callable[..., int], tmp_path: Path) -> None:
    for seed in range(2):
        stored("adamw", seed=seed, loss=0.3, lr=0.02)
    plain = stored("adamw", seed=2, loss=0.9)
    with Store.open(tmp_path / "vr.db") as store:
        spec = dict(store.runs.get(plain).spec)
        about = {key: spec[key] for key in ("task", "preset", "dataset", "dataset_fingerprint", "optimizer")}
        sweep = store.searches.create({**about, "epochs": 4, "seeds": [0], "search": "gp"}, key="a", trials=3)
        for number in range(3):
            trial = store.searches.add_trial(sweep.id, {"lr": 0.01})
            store.searches.start_trial(trial.id)
            store.searches.finish_trial(trial.id, "pruned" if number else "completed", value=0.1)
        # The same settings as the plain run, but three trials were spent on finding them.
        run = store.runs.begin({**spec, "seed": 3}, spec_id="b", provenance={}, search_id=sweep.id)
        store.curves.add(run.id, {"val_loss": ([5, 10], [0.2, 0.1])})
        store.runs.finish(run.id, "completed", results={"best_val_loss": 0.1})
    (row,) = json.loads(vr("report", "--best", "--format", "json").out)["rows"]
    assert (row["n"], row["seeds"]) == (1, [3])
    done = vr("plot", "envelope", "--metric", "val_loss", "--data", "a.csv")
    assert "only the best settings of each optimizer" in done.err
    rows = read(tmp_path / "a.csv")
    assert (rows.x.tolist(), rows.centre.tolist(), set(rows.runs)) == ([5, 10], [0.2, 0.1], {1})


def test_too_many_configurations_are_refused(vr: Any, stored: Callable[..., int]) -> None:
    for place in range(13):
        stored("adamw", lr=0.01 * (place + 1))
    done = vr("plot", "envelope", "--all")
    assert done.code == 2
    assert "--all: cnn · digits · quick has 13 configurations and a panel takes 12" in done.err
    assert vr("plot", "envelope", "--all", "--where", "lr<0.125").code == 0


def test_runs_without_such_curves_are_said(vr: Any, stored: Callable[..., int], tmp_path: Path) -> None:
    with Store.open(tmp_path / "vr.db") as store:
        spec = {"task": "cnn", "preset": "quick", "dataset": "d", "dataset_fingerprint": "f", "optimizer": "sgd",
                "seed": 0, "optimizer_settings": {"lr": 9.0}}  # fmt: skip
        run = store.runs.begin(spec, spec_id="a", provenance={})
        store.curves.add(run.id, {"train_loss": ([1, 2], [1.0, math.nan])})
        store.runs.finish(run.id, "diverged", results={})
    done = vr("plot", "target", "-o", "a.png")
    assert (done.code, done.out) == (0, "")
    assert done.err == "note: these runs have no such curves\n"
    assert not (tmp_path / "a.png").exists()
    for name in ("curves", "envelope", "telemetry"):
        done = vr("plot", name, "--x", "seconds")
        assert (done.code, done.out) == (0, "")
        assert done.err == "note: these runs have no such curves over seconds\n"


@pytest.mark.parametrize("name", ["curves", "envelope", "telemetry", "target"])
def test_seconds_of_different_machines_are_said(vr: Any, stored: Callable[..., int], name: str) -> None:
    for seed, cpu in enumerate(("one", "another")):
        stored("adamw", seed=seed, provenance={"cpu": cpu})
    said = "times come from different machines"
    assert said in vr("plot", name, "--x", "seconds").err
    assert said not in vr("plot", name, "--x", "epoch").err


def test_the_text_of_an_accuracy_quotes_its_highest(vr: Any, seeds: list[int]) -> None:
    out = vr("plot", "envelope", "--metric", "val_accuracy", "--metric", "val_loss", "--opt", "adamw").out
    accuracy, loss = [line.split() for line in out.splitlines() if line.startswith("adamw")]
    assert accuracy[4] == "0.8900"
    assert loss[4] == "0.1100"
    assert (out.count("highest"), out.count("lowest")) == (1, 1)


def test_every_run_that_ended_as_diverged_counts_as_lost(vr: Any, tmp_path: Path) -> None:
    """Whether its loss stayed finite, ceased to be so, or was lost before the first validation."""
    ends = {"finite": [1.0, 2.0, 9e9], "lost": [1.0, 2.0, float("nan")], "early": [1.0]}
    with Store.open(tmp_path / "vr.db") as store:
        for seed, (name, losses) in enumerate(ends.items()):
            spec = {"task": "cnn", "preset": "quick", "dataset": "d", "dataset_fingerprint": "f", "optimizer": "sgd",
                    "seed": seed, "optimizer_settings": {"lr": 9.0}}  # fmt: skip
            run = store.runs.begin(spec, spec_id=name, provenance={})
            points = {"train_loss": (list(range(1, len(losses) + 1)), losses)}
            if name != "early":
                points["val_loss"] = ([2], [3.0])
            store.curves.add(run.id, points)
            store.runs.finish(run.id, "diverged", results={})
    for words in (["envelope"], ["curves"], ["telemetry", "--metric", "train_loss"]):
        assert vr("plot", *words, "-o", "a.svg").code == 0
        assert "sgd (n = 3, 3 diverged)" in (tmp_path / "a.svg").read_text(), words
    text = vr("plot", "envelope", "--metric", "val_loss").out
    assert "sgd (n = 3, 3 diverged)" in text
    vr("plot", "envelope", "--metric", "val_loss", "--data", "a.csv")
    (row,) = pd.read_csv(tmp_path / "a.csv").to_dict("records")
    assert (row["runs"], row["n"], row["diverged"]) == (3, 2, 3)


def test_an_optimizer_of_which_nothing_was_measured_stands_in_the_legend(
    vr: Any, seeds: list[int], tmp_path: Path
) -> None:
    with Store.open(tmp_path / "vr.db") as store:
        spec = {**store.runs.get(str(seeds[0])).spec, "optimizer": "muon"}
        run = store.runs.begin(spec, spec_id="x", provenance={})
        store.curves.add(run.id, {"train_loss": ([1], [float("inf")])})
        store.runs.finish(run.id, "diverged", results={})
    done = vr("plot", "envelope", "--metric", "val_loss", "-o", "a.svg")
    assert "1 run of muon diverged before the first point of validation loss" in done.err
    assert "muon (n = 1, 1 diverged)" in (tmp_path / "a.svg").read_text()


def test_names_of_curves_are_read_once_for_all_runs(vr: Any, seeds: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    read = Curves.metrics
    monkeypatch.setattr(Curves, "metrics", lambda self, ids: asked.append(ids) or read(self, ids))
    assert vr("plot", "curves").code == 0
    assert [sorted(ids) for ids in asked] == [sorted(seeds)]
