"""What the gate did in runs that are stored: its range, and the share of steps at its bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vrcli.db.store import Store
from vrcli.results.gates import gates

pytestmark = pytest.mark.usefixtures("valley")


def test_gates_of_several_settings_have_a_range_of_bounds(vr: Callable[..., Any]) -> None:
    """A penalty that is huge holds the gate at its bound in every step, none keeps it at 1."""
    run = "run valley:Valley --threads 1 --quiet"
    for words in ("--beta3 1e9 --lr-cutoff 3", "--beta3 0 --lr-cutoff 1", "--opt adamw"):
        assert vr(*run.split(), *words.split()).code == 0
    with Store.open("vr.db", mode="read") as store:
        held, free, adamw = (store.runs.get(id) for id in (1, 2, 3))
        both, of_held = gates(store, {"both": [held, free], "adamw": [adamw], "held": [held]})
    assert (both.optimizer, both.runs, both.bounds) == ("both", 2, (0.25, 0.5))
    assert (both.low, both.high, both.mean, both.at_bound) == pytest.approx((0.25, 1.0, 0.625, 0.5))
    assert (of_held.bounds, of_held.at_bound) == ((0.25, 0.25), 1.0)
