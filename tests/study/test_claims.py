"""Claims that two optimizers are equal within a margin, and that one curve lies below another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vrcli.stats.comparison import compare_all
from vrcli.study.files import claims
from vrcli.study.files.claims import Said, _of_margin


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
    found: Any = SimpleNamespace(part=SimpleNamespace(name="one", request=SimpleNamespace(level=0.95)))
    claim: Any = SimpleNamespace(curve="val_loss")
    return claims._curve(claim, found, ("a", "b"), None).said


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
