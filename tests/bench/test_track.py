"""The cost of recording a loop of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from vrcli.bench.track import rows


@pytest.mark.slow
def test_every_tracker_that_is_there_is_timed(tmp_path: Path) -> None:
    found = {row["tracker"]: row for row in rows(tmp_path, steps=3, rounds=1)}
    assert {"vr", "tensorboard"} <= found.keys()
    assert found["vr"]["times vr"] == 1
    assert all(row["us/step"] > 0 for row in found.values())
