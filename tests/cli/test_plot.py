"""`vr plot`: the numbers behind every figure against the store, its text, its files and what it refuses."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from db.store import Store
from vrcli.cli import plot_output

SUBCOMMANDS = ("curves", "envelope", "sweep", "sensitivity", "profile", "target", "telemetry")


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path)


@pytest.fixture
def seeds(stored: Callable[..., int]) -> list[int]:
    """Three seeds of two optimizers; one run of the second lost its last validation."""
    ids = [stored("adamw", seed=seed, loss=0.10 + 0.01 * seed) for seed in range(3)]
    ids += [stored("sgd", seed=seed, loss=0.20 + 0.02 * seed) for seed in range(2)]
    return [*ids, stored("sgd", seed=2, loss=0.3, status="diverged")]


@pytest.fixture
def searched(tmp_path: Path) -> pd.DataFrame:
    """Two searches of six trials with curves, one trial of each diverged and one failed; the trials as a frame."""
    rows: list[dict[str, Any]] = []
    with Store.open(tmp_path / "vr.db") as store:
        for optimizer, worse in (("adamw", 1.0), ("sgd", 2.0)):
            about = {"task": "cnn", "preset": "quick", "dataset": "digits", "dataset_fingerprint": "ab"}
            more = {"optimizer": optimizer, "epochs": 3, "seeds": [0], "search": "gp"}
            sweep = store.create_sweep({**about, **more}, key=optimizer, trials=6)
            for number in range(6):
                lr = 10.0 ** (number - 5)
                trial = store.add_trial(sweep.id, optimizer, {"lr": lr, "nesterov": number % 2 == 0})
                store.start_trial(trial.id)
                if number == 0:
                    store.finish_trial(trial.id, "failed", error="no memory")
                    continue
                lost = number == 5
                value = math.nan if lost else worse * (0.1 + (number - 3) ** 2)
                spec = {**about, "optimizer": optimizer, "seed": 0, "task_settings": {}, "training": {"epochs": 3},
                        "optimizer_settings": {"lr": lr, "nesterov": number % 2 == 0}, "device": "cpu"}  # fmt: skip
                run = store.begin_run(
                    spec, spec_id=f"{optimizer}{number}", provenance={}, sweep_id=sweep.id, trial_id=trial.id
                )
                y = [math.nan] * 3 if lost else [3 * value, 2 * value, value]
                points = {"val_loss": ([2, 4, 6], y), "epoch": ([2, 4, 6], [1.0, 2.0, 3.0])}
                store.add_points(run.id, points)
                store.finish_run(run.id, "diverged" if lost else "completed", results={"best_val_loss": value})
                store.finish_trial(trial.id, "diverged" if lost else "completed", value=value)
                rows.append({"optimizer": optimizer, "lr": lr, "value": value, "run": run.id})
            store.set_sweep_status(sweep.id, "completed")
    return pd.DataFrame(rows)


def stored_curves(path: Path, metric: str) -> dict[int, pd.Series]:
    with Store.open(path / "vr.db", mode="read") as store:
        found = store.curves([run.id for run in store.runs()], metric)
    return {run: pd.Series(list(curve.values), index=list(curve.steps)) for (run, _), curve in found.items()}


@pytest.mark.parametrize("band", ["sd", "ci", "minmax", "quantile"])
def test_envelope_numbers_equal_pandas(vr: Any, seeds: list[int], tmp_path: Path, band: str) -> None:
    done = vr("plot", "envelope", "--band", band, "--level", "0.9", "--data", "out.csv")
    assert (done.code, done.out) == (0, "")
    rows = read(tmp_path / "out.csv")
    for panel, metric in (("training loss", "train_loss"), ("validation loss", "val_loss")):
        for optimizer, ids in (("adamw", seeds[:3]), ("sgd", seeds[3:])):
            own = rows[(rows.panel == panel) & (rows.optimizer == optimizer)]
            curves = stored_curves(tmp_path, metric)
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
            assert own.lost.sum() == int(table.isna().sum().sum())
            assert set(own.runs) == {3}


def test_envelope_over_epochs_and_seconds(vr: Any, seeds: list[int], tmp_path: Path) -> None:
    assert vr("plot", "envelope", "--x", "epoch", "--data", "epoch.csv").code == 0
    rows = read(tmp_path / "epoch.csv")
    validation = rows[(rows.panel == "validation loss") & (rows.optimizer == "adamw")]
    assert validation.x.tolist() == [1, 2, 3, 4]
    training = rows[(rows.panel == "training loss") & (rows.optimizer == "adamw")]
    np.testing.assert_allclose(training.x, np.arange(1, 21) / 5)
    assert vr("plot", "envelope", "--x", "seconds", "--data", "seconds.csv", "--opt", "adamw").code == 0
    rows = read(tmp_path / "seconds.csv")
    validation = rows[(rows.panel == "validation loss") & (rows.n > 0)]
    curves = stored_curves(tmp_path, "val_loss")
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
        spec = {**store.run(first).spec, "dataset_fingerprint": "other-content"}
        run = store.begin_run(spec, spec_id="x", provenance={})
        store.add_points(run.id, {"val_loss": ([1, 2], [1.0, 0.5])})
        store.finish_run(run.id, "completed", results={"best_val_loss": 0.5})
    vr("plot", "envelope", "--data", "a.csv")
    assert set(read(tmp_path / "a.csv").section) == {
        "cnn · digits · quick · print-of",
        "cnn · digits · quick · other-co",
    }


def test_curves_are_the_stored_points(vr: Any, seeds: list[int], tmp_path: Path) -> None:
    vr("plot", "curves", "--metric", "val_loss", "--data", "a.csv")
    rows = read(tmp_path / "a.csv")
    for run, curve in stored_curves(tmp_path, "val_loss").items():
        own = rows[rows.run == run]
        assert own.x.tolist() == curve.index.tolist()
        np.testing.assert_array_equal(own.y, curve)
    assert vr("plot", "curves", seeds[0], seeds[3], "--metric", "loss", "--data", "b.csv").code == 0
    rows = read(tmp_path / "b.csv")
    assert set(rows.run) == {seeds[0], seeds[3]}
    assert set(rows.panel) == {"training loss", "validation loss"}
    with Store.open(tmp_path / "vr.db", mode="read") as store:
        name = store.run(seeds[1]).name
    assert name in vr("plot", "curves", name).out
    assert name in vr("plot", "curves", "--run", name).out
    assert vr("plot", "curves", seeds[0], "--opt", "sgd").code == 2


def test_long_curves_are_averaged_unless_every_step_is_asked_for(vr: Any, tmp_path: Path) -> None:
    y = np.random.default_rng(0).standard_normal(1000) + 5
    with Store.open(tmp_path / "vr.db") as store:
        spec = {"task": "cnn", "preset": "quick", "dataset": "d", "dataset_fingerprint": "f", "optimizer": "sgd",
                "seed": 0, "optimizer_settings": {"lr": 0.1}}  # fmt: skip
        run = store.begin_run(spec, spec_id="a", provenance={})
        store.add_points(run.id, {"train_loss": (range(1, 1001), y.tolist())})
        store.finish_run(run.id, "completed", results={"best_val_loss": 1.0})
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


def test_profile_equals_its_definition(vr: Any, stored: Callable[..., int], tmp_path: Path) -> None:
    losses = {"cnn": {"adamw": 1.0, "sgd": 2.0}, "transformer": {"adamw": 3.0, "sgd": 2.0}, "gflownet": {"adamw": 1.0}}
    for task, own in losses.items():
        for optimizer, loss in own.items():
            for seed in range(2):
                stored(optimizer, task=task, seed=seed, loss=loss)
    done = vr("plot", "profile", "--data", "a.csv")
    assert "gflownet" in done.err
    assert "no runs of sgd" in done.err
    rows = read(tmp_path / "a.csv")
    found = {name: list(zip(own.factor, own.share, strict=True)) for name, own in rows.groupby("optimizer")}
    assert found == {"adamw": [(1.0, 0.5), (1.5, 1.0)], "sgd": [(1.0, 0.5), (2.0, 1.0)]}


def test_a_run_that_diverged_fails_its_task_and_only_its_seed(vr: Any, seeds: list[int], tmp_path: Path) -> None:
    vr("plot", "profile", "--data", "a.csv")
    assert read(tmp_path / "a.csv").groupby("optimizer").share.max().to_dict() == {"adamw": 1.0, "sgd": 0.0}
    vr("plot", "profile", "--per-seed", "--data", "b.csv")
    rows = read(tmp_path / "b.csv")
    sgd = rows[rows.optimizer == "sgd"]
    np.testing.assert_allclose(sgd.factor, 2.0)
    assert sgd.share.max() == pytest.approx(2 / 3)


def test_target_shares_are_counted_from_the_curves(vr: Any, seeds: list[int], tmp_path: Path) -> None:
    vr("plot", "target", "--target", "0.13", "--data", "a.csv")
    rows = read(tmp_path / "a.csv")
    curves = stored_curves(tmp_path, "val_loss")
    for optimizer, ids in (("adamw", seeds[:3]), ("sgd", seeds[3:])):
        own = rows[rows.optimizer == optimizer]
        hits = [curves[run].index[curves[run] <= 0.13] for run in ids]
        assert set(own.reached) == {sum(len(hit) > 0 for hit in hits)}
        for x, share in zip(own.x[:-1], own.share[:-1], strict=True):
            last = own[own.x <= x].share.max()
            assert last == pytest.approx(np.mean([len(hit) > 0 and hit[0] <= x for hit in hits])), share


def test_a_target_that_nobody_reached_is_said_and_drawn(vr: Any, seeds: list[int], tmp_path: Path) -> None:
    done = vr("plot", "target", "--target", "0.0001", "-o", "a.png")
    assert done.code == 0
    assert "no run reached validation loss ≤ 0.0001; the best value is 0.1" in done.err
    assert (tmp_path / "a.png").stat().st_size > 5000
    default = vr("plot", "target", "--data", "b.csv")
    assert "half the runs" in default.err
    assert (read(tmp_path / "b.csv").groupby("optimizer").share.max() >= 0.5).all()


def test_sweep_numbers_are_the_trials(vr: Any, searched: pd.DataFrame, tmp_path: Path) -> None:
    done = vr("plot", "sweep", "--data", "a.csv")
    assert "2 trials failed" in done.err
    rows = read(tmp_path / "a.csv")
    for optimizer, trials in searched.groupby("optimizer"):
        own = rows[rows.optimizer == optimizer].groupby("trial").first()
        np.testing.assert_array_equal(own.outcome, trials.value)
        np.testing.assert_allclose(own.best_so_far, trials.value.cummin().ffill())
        points = rows[(rows.optimizer == optimizer) & (rows.trial == 1)]
        assert points.x.tolist() == [1, 2, 3]
        np.testing.assert_allclose(points.y, trials.value.iloc[0] * np.array([3, 2, 1]))
    vr("plot", "sweep", "1", "--kind", "settings", "--data", "b.csv")
    rows = read(tmp_path / "b.csv")
    assert set(rows.optimizer) == {"adamw"}
    assert set(rows.setting) == {"lr", "nesterov"}
    assert rows.diverged.sum() == 2
    assert vr("plot", "sweep", "--kind", "parallel", "--opt", "sgd", "-o", "c.pdf").code == 0


def test_sensitivity_is_the_median_at_each_learning_rate(
    vr: Any, searched: pd.DataFrame, stored: Callable[..., int], tmp_path: Path
) -> None:
    vr("plot", "sensitivity", "--data", "a.csv")
    rows = read(tmp_path / "a.csv").set_index(["optimizer", "lr"])
    for _, trial in searched.iterrows():
        row = rows.loc[(trial.optimizer, trial.lr)]
        assert row.n == 1
        assert row.diverged == int(math.isnan(trial.value))
        assert row["median"] == pytest.approx(trial.value, nan_ok=True)
    text = vr("plot", "sensitivity", "--tolerance", "20").out
    assert "decades" in text
    assert "2.0" in text.splitlines()[-1]  # 1e-3 to 0.1: within 20 times the best's 0.1 + (number - 3)^2
    vr("plot", "sensitivity", "--setting", "nesterov")


def test_plain_runs_with_several_learning_rates_show_sensitivity(
    vr: Any, stored: Callable[..., int], tmp_path: Path
) -> None:
    for lr, losses in ((0.001, (0.5, 0.7)), (0.01, (0.1, 0.3)), (0.1, (0.9, 1.3))):
        for seed, loss in enumerate(losses):
            stored("adamw", seed=seed, loss=loss, lr=lr)
    vr("plot", "sensitivity", "--data", "a.csv")
    rows = read(tmp_path / "a.csv")
    assert rows.lr.tolist() == [0.001, 0.01, 0.1]
    np.testing.assert_allclose(rows["median"], [0.6, 0.2, 1.1])
    assert rows.stable.tolist() == [False, True, False]


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_figure_has_a_text(vr: Any, searched: pd.DataFrame, name: str) -> None:
    done = vr("plot", name)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert any("┤" in line for line in lines)
    assert any("adamw" in line and "sgd" in line for line in lines)
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in done.out


def test_text_of_settings_and_parallel(vr: Any, searched: pd.DataFrame) -> None:
    text = vr("plot", "sweep", "--kind", "settings").out
    row = next(line.split() for line in text.splitlines() if line.split()[:3] == ["adamw", "nesterov", "T"])
    assert row[3:5] == ["2", "0"]
    best = vr("plot", "sweep", "--kind", "parallel", "--opt", "adamw").out.splitlines()[2].split()
    assert best[1] == "0.1000"
    assert "lr=0.01" in best


def test_text_of_an_envelope_states_n_and_the_last_mean(vr: Any, seeds: list[int]) -> None:
    out = vr("plot", "envelope", "--metric", "val_loss").out
    row = next(line.split() for line in out.splitlines() if line.startswith("adamw"))
    assert row[1:4] == ["3", "3", "0"]
    assert row[4] == row[6] == "0.1100"
    sgd = next(line.split() for line in out.splitlines() if line.startswith("sgd"))
    assert sgd[1:4] == ["3", "2", "1"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_figures_are_written_by_their_ending(vr: Any, seeds: list[int], tmp_path: Path, suffix: str) -> None:
    done = vr("plot", "envelope", "-o", f"a{suffix}", "--data", "a.csv")
    assert done.out == ""
    assert f"wrote a{suffix}" in done.err
    head = (tmp_path / f"a{suffix}").read_bytes()[:200]
    assert {".png": b"PNG", ".svg": b"<svg", ".pdf": b"%PDF"}[suffix] in head or suffix == ".svg"
    assert list(csv.DictReader((tmp_path / "a.csv").open()))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["envelope", "--metric", "val_los"], "did you mean val_loss"),
        (["envelope", "--metric", "zzz"], "they have train_loss"),
        (["envelope", "-o", "a.gif"], ".png, .svg or .pdf"),
        (["envelope", "--data", "a.txt"], ".csv"),
        (["envelope", "-o", "missing/a.png"], "there is no folder missing"),
        (["envelope", "--data", "missing/a.csv"], "--data missing/a.csv: there is no folder"),
        (["envelope", "--band", "quantil"], "did you mean quantile"),
        (["envelope", "--x", "time"], "step, epoch, seconds"),
        (["envelope", "--level", "95"], "between 0 and 1"),
        (["envelope", "--opt", "adam"], "did you mean adamw"),
        (["envelope", "--where", "lr>5"], "none of the 6 stored runs matches"),
        (["curves", "77"], "no run 77"),
        (["curves", "nice-nobody"], "no run nice-nobody"),
        (["sweep", "--kind", "trial"], "did you mean trials"),
        (["sweep", "9"], "no sweep 9"),
        (["sensitivity", "--setting", "lrr"], "did you mean lr"),
        (["sensitivity", "--setting", "precision"], "is not a number"),
        (["sensitivity", "--tolerance", "0"], "--tolerance must be > 0"),
        (["profile", "--metric", "val_accuracy"], "less is better"),
        (["profile", "--metric", "zzz"], "no result"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    vr: Any, seeds: list[int], tmp_path: Path, words: list[str], expected: str
) -> None:
    before = set(tmp_path.iterdir())
    done = vr("plot", *words)
    assert done.code == 2
    assert done.out == ""
    line = done.err.splitlines()[-1]
    assert line.startswith("vr: ")
    assert expected in line
    assert {path.name for path in set(tmp_path.iterdir()) - before} <= {"vr.db-wal", "vr.db-shm"}


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_an_empty_database_is_one_helpful_line(vr: Any, tmp_path: Path, name: str) -> None:
    Store.open(tmp_path / "vr.db").close()
    done = vr("plot", name, "-o", "a.png")
    assert (done.code, done.out) == (0, "")
    assert "start with: vr" in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "a.png").exists()


def test_a_window_or_viewer_that_does_not_open_is_one_line(
    vr: Any, seeds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plot_output, "has_display", lambda: False)
    done = vr("plot", "envelope", "--show")
    assert done.code == 0
    assert done.err.count("\n") == 1
    path = Path(done.err.split("the figure is in ")[1].split()[0])
    assert path.read_bytes().startswith(b"\x89PNG")
    path.unlink()


def test_show_falls_back_on_the_viewer(vr: Any, seeds: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(plot_output, "has_display", lambda: True)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr("typer.launch", lambda path: opened.append(path) or 0)
    assert vr("plot", "profile", "--show").code == 0
    (path,) = opened
    assert Path(path).read_bytes().startswith(b"\x89PNG")
    Path(path).unlink()
