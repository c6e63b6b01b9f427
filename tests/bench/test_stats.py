"""The benchmark of comparisons times what it says, on a small one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vrcli.bench import stats


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "OPTIMIZERS", ("adamw", "sgd"))
    for name in ("SEARCHES", "SEEDS", "TRIALS"):
        monkeypatch.setattr(stats, name, 2)


def test_a_stored_comparison_is_found_again_and_its_parts_are_timed(vr: Any) -> None:
    done = vr("bench", "stats", "--rounds", "2", "--format", "json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)["rows"]
    assert rows[3]["what"] == "vr compare of 2 optimizers x 2 searches x 2 seeds, all stored"
    assert {row["n"] for row in rows} == {2}
    assert all(0 < row["value"] <= row["worst"] for row in rows)
    assert rows[3]["worst"] > max(row["value"] for row in rows[:3])


def test_a_run_that_is_not_stored_is_no_measurement(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vrcli.errors import VrError
    from vrcli.execute.place import Place

    monkeypatch.setattr(Place, "earlier", lambda self, store, job: None)
    monkeypatch.setattr(Place, "executor", stats.Filling.executor)
    with pytest.raises(VrError, match="should have been stored"):
        stats.bench_stats(tmp_path, rounds=1)
