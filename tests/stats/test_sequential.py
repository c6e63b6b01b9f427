"""Boundaries of planned looks against the published ones, and what each look spends."""

from __future__ import annotations

import numpy as np
import pytest

from vrcli.stats.sequential import Looks, planned


@pytest.mark.parametrize(
    ("boundary", "sizes", "published"),
    # Jennison and Turnbull 2000, tables 2.1 and 2.3, for a known variance: nominal p of |Z| > 2.178; 2.797 and 1.977;
    # for three looks |Z| > 2.289; 3.471, 2.454 and 2.004
    [
        ("pocock", (500, 1000), (0.0294, 0.0294)),
        ("obrien-fleming", (500, 1000), (0.0052, 0.0480)),
        ("pocock", (400, 800, 1200), (0.0221, 0.0221, 0.0221)),
        ("obrien-fleming", (400, 800, 1200), (0.0005, 0.0141, 0.0451)),
    ],
)
def test_with_many_replicates_the_boundaries_are_the_published_ones(
    boundary: str, sizes: tuple[int, ...], published: tuple[float, ...]
) -> None:
    looks = Looks(sizes, boundary)  # type: ignore[arg-type]
    assert looks.nominal(0.05) == pytest.approx(published, abs=4e-4)


@pytest.mark.parametrize("boundary", ["pocock", "obrien-fleming"])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
def test_all_looks_together_spend_the_level(boundary: str, alpha: float) -> None:
    looks = Looks((3, 5), boundary)  # type: ignore[arg-type]
    spent = looks.spent(alpha)
    assert 0 < spent[0] < spent[1] == pytest.approx(alpha, abs=2e-6)
    assert looks.nominal(alpha)[0] == pytest.approx(spent[0], rel=0.05)
    # At the boundary of either look the overall p is the level.
    first, last = looks.nominal(alpha)
    assert looks.overall(np.array([[first]]))[0] == pytest.approx(alpha, abs=1e-5)
    assert looks.overall(np.array([[0.9, last]]))[0] == pytest.approx(alpha, abs=1e-5)
    assert looks.overall(np.array([[first, 0.9]]))[0] == pytest.approx(alpha, abs=1e-5)  # decided is decided
    # Another test at the last look has what the first has left.
    assert looks.at_last(np.array([alpha - spent[0]]))[0] == pytest.approx(alpha, rel=0.03)


def test_the_last_look_of_obrien_and_fleming_keeps_nearly_all() -> None:
    assert Looks((5, 10)).nominal(0.05)[1] > 0.045
    assert Looks((5, 10), "pocock").nominal(0.05)[1] < 0.03


def test_looks_are_planned_at_equal_steps() -> None:
    assert planned(5).sizes == (3, 5)
    assert planned(10, 3).sizes == (4, 7, 10)
    with pytest.raises(ValueError, match="at least 3 searches"):
        planned(2)
    with pytest.raises(ValueError, match="2 looks are the fewest"):
        planned(5, 1)
    for sizes in ((5,), (5, 5), (1, 3)):
        with pytest.raises(ValueError, match="rising"):
            Looks(sizes)
