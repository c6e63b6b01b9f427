"""One optimizer under several names, through the whole protocol: how often is it found to be better than itself?

The slow tests are the full measurement: they print their figures (pytest -s).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from vrcli.stats.replicates import Verdict

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import NAMES, NOISE, World, compared

#: Comparisons in a cell of the full measurement.
N = 400
CLAIMS = (Verdict.BETTER, Verdict.WORSE)
pytestmark = pytest.mark.usefixtures("plugins")


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "plugins"))


#: Comparisons, how many of them may be false (at 5% each more are in 0.2% and in 0.09% of all such samples), and how
#: many single searches of the first ones must be, where seeds are taken for the unit.
FEW = (6, 2, 6, 2)
MANY = pytest.param(16, 4, 8, 3, marks=pytest.mark.slow)


@pytest.mark.parametrize(("count", "may_be", "alone", "must_be"), [FEW, MANY])
def test_the_luck_of_the_search_makes_no_verdict(
    tmp_path: Path, count: int, may_be: int, alone: int, must_be: int
) -> None:
    """Where luck is nearly all there is, single searches contradict each other; replicated ones do not."""
    worlds = [World(steep=1.0, seed=seed) for seed in range(count)]
    assert sum(verdicts(tmp_path, world, trials=4, seeds=2) != [] for world in worlds) <= may_be
    once = [compared(tmp_path, world, trials=4, searches=1, seeds=8).comparisons[0] for world in worlds[:alone]]
    assert sum(pair.significant for pair in once) >= must_be


def test_a_true_difference_is_found(tmp_path: Path) -> None:
    found = [verdicts(tmp_path, World(worse={NAMES[1]: 4 * NOISE}, seed=seed), trials=4, seeds=2) for seed in range(4)]
    assert found.count([Verdict.BETTER]) >= 3


def verdicts(folder: Path, world: World, **how: Any) -> list[Verdict]:
    """The claims of one comparison."""
    found = compared(folder, world, **how).replicated
    assert found is not None
    return [pair.verdict for pair in found.pairs if pair.verdict in CLAIMS]


MORE_AXES = ("lr=log:1e-4:1", "momentum=0:0.99", "weight_decay=log:1e-6:1e-1", "dampening=0:0.5")
CELLS: Mapping[str, Mapping[str, Any]] = {
    "1 axis": {},
    "2 axes": {"spaces": MORE_AXES[:2]},
    "4 axes": {"spaces": MORE_AXES},
    "4 optimizers": {"names": NAMES},
    "10% diverge": {"diverging": 0.1},
}


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("cell", CELLS)
def test_false_verdicts_are_as_rare_as_promised(tmp_path: Path, cell: str) -> None:
    pairs = [measured(tmp_path, seed, **CELLS[cell]) for seed in range(N)]
    false = sum(any(pair.verdict in CLAIMS for pair in own) for own in pairs)
    intervals = [pair.interval for own in pairs for pair in own if math.isfinite(pair.interval[0])]
    inside = sum(low <= 0 <= high for low, high in intervals)
    print(f"\n{cell}: {false} of {N} comparisons with a false verdict; {inside} of {len(intervals)} intervals hold 0")
    assert false / N <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / N)
    if "diverging" not in CELLS[cell]:
        assert inside / len(intervals) >= 0.93 - 2 * math.sqrt(0.05 * 0.95 / N)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("diverging", "least"), [(0.0, 0.4), (0.1, 0.25)])
def test_power_at_a_difference_of_one_and_a_half_sd(tmp_path: Path, diverging: float, least: float) -> None:
    worse = {NAMES[1]: 1.5 * NOISE}
    pairs = [measured(tmp_path, seed, worse=worse, diverging=diverging)[0] for seed in range(N // 2)]
    found = [pair.verdict for pair in pairs]
    print(f"\n{diverging:.0%} diverge: {found.count(Verdict.BETTER)} of {len(found)} comparisons find it")
    assert found.count(Verdict.BETTER) / len(found) >= least
    assert found.count(Verdict.WORSE) / len(found) <= 0.03


def measured(
    folder: Path, seed: int, *, worse: Mapping[str, float] | None = None, diverging: float = 0.0, **how: Any
) -> Sequence[Any]:
    found = compared(folder, World(worse=worse or {}, diverging=diverging, seed=seed), **how).replicated
    assert found is not None
    return found.pairs
