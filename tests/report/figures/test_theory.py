"""The figures of theory: they read no runs, and refuse what they cannot draw."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest


def test_the_field_is_drawn_without_a_database(vr: Any, tmp_path: Path) -> None:
    done = vr("plot", "field", "--output", "field.svg", "--data", "field.csv", "--steps", "30")
    assert done.code == 0, done.err
    assert not (tmp_path / "vr.db").exists()
    rows = list(csv.DictReader((tmp_path / "field.csv").open()))
    steps = [row for row in rows if row["line"] == "VRMomentum"]
    assert len(steps) == 31
    fastest = {line: max(abs(float(row["v"])) for row in rows if row["line"] == line and float(row["from"]) == 2)
               for line in ("orbit", "VRMomentum")}  # fmt: skip
    assert fastest["orbit"] == pytest.approx(1.1547, rel=1e-3)  # v^2/2 + 3 v^4/4 = 2
    assert 0 < fastest["VRMomentum"] < fastest["orbit"]


def test_the_swings_name_the_largest_stable_rates(vr: Any) -> None:
    done = vr("plot", "oscillation", "--steps", "1000")
    assert done.code == 0, done.err
    found = {
        line.split()[0]: line.split()[1:3] for line in done.out.splitlines() if line.startswith(("Mom", "VR", "Ad"))
    }
    assert [float(word) for word in found["Momentum"]] == pytest.approx([38, 38], rel=0.05)
    assert [float(word) for word in found["VRMomentum"]] == pytest.approx([760, 760], rel=0.05)
    assert found["Adam"] == found["VRAdam"] == ["none", "none"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("field", "--lr", "0"), "--lr must be a positive number, got 0"),
        (("field", "--beta3", "-1"), "--beta3 must be a number from 0 on, got -1"),
        (("field", "--steps", "0"), "--steps must be between 1 and 10,000, got 0"),
        (("oscillation", "--steps", "5"), "--steps must be between 1,000 and 1,000,000, got 5"),
        (("oscillation", "--lr-cutoff", "inf"), "--lr-cutoff must be a number from 0 on, got inf"),
    ],
)
def test_what_cannot_be_drawn_is_refused(vr: Any, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = vr("plot", *words, "--output", "a.png")
    assert (done.code, said in done.err) == (2, True)
    assert list(tmp_path.iterdir()) == []
