"""Claims that two optimizers are equal within a margin, and that one curve lies below another."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vrcli.stats.comparison import compare_all
from vrcli.stats.replicates import Pair, Verdict
from vrcli.study.files import claims
from vrcli.study.files.claims import Said, _of_margin
from vrcli.study.files.stored import Found


def said(difference: float, spread: float, seeds: int, others: int, margin: str = "0.02") -> Said:
    """Of two optimizers that differ so much, compared among `others` more that do not differ from the first."""
    noise = spread * np.linspace(-1, 1, seeds)
    samples = {"a": np.ones(seeds) + noise, "b": np.full(seeds, 1 + difference)}
    samples |= {f"c{number}": np.ones(seeds) - noise * (0.9 + 0.01 * number) for number in range(others)}
    by_seed = {name: dict(enumerate(values)) for name, values in samples.items()}
    pairs = compare_all(by_seed, direction="max")
    pair = next(one for one in pairs if {one.a, one.b} == {"a", "b"})
    claim: Any = SimpleNamespace(margin=margin)
    result: Any = SimpleNamespace(values=samples)
    return _of_margin(claim, result, pair)


@pytest.mark.parametrize(
    ("difference", "spread", "seeds", "others", "expected"),
    [
        (0.0, 0.001, 5, 0, Said.REPRODUCED),
        (0.3, 0.01, 5, 0, Said.CONTRADICTED),
        (0.3, 0.5, 3, 0, Said.UNDECIDED),
        (0.03, 0.02, 5, 0, Said.UNDECIDED),  # a difference, and perhaps one within the margin
        (0.3, 0.08, 3, 0, Said.CONTRADICTED),
        (0.3, 0.08, 3, 3, Said.UNDECIDED),  # the same difference, not decided among ten pairs
    ],
)
def test_a_margin_is_left_only_by_a_difference_that_is_decided(
    difference: float, spread: float, seeds: int, others: int, expected: Said
) -> None:
    assert said(difference, spread, seeds, others) is expected


def below(excess: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Said:
    """Of a curve that exceeds another by so much (replicates, steps)."""
    monkeypatch.setattr(claims, "_excess", lambda *_: (list(range(1, excess.shape[1] + 1)), excess))
    return decided_below(excess, monkeypatch).said


def decided_below(excess: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> claims.Decided:
    monkeypatch.setattr(claims, "_excess", lambda *_: (list(range(1, excess.shape[1] + 1)), excess))
    request = SimpleNamespace(tuning=SimpleNamespace(trials=0), level=0.95)
    part: Any = SimpleNamespace(name="one", request=request)
    claim: Any = SimpleNamespace(curve="val_loss")
    return claims._curve(claim, Found(part, {}, {}, {}, [], {}), ("a", "b"), None)


def test_curves_that_are_no_numbers_somewhere_are_not_said_to_have_diverged(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run did: there is none that has."""
    found = decided_below(np.array([[-1.0, np.nan], [-1.0, -2.0]]), monkeypatch)
    assert (found.said, found.reason) == (Said.UNDECIDED, "val_loss is not a number at every step")


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        ([-9.0, -9.0, -9.0], Said.REPRODUCED),
        ([-9.0, 0.5, -9.0], Said.UNDECIDED),
        ([-9.0, 9.0, -9.0], Said.CONTRADICTED),
        ([9.0, 9.0, 9.0], Said.CONTRADICTED),
    ],
)
def test_a_curve_is_below_another_at_every_step_or_above_at_one(
    mean: list[float], expected: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).standard_normal((5, 3))
    assert below(mean + noise, monkeypatch) is expected


@pytest.mark.parametrize("everywhere", [-1.0, 0.0, 1.0])
def test_replicates_that_do_not_differ_decide_nothing(everywhere: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assert below(np.full((8, 3), everywhere), monkeypatch) is Said.UNDECIDED


def test_noise_alone_seldom_contradicts(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    said = [below(generator.standard_normal((5, 20)), monkeypatch) for _ in range(200)]
    assert said.count(Said.CONTRADICTED) <= 10  # 2.5 % of 200, as only excesses count; by the largest excess it was all
    assert Said.REPRODUCED not in said


# -- direction, relative margins, replicates --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claimed", "direction", "better", "expected"),
    [
        ("less", "min", "a", Said.REPRODUCED),
        ("less", "min", "b", Said.CONTRADICTED),
        ("less", "max", "a", Said.CONTRADICTED),  # the better one has the higher accuracy
        ("more", "max", "a", Said.REPRODUCED),
        ("more", "min", "a", Said.CONTRADICTED),
        ("more", "min", None, Said.UNDECIDED),
    ],
)
def test_a_claim_of_order_holds_by_the_direction_of_its_metric(
    claimed: str, direction: str, better: str | None, expected: Said
) -> None:
    claim: Any = SimpleNamespace(**{"less": None, "more": None, claimed: ("a", "b")})
    result: Any = SimpleNamespace(direction=direction)
    pair: Any = SimpleNamespace(better=better)
    assert claims._of_order(claim, result, pair, "a") is expected


def test_a_relative_margin_is_a_share_of_the_mean() -> None:
    assert said(0.05, 0.001, 5, 0, "2%") is Said.CONTRADICTED
    assert said(0.05, 0.001, 5, 0, "10%") is Said.REPRODUCED


@pytest.mark.parametrize(
    ("equal", "interval", "better", "expected"),
    [
        (True, (-0.1, 0.1), None, Said.REPRODUCED),
        (False, (0.3, 0.5), "a", Said.CONTRADICTED),
        (False, (0.1, 0.5), "a", Said.UNDECIDED),
        (False, (0.3, 0.5), None, Said.UNDECIDED),
    ],
)
def test_a_margin_over_searches_is_that_of_their_comparison(
    equal: bool, interval: tuple[float, float], better: str | None, expected: Said
) -> None:
    values = dict.fromkeys([field.name for field in fields(Pair)], 0.0)
    verdict = Verdict.EQUAL if equal else (Verdict.BETTER if better else Verdict.UNDECIDED)
    known = {"margin": 0.2, "simultaneous": interval, "level": 0.95, "p_equal_holm": 0.01 if equal else 0.9}
    pair = Pair(**{**values, "a": "a", "b": "b", "verdict": verdict, **known})
    assert _of_margin(SimpleNamespace(margin="0.2"), SimpleNamespace(), pair) is expected


def curves_of(runs: int, *, searches: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A part of so many searches (0: none) and runs each, whose curve is the number of the run at every step."""
    all_runs = [SimpleNamespace(id=id, status="completed") for id in range(max(1, searches) * runs)]
    blocks = [all_runs[at : at + runs] for at in range(0, len(all_runs), runs)]
    steps = np.arange(1, 5)
    read = {(run.id, "c"): (steps, np.full(4, 1.0 + run.id)) for run in all_runs}
    monkeypatch.setattr(claims, "Reader", lambda *_: SimpleNamespace(curves=lambda *_: read))
    request = SimpleNamespace(tuning=SimpleNamespace(trials=2 if searches else 0), level=0.95)
    part: Any = SimpleNamespace(name="one", request=request, ours={"A": "a"}, names={"A": "a"})
    return Found(part, {}, {}, {}, [], {"a": blocks})


def test_the_seeds_of_one_search_are_one_replicate(monkeypatch: pytest.MonkeyPatch) -> None:
    claim: Any = SimpleNamespace(curve="c", of="", after=0.0, range=(0.0, 100.0), rate=["A"], kind="rate", pair=["A"])
    store: Any = object()
    searched = curves_of(3, searches=2, monkeypatch=monkeypatch)
    assert claims._means(claim, searched, "a", store) == [2.0, 5.0]  # means of 1, 2, 3 and of 4, 5, 6
    assert "n = 2" in claims._within(claim, searched, ("a", "a"), store).reason
    monkeypatch.setattr(claims, "_ours", lambda *_: ("a", "a"))
    monkeypatch.setattr(claims, "LEAST_REPLICATES", 2)
    length, table = claims._table(claim, searched, store)
    assert not isinstance(table, str), table
    assert (length, table.tolist()) == (4, [[2.0] * 4, [5.0] * 4])
    monkeypatch.setattr(claims, "LEAST_REPLICATES", 3)
    assert claims._table(claim, searched, store)[1] == "2 searches, and a rate needs 3"
    alone = curves_of(3, searches=0, monkeypatch=monkeypatch)
    assert claims._means(claim, alone, "a", store) == [1.0, 2.0, 3.0]
