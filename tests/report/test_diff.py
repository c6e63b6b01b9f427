"""Two runs side by side: every difference is found, and bit-identical means every bit."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrcli.report.difference import verdict
from vrcli.results.diff import compare, compare_curves, flatten


@dataclass(frozen=True)
class Series:
    steps: array
    values: array


def series(points: dict[int, float]) -> Series:
    return Series(array("q", points), array("d", points.values()))


NAN = math.nan


@pytest.mark.parametrize(
    ("a", "b", "first_step", "first", "largest", "identical"),
    [
        ({1: 1.0, 2: 2.0}, {1: 1.0, 2: 2.0}, None, (None, None), 0.0, True),
        ({1: NAN, 2: math.inf}, {1: NAN, 2: math.inf}, None, (None, None), NAN, True),
        ({1: 1.0, 2: 2.0}, {1: 1.0, 2: 2.5}, 2, (2.0, 2.5), 0.5, False),
        ({1: 1.0, 2: 2.0}, {1: 1.0, 2: NAN}, 2, (2.0, NAN), 0.0, False),
        ({1: math.inf}, {1: -math.inf}, 1, (math.inf, -math.inf), NAN, False),
        ({1: 0.0}, {1: -0.0}, 1, (0.0, -0.0), 0.0, False),  # equal numbers, other bits
        ({1: 1.0}, {1: np.nextafter(1.0, 2)}, 1, (1.0, np.nextafter(1.0, 2)), 2**-52, False),
        ({1: 1.0, 2: 2.0}, {1: 1.0}, None, (None, None), 0.0, False),  # one ends earlier, and parts nowhere
        ({1: 1.0, 2: 2.0, 3: 3.0}, {1: 1.0, 3: 3.0}, 2, (2.0, None), 0.0, False),
        ({}, {1: 1.0}, None, (None, None), NAN, False),
    ],
)
def test_where_two_curves_part(a, b, first_step, first, largest, identical):
    found = compare_curves("m", series(a), series(b))
    assert found.first_step == first_step
    assert str(found.first) == str(tuple(None if v is None else float(v) for v in first))
    assert str(found.largest) == str(float(largest))
    assert found.identical is identical


_CURVES = st.dictionaries(st.integers(0, 6), st.sampled_from([0.0, 1.0, 2.5, NAN, math.inf]), max_size=5)


@given(_CURVES, _CURVES)
def test_it_agrees_with_a_loop_over_the_steps(a, b):
    a, b = dict(sorted(a.items())), dict(sorted(b.items()))
    found = compare_curves("m", series(a), series(b))
    end = min(max(a, default=-1), max(b, default=-1))
    parted = [s for s in sorted(a.keys() | b.keys()) if s <= end and str(a.get(s)) != str(b.get(s))]
    assert found.first_step == (parted[0] if parted else None)
    assert found.common == len(a.keys() & b.keys())
    assert found.identical is (str(a) == str(b))
    apart = [abs(a[s] - b[s]) for s in a.keys() & b.keys() if math.isfinite(a[s]) and math.isfinite(b[s])]
    assert str(found.largest) == str(float(max(apart)) if apart else NAN)


def test_everything_is_set_side_by_side(make_run):
    a, b = make_run(seed=0, loss=0.1, lr=0.01), make_run(seed=0, loss=0.2, lr=0.02, beta3=1.0)
    found = compare(a, b, {"val_loss": series({1: 1.0})}, {"val_loss": series({1: 1.0}), "wall_s": series({1: 2.0})})
    assert {(d.name, d.a, d.b) for d in found.settings if not d.equal} == {("lr", 0.01, 0.02), ("beta3", None, 1.0)}
    assert next(d for d in found.results if d.name == "best_val_loss").equal is False
    assert all(d.equal for d in found.identity)
    assert found.same_curves  # the clock does not count
    assert [curve.metric for curve in found.curves] == ["val_loss", "wall_s"]
    other = replace(b, provenance={"cpu": "cpu B", "git": {"commit": "x"}})
    names = [d.name for d in compare(a, other, {}, {}).provenance if not d.equal]
    assert set(names) == {"cpu", "device", "git.commit"}


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ({1: 1.0, 2: NAN}, {1: 1.0, 2: NAN}, "bit-identical: the curve of run 1 and run 2, 2 points"),
        ({1: 1.0, 2: 2.0}, {1: 1.0}, "bit-identical as far as both go: 1 of 2 points of m"),
        ({1: 1.0}, {1: 1.0 + 2**-52}, "part at step 1: m is 1.0 and 1.0000000000000002"),
        ({1: 1.0}, {1: 3.5}, "the curves of run 1 and run 2 part at step 1: m is 1 and 3.5"),
        ({1: 1.0}, {}, "no curve in common"),
    ],
)
def test_the_verdict(make_run, a, b, words):
    found = compare(make_run(), make_run(), {"m": series(a)}, {"m": series(b)})
    assert words in verdict(found, "run 1", "run 2")


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (["val_loss"], "all 4 points of val_loss; only run 1 has train_loss, gate"),
        (["val_loss", "train_loss"], "all 24 points of 2 curves; only run 1 has gate"),
        (["val_loss", "extra"], "all 4 points of val_loss; only run 1 has train_loss, gate; only run 2 has extra"),
        (["val_loss", "half"], "14 of 24 points of 2 curves; only run 1 has gate"),
        (["extra"], None),
    ],
)
def test_the_verdict_counts_shared_curves_and_names_the_others(make_run, second, words):
    train = {step: 1.0 / step for step in range(1, 21)}
    known = {
        "val_loss": ("val_loss", {5 * k: 1.0 for k in range(1, 5)}),
        "train_loss": ("train_loss", train),
        "half": ("train_loss", dict(list(train.items())[:10])),
        "gate": ("gate", {20: 1.0}),
        "extra": ("extra", {3: 1.0}),
    }
    curves = [dict(known[name] for name in names) for names in (["val_loss", "train_loss", "gate"], second)]
    own = [{name: series(points) for name, points in {**found, "wall_s": {1: 2.0}}.items()} for found in curves]
    found = verdict(compare(make_run(), make_run(), *own), "run 1", "run 2")
    assert found == (f"bit-identical as far as both go: {words}" if words else "the runs have no curve in common")


def test_nested_mappings_become_one():
    assert flatten({"a": {"b": {"c": 1}}, "d": [2]}) == {"a.b.c": 1, "d": [2]}
