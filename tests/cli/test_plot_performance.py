"""`vr plot profile` and `target`: their numbers against their definitions, and whom they leave out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vrcli.db.store import Store


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path)


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


def test_target_shares_are_counted_from_the_curves(
    vr: Any, seeds: list[int], stored_curves: Callable[..., Any], tmp_path: Path
) -> None:
    vr("plot", "target", "--target", "0.13", "--data", "a.csv")
    rows = read(tmp_path / "a.csv")
    curves = stored_curves("val_loss")
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


def test_a_run_that_lacks_the_result_is_left_out_and_has_not_diverged(
    vr: Any, stored: Callable[..., int], tmp_path: Path
) -> None:
    for seed, result in enumerate(({"test_perplexity": 2.0}, {})):
        stored("adamw", seed=seed, results=result)
        stored("sgd", seed=seed, results={"test_perplexity": 4.0})
    done = vr("plot", "profile", "--metric", "test_perplexity", "--data", "a.csv")
    assert "1 of 4 runs has no test_perplexity: not drawn" in done.err
    rows = read(tmp_path / "a.csv")
    assert [list(row) for row in rows.to_numpy()] == [["adamw", 1.0, 1.0], ["sgd", 2.0, 1.0]]
    done = vr("plot", "sensitivity", "--metric", "test_perplexity", "--data", "b.csv")
    assert "1 of 4 runs has no test_perplexity: not drawn" in done.err
    rows = read(tmp_path / "b.csv").set_index("optimizer")
    assert rows.n.to_dict() == {"adamw": 1, "sgd": 2}
    assert rows.diverged.sum() == 0


def test_a_task_without_the_result_names_whose_runs_lack_it(vr: Any, stored: Callable[..., int]) -> None:
    stored("adamw", results={"test_perplexity": 2.0})
    stored("sgd")
    done = vr("plot", "profile", "--metric", "test_perplexity")
    assert "cnn · digits · quick is left out: no runs of sgd with test_perplexity" in done.err


def test_a_profile_without_a_common_task_is_refused(vr: Any, stored: Callable[..., int]) -> None:
    stored("adamw", task="cnn")
    stored("sgd", task="transformer")
    done = vr("plot", "profile")
    assert (done.code, done.out) == (2, "")
    assert "no task has runs of all these optimizers" in done.err.splitlines()[-1]


def test_optimizers_that_share_no_seed_of_a_task_are_told(vr: Any, stored: Callable[..., int], tmp_path: Path) -> None:
    for task, seeds in (("cnn", (0, 1)), ("transformer", (0, 0))):
        for optimizer, seed in zip(("adamw", "sgd"), seeds, strict=True):
            stored(optimizer, task=task, seed=seed)
    done = vr("plot", "profile", "--per-seed", "--data", "a.csv")
    assert "cnn · digits · quick is left out: the optimizers share no seed" in done.err
    assert read(tmp_path / "a.csv").share.tolist() == [1.0, 1.0]


def test_a_profile_of_values_that_are_not_positive_is_refused(vr: Any, stored: Callable[..., int]) -> None:
    stored("adamw", loss=-0.5)
    stored("sgd", loss=0.5)
    done = vr("plot", "profile")
    assert (done.code, done.out) == (2, "")
    assert "a profile divides by the best value" in done.err


def test_a_target_needs_a_finite_value_to_be_reached(vr: Any, tmp_path: Path) -> None:
    with Store.open(tmp_path / "vr.db") as store:
        spec = {"task": "cnn", "preset": "quick", "dataset": "d", "dataset_fingerprint": "f", "optimizer": "sgd",
                "seed": 0, "optimizer_settings": {"lr": 9.0}}  # fmt: skip
        run = store.runs.begin(spec, spec_id="a", provenance={})
        store.curves.add(run.id, {"val_loss": ([1], [float("nan")])})
        store.runs.finish(run.id, "diverged", results={})
    done = vr("plot", "target")
    assert (done.code, done.out) == (0, "")
    assert done.err == "note: no run has a finite validation loss, so there is no target to reach\n"


def test_a_run_that_diverged_before_its_first_validation_never_reached_the_target(
    vr: Any, stored: Callable[..., int], tmp_path: Path
) -> None:
    for seed in range(2):
        stored("vradam", seed=seed, loss=0.1)
        lost_at_once(tmp_path, "sgd", seed)
    lost_at_once(tmp_path, "vradam", 2)
    done = vr("plot", "target", "--target", "0.15", "--data", "a.csv")
    assert done.code == 0, done.err
    rows = read(tmp_path / "a.csv").groupby("optimizer")[["n", "reached"]].first()
    assert rows.to_dict("index") == {"sgd": {"n": 2, "reached": 0}, "vradam": {"n": 3, "reached": 2}}
    text = vr("plot", "target", "--target", "0.15").out
    assert [line.split()[:4] for line in text.splitlines()[-2:]] == [
        ["sgd", "0", "of", "2"],
        ["vradam", "2", "of", "3"],
    ]


def lost_at_once(path: Path, optimizer: str, seed: int) -> None:
    """A run as `stored` writes it that diverged in its first steps, before any validation."""
    with Store.open(path / "vr.db") as store:
        spec = {**next(iter(store.runs.select())).spec, "optimizer": optimizer, "seed": seed}
        run = store.runs.begin(spec, spec_id=f"{optimizer}{seed}", provenance={})
        store.curves.add(run.id, {"train_loss": ([1, 2], [5.0, float("nan")])})
        store.runs.finish(run.id, "diverged", results={})


def test_shares_have_an_axis_from_nothing_to_all(vr: Any, seeds: list[int]) -> None:
    for words in (("target", "--target", "0.0001"), ("profile",)):
        text = vr("plot", *words).out
        ticks = [float(line.split("┤")[0]) for line in text.splitlines() if "┤" in line]
        assert (ticks[0], ticks[-1]) == (1, 0), words


def test_a_profile_names_its_tasks_and_says_that_one_is_few(vr: Any, stored: Callable[..., int]) -> None:
    for optimizer in ("adamw", "sgd"):
        stored(optimizer, task="cnn")
    done = vr("plot", "profile")
    assert "a profile needs several tasks" in done.err
    assert done.out.startswith("over cnn · digits · quick\n")
    for optimizer in ("adamw", "sgd"):
        stored(optimizer, task="transformer")
    done = vr("plot", "profile")
    assert "several tasks" not in done.err
    assert done.out.startswith("over cnn · digits · quick; transformer · digits · quick\n")
