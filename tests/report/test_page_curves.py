"""The curves of the HTML page against numbers worked out by hand or by numpy."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from vrcli.report.page import curves as page_curves
from vrcli.report.page.json import embeddable, numbers


def curve(values: Sequence[float], every: int = 1) -> SimpleNamespace:
    return SimpleNamespace(steps=array("q", range(every, every * len(values) + 1, every)), values=array("d", values))


def test_numbers_that_do_not_exist_are_null_in_charts_and_named_elsewhere():
    assert numbers([1.0, math.nan, math.inf, -math.inf, 0.123456789, 1e-9, 123456.0]) == [
        1, None, None, None, 0.12346, 1e-9, 123456,
    ]  # fmt: skip
    assert json.loads(embeddable([math.nan, math.inf, -math.inf])) == ["nan", "inf", "-inf"]


def test_thinned_curves_keep_every_extreme_and_say_how_many_points_there_were():
    random = np.random.default_rng(1)
    values = random.normal(size=12_000)
    values[[17, 6001, 11_000]] = [50.0, -60.0, 70.0]
    found = page_curves.row_series([1], {(1, "train_loss"): curve(values.tolist())}, 300)["train_loss"]
    assert found["of"] == 12_000
    assert len(found["x"]) <= 300
    assert {50, -60, 70} <= set(found["c"])
    assert (found["x"][0], found["x"][-1]) == (1, 12_000)
    own = page_curves.run_curves(1, {(1, "train_loss"): curve(values.tolist())}, ["train_loss"], 90)[0]
    assert len(own["x"]) <= 92
    assert {50, -60, 70} <= set(own["y"])
    assert own["of"] == 12_000


def test_envelopes_are_mean_and_standard_deviation_with_the_runs_alive():
    values = np.array([[3.0, 2.0, 1.0], [5.0, 4.0, 2.0]])
    curves = {(i, "train_loss"): curve(v) for i, v in enumerate([values[0].tolist(), values[1, :2].tolist()])}
    found = page_curves.row_series([0, 1], curves, 100)["train_loss"]
    assert found["c"] == [4, 3, 1]
    sd = values[:, :2].std(axis=0, ddof=1)
    assert found["hi"][:2] == pytest.approx(values[:, :2].mean(axis=0) + sd, rel=1e-4)
    assert found["lo"][2] is None
    assert found["n"] == [2, 2, 1]


def test_steps_become_epochs_and_seconds():
    curves = {
        (1, "train_loss"): curve([1.0] * 8),
        (1, "epoch"): curve([1.0, 2.0], 4),
        (1, "wall_s"): curve([10.0, 30.0], 4),
    }
    found = page_curves.row_series([1], curves, 100)["train_loss"]
    assert found["x"] == list(range(1, 9))
    assert found["e"] == [0.25 * s for s in range(1, 9)]
    assert found["t"] == [2.5, 5, 7.5, 10, 15, 20, 25, 30]


def test_a_run_that_stops_being_finite_is_marked_where_it_did():
    lost = {1: curve([1.0, math.nan]), 2: curve([1.0, 2.0, 3.0])}
    found = page_curves.row_series([1, 2], {(i, "train_loss"): c for i, c in lost.items()}, 100)["train_loss"]
    assert [at["x"] for at in found["diverged"]] == [2]
    assert found["c"] == [1, 2, 3]
