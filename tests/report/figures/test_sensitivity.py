"""The outcome over one setting against its definition."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from vrcli.stats.profiles import sensitivity_of


def test_stable_range_is_the_stretch_around_the_best() -> None:
    outcomes = {1e-4: 0.5, 1e-3: 0.105, 1e-2: 0.1, 1e-1: 0.109, 1.0: math.nan}
    found = sensitivity_of([(lr, v) for lr, v in outcomes.items() for _ in range(2)] + [(1e-4, 0.1), (1e-4, math.nan)])
    assert found.best == 1e-2
    assert found.stable == (1e-3, 1e-1)
    assert found.decades == pytest.approx(2.0)
    assert found.diverged == (1, 0, 0, 0, 2)
    assert found.n == (4, 2, 2, 2, 2)
    assert math.isinf(found.middle[-1])
    lost = sensitivity_of([(0.1, math.nan)])
    assert (lost.best, lost.stable, lost.decades) == (None, None, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_sensitivity_of_random_runs_equals_pandas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    settings = rng.choice([1e-4, 3e-4, 1e-3, 1e-2, 1e-1], 60)
    outcomes = rng.lognormal(size=60)
    outcomes[rng.random(60) < 0.3] = rng.choice([math.nan, math.inf])
    found = sensitivity_of(list(zip(settings.tolist(), outcomes.tolist(), strict=True)), tolerance=0.2)
    frame = pd.DataFrame({"lr": settings, "y": np.where(np.isfinite(outcomes), outcomes, np.inf)})
    groups = frame.groupby("lr").y
    assert not found.binned
    assert found.at.tolist() == list(groups.groups)
    np.testing.assert_allclose(found.middle, groups.median().to_numpy())
    assert list(found.n) == groups.count().tolist()
    assert list(found.diverged) == frame.groupby("lr").y.apply(lambda y: int(np.isinf(y).sum())).tolist()
    if found.best is not None and found.stable is not None:
        best = groups.median().min()
        inside = groups.median().loc[found.stable[0] : found.stable[1]]
        assert (inside <= 1.2 * best).all()
        beyond = [lr for lr in found.at if lr < found.stable[0]][-1:]
        beyond += [lr for lr in found.at if lr > found.stable[1]][:1]
        assert (groups.median().loc[beyond] > 1.2 * best).all()


def test_close_settings_are_pooled_in_thirds_of_a_decade() -> None:
    rng = np.random.default_rng(3)
    settings = 10 ** rng.uniform(-5, -1, 80)
    outcomes = rng.lognormal(size=80)
    found = sensitivity_of(list(zip(settings.tolist(), outcomes.tolist(), strict=True)))
    frame = pd.DataFrame({"lr": settings, "y": outcomes, "bin": np.round(3 * np.log10(settings))})
    assert found.binned
    np.testing.assert_allclose(found.middle, frame.groupby("bin").y.median())
    np.testing.assert_allclose(found.at, frame.groupby("bin").lr.median())
    assert sum(found.n) == 80
    assert found.stable is not None
    assert set(found.stable) <= set(settings)
