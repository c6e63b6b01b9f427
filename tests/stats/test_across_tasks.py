"""Several tasks: ratios, what they say of these tasks and of tasks in general, and ranks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vrcli.stats.across_tasks import across_tasks, costs_of, ranks_over_tasks
from vrcli.stats.profiles import performance_profile


def losses(tasks: int = 4, names: str = "ab", step: float = 0.1, seed: int = 0, searches: int = 5) -> dict:
    """Losses of very different size; each optimizer's are larger than those of the one before by about `step`."""
    rng = np.random.default_rng(seed)
    return {
        f"task {task}": {
            name: 10.0**task * np.exp(0.1 * rng.standard_normal((searches, 3)) + step * place)
            for place, name in enumerate(names)
        }
        for task in range(tasks)
    }


def test_the_mean_over_tasks_is_of_log_ratios() -> None:
    values = losses()
    (found,) = across_tasks(values)
    ratios = [np.log(v["a"].mean(axis=1) / v["b"].mean(axis=1)) for v in values.values()]
    for one, own in zip(found.tasks, ratios, strict=True):
        assert one.ratios == pytest.approx(own)
        assert (one.effect, one.low, one.high) == pytest.approx(
            (own.mean(), *stats.ttest_1samp(own, 0).confidence_interval())
        )
    means, variances = np.mean(ratios, axis=1), np.var(ratios, axis=1, ddof=1) / 5
    df = variances.sum() ** 2 / (variances**2 / 4).sum()
    half = stats.t.ppf(0.975, df) * math.sqrt(variances.sum()) / 4
    assert found.effect == pytest.approx(means.mean())
    assert (found.low, found.high, found.df) == pytest.approx((means.mean() - half, means.mean() + half, df))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.effect) / (half / stats.t.ppf(0.975, df)), df))
    assert found.p_holm == found.p


def test_tasks_in_general_need_six() -> None:
    (four,) = across_tasks(losses(4, step=5))
    assert math.isnan(four.p_general)
    assert four.smallest_p == 0.125
    (six,) = across_tasks(losses(6, step=5))
    assert six.p_general == six.smallest_p == 2.0**-5
    three = across_tasks(losses(6, "abc", step=5))
    assert [one.p_general_holm for one in three] == [3 * 2.0**-5] * 3
    assert [(one.a, one.b) for one in across_tasks(losses(6, "abc"), against="b")] == [("a", "b"), ("c", "b")]


def test_improvement_and_the_middle_half() -> None:
    values = losses(5)
    (found,) = across_tasks(values)
    wins = [v["a"].mean(axis=1)[:, None] < v["b"].mean(axis=1) for v in values.values()]
    assert found.improvement == pytest.approx(np.mean(wins))
    ratios = [r for one in found.tasks for r in one.ratios]
    assert found.iqm == pytest.approx(stats.trim_mean(ratios, 0.25))
    low, high = found.improvement_interval
    assert low < found.improvement < high
    (same,) = across_tasks({task: {"a": v["a"], "b": v["a"]} for task, v in values.items()})
    assert (same.effect, same.p, same.improvement) == (0.0, 1.0, 0.5)


def test_larger_is_better_turns_what_is_better_not_the_ratios() -> None:
    values = losses(6)
    (low,), (high,) = across_tasks(values), across_tasks(values, direction="max")
    assert (low.effect, low.low, low.iqm) == pytest.approx((high.effect, high.low, high.iqm))
    assert low.improvement == pytest.approx(1 - high.improvement)
    assert [one.wins for one in low.tasks] == [5 - one.wins for one in high.tasks]


@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_diverged_replicate_leaves_ranks_only(direction: str) -> None:
    values = losses(6, step=5)
    values["task 0"]["a"][0, :2] = math.nan
    (found,) = across_tasks(values, direction=direction)
    assert math.isnan(found.effect)
    assert math.isnan(found.p)
    assert found.tasks[0].ratios[0] == (math.inf if direction == "min" else -math.inf)
    assert found.p_general == 2.0**-5  # the middle of that task's ratios is what it was
    assert math.isfinite(found.iqm)


def test_values_without_ratios_are_refused() -> None:
    values = losses()
    values["task 1"]["a"][0, 0] = 0.0
    with pytest.raises(ValueError, match="task 1 has a value that is not positive"):
        across_tasks(values)
    values = losses()
    del values["task 2"]["b"]
    with pytest.raises(ValueError, match="task 2 needs values"):
        across_tasks(values)


def test_the_interval_over_tasks_holds_and_the_tests_keep_their_level() -> None:
    held = wrong = 0
    for seed in range(300):
        (found,) = across_tasks(losses(4, step=0.05, seed=seed))
        held += found.low <= -0.05 <= found.high
        (alike,) = across_tasks(losses(4, step=0.0, seed=seed))
        wrong += alike.p <= 0.05
    assert held / 300 == pytest.approx(0.95, abs=0.03)
    assert wrong / 300 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)


def test_ranks_over_tasks() -> None:
    costs = costs_of(losses(6, "abc", step=5))
    found = ranks_over_tasks(costs)
    assert found is not None
    assert found.average == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert found.p < 0.001
    assert found.pairs["a", "c"] < 0.01 < found.pairs["a", "b"]
    assert ranks_over_tasks(costs_of(losses(5, "abc"))) is None
    lost = {**costs, "b": dict.fromkeys(costs["b"], math.nan)}
    ranked = ranks_over_tasks(lost)
    assert ranked is not None
    assert ranked.average == {"a": 1.0, "b": 3.0, "c": 2.0}
    assert performance_profile(costs)["a"][1].tolist() == [1.0]


def test_ranks_agree_with_the_tables_for_many_tasks() -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((60, 4)) + 0.3 * np.arange(4)
    costs = {name: {str(task): value for task, value in enumerate(table[:, i])} for i, name in enumerate("abcd")}
    found = ranks_over_tasks(costs)
    assert found is not None
    assert found.p == pytest.approx(stats.friedmanchisquare(*table.T).pvalue, abs=0.005)
    # Demsar 2006: q = 2.569 for four, times sqrt(k (k + 1) / (6 N))
    assert found.critical == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 60)), abs=0.03)


def test_ranks_of_alike_optimizers_differ_in_at_most_one_of_twenty() -> None:
    rng = np.random.default_rng(1)
    friedman = pairs = ranges = 0
    for _ in range(200):
        table = np.round(rng.standard_normal((6, 4)), 1)
        found = ranks_over_tasks({n: dict(zip("tuvwxy", table[:, i], strict=True)) for i, n in enumerate("abcd")})
        assert found is not None
        friedman += found.p <= 0.05
        pairs += min(found.pairs.values()) <= 0.05
        average = list(found.average.values())
        ranges += max(average) - min(average) > found.critical
    assert max(friedman, pairs, ranges) / 200 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 200)
