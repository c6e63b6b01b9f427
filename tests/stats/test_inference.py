"""Statistics against scipy, against enumeration by hand, and against the properties that define them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vrcli.stats import inference as statistics

values = st.lists(st.floats(-1e3, 1e3).map(lambda v: round(v, 6)), min_size=2, max_size=9)
few = settings(deadline=None, max_examples=60, derandomize=True)


def sample(n: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal(n)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_t_interval_and_summary_equal_scipy(n: int, level: float) -> None:
    x = 3 + sample(n, seed=n)
    expected = stats.t.interval(level, n - 1, loc=x.mean(), scale=stats.sem(x))
    found = statistics.summary(x.tolist(), level=level)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-10)
    assert found.mean == pytest.approx(np.mean(x))
    assert found.sd == pytest.approx(np.std(x, ddof=1))
    assert found.median == pytest.approx(np.median(x))
    assert (found.n, found.diverged) == (n, 0)


def test_summary_counts_diverged_values_and_never_averages_them() -> None:
    found = statistics.summary([1.0, math.nan, 3.0, math.inf, -math.inf])
    assert (found.n, found.diverged) == (5, 3)
    assert found.mean == 2.0
    assert math.isnan(found.median)  # the middle of (1, 3, worst, worst, worst) is not a number
    assert statistics.summary([1.0, 2.0, math.nan]).median == 2.0
    assert statistics.summary([0.9, 0.8, math.nan], direction="max").median == 0.8


@pytest.mark.parametrize("x", [[], [math.nan], [math.nan, math.inf]])
def test_summary_of_no_finite_value_has_no_numbers(x: list[float]) -> None:
    found = statistics.summary(x)
    assert found.diverged == len(x)
    assert all(math.isnan(v) for v in (found.mean, found.sd, found.median, found.low, found.high))


def test_summary_of_one_value_has_no_interval() -> None:
    found = statistics.summary([0.5])
    assert (found.mean, found.median) == (0.5, 0.5)
    assert math.isnan(found.sd)
    assert math.isnan(found.half_width)


@pytest.mark.parametrize("seed", range(3))
def test_bca_equals_scipy_and_is_repeatable(seed: int) -> None:
    x = np.random.default_rng(seed).lognormal(size=12)
    rng = np.random.default_rng(0)
    expected = stats.bootstrap((x,), np.mean, method="BCa", rng=rng, n_resamples=9999).confidence_interval
    assert statistics.bca_interval(x.tolist()) == pytest.approx((expected.low, expected.high))
    assert statistics.bca_interval(x.tolist()) == statistics.bca_interval(x.tolist())


def test_bca_of_a_difference_of_means_equals_scipy() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(1.0, 1.0, 12), rng.normal(0.0, 2.0, 15)
    expected = stats.bootstrap(
        (x, y), lambda a, b, axis: a.mean(axis) - b.mean(axis), n_resamples=9999, method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    found = statistics.bca_interval(x, y)
    assert found == pytest.approx((expected.low, expected.high))
    assert found[0] < x.mean() - y.mean() < found[1]
    assert statistics.bca_interval([3.0, 3.0], [1.0, 1.0]) == (2.0, 2.0)


def test_bca_of_degenerate_samples() -> None:
    assert statistics.bca_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
    assert all(map(math.isnan, statistics.bca_interval([2.0])))
    assert all(map(math.isnan, statistics.bca_interval([2.0, math.nan])))


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_t_tests_equal_scipy(n: int) -> None:
    a, b = sample(n, 1), 0.4 + sample(n + 3, 2, scale=2.0)
    paired = stats.ttest_rel(a, b[:n])
    found = statistics.paired_t(a - b[:n])
    assert found.p == pytest.approx(paired.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(paired.confidence_interval()), rel=1e-9)
    independent = stats.ttest_ind(a, b, equal_var=False)
    found = statistics.welch(a, b)
    assert found.p == pytest.approx(independent.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(independent.confidence_interval()), rel=1e-9)


@given(values, values, st.sampled_from([0.8, 0.95, 0.99]))
@few
def test_t_tests_agree_with_their_intervals(a: list[float], b: list[float], level: float) -> None:
    for found in (statistics.paired_t(a, level), statistics.welch(a, b, level)):
        margin = 1e-9 * max(1.0, abs(found.difference))
        if found.low - margin < 0 < found.low + margin or found.high - margin < 0 < found.high + margin:
            continue
        assert (found.p > 1 - level) == (found.low <= 0 <= found.high)


def test_t_tests_without_spread() -> None:
    """A difference that is the same each time may be one value told several times: nothing says how sure it is."""
    assert statistics.paired_t([0.0, 0.0]).p == 1.0
    assert statistics.welch([1.0, 1.0], [1.0, 1.0]).p == 1.0
    for found in (statistics.paired_t([0.1] * 3), statistics.welch([0.2] * 3, [0.3] * 3)):  # the mean is rounded
        assert math.isnan(found.p)
        assert found.low == found.high == found.difference
    assert math.isnan(statistics.paired_t([1.0]).p)


def flips_by_hand(d: np.ndarray) -> float:
    """Share of all sign patterns whose |sum| is at least the observed one."""
    sums = [abs(np.dot(signs, d)) for signs in itertools.product((1, -1), repeat=len(d))]
    return float(np.mean(np.array(sums) >= abs(d.sum()) - 1e-12))


@pytest.mark.parametrize("n", range(2, 11))
def test_sign_flip_equals_enumeration(n: int) -> None:
    d = 0.5 + sample(n, seed=n)
    assert statistics.sign_flip(d) == pytest.approx(flips_by_hand(d))


def test_sign_flip_reaches_its_smallest_p_and_no_less() -> None:
    for n in (3, 5, 6, 10):
        assert statistics.sign_flip(np.arange(1, n + 1)) == pytest.approx(2.0 ** (1 - n))
    assert statistics.sign_flip([0.0, 0.0, 0.0]) == 1.0


def test_sign_flip_of_many_pairs_is_close_to_the_t_test() -> None:
    d = 0.35 + sample(40, 3)
    assert statistics.sign_flip(d) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.01)


def splits_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    pool, observed, extreme, count = np.concatenate([a, b]), abs(a.mean() - b.mean()), 0, 0
    for chosen in itertools.combinations(range(len(pool)), len(a)):
        mask = np.isin(np.arange(len(pool)), chosen)
        extreme += abs(pool[mask].mean() - pool[~mask].mean()) >= observed - 1e-12
        count += 1
    return extreme / count


@pytest.mark.parametrize("n", [2, 3, 5])
def test_permutation_equals_enumeration(n: int) -> None:
    a, b = sample(n, n), 1 + sample(n, n + 50)
    assert statistics.permutation(a, b) == pytest.approx(splits_by_hand(a, b))


@pytest.mark.parametrize("n", [4, 7, 10])
def test_rank_tests_equal_scipy_without_ties(n: int) -> None:
    a, b = sample(n, n), 0.8 + sample(n, n + 20)
    expected = stats.mannwhitneyu(a, b, method="exact").pvalue
    assert statistics.rank_sum(a, b) == pytest.approx(expected)
    expected = stats.wilcoxon(a, b, method="exact").pvalue
    assert statistics.signed_rank(a, b) == pytest.approx(expected)


def test_rank_tests_take_diverged_runs_as_worst() -> None:
    good, lost = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [math.inf] * 6
    assert statistics.signed_rank(good, lost) == pytest.approx(2 / 64)
    assert statistics.rank_sum(good, lost) == pytest.approx(2 / math.comb(12, 6))
    assert statistics.signed_rank(lost, lost) == 1.0
    assert statistics.rank_sum(lost, lost) == 1.0
    # Any finite number worse than the rest gives the same ranks as a diverged run.
    mixed = [0.15, 0.05, math.inf, 0.7, 0.8, 0.9]
    finite = [v if math.isfinite(v) else 1e6 for v in mixed]
    assert statistics.signed_rank(good, mixed) == pytest.approx(statistics.signed_rank(good, finite))
    assert statistics.rank_sum(good, mixed) == pytest.approx(statistics.rank_sum(good, finite))


@pytest.mark.parametrize("seed", range(5))
def test_rank_tests_with_ties_equal_the_permutation_of_ranks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, 6).astype(float), rng.integers(1, 6, 7).astype(float)
    a[rng.random(6) < 0.3] = math.inf
    paired = np.sign(np.where(a == b[:6], 0, a - b[:6])) * stats.rankdata(np.abs(np.where(a == b[:6], 0, a - b[:6])))
    assert statistics.signed_rank(a, b[:6]) == pytest.approx(flips_by_hand(paired))
    ranks = stats.rankdata(np.concatenate([a, b]))
    assert statistics.rank_sum(a, b) == pytest.approx(statistics.permutation(ranks[:6], ranks[6:]))


def test_holm_on_a_worked_example() -> None:
    # 0.01 x 4, 0.02 x 3, 0.03 x 2 = 0.06 (not below the one before), 0.5 x 1
    assert statistics.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])


def test_holm_leaves_out_what_could_not_be_tested() -> None:
    found = statistics.holm([math.nan, 0.01, 0.04])
    assert math.isnan(found[0])
    assert found[1:] == pytest.approx([0.02, 0.04])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@few
def test_holm_keeps_order_and_lies_between_p_and_bonferroni(p: list[float]) -> None:
    adjusted = statistics.holm(p)
    for raw, new in zip(p, adjusted, strict=True):
        assert raw <= new <= min(1.0, raw * len(p)) + 1e-12 or new == max(adjusted)
    by_p = [new for _, new in sorted(zip(p, adjusted, strict=True))]
    assert by_p == sorted(by_p)
    # Holm rejects exactly when the step-down procedure does.
    order, still = sorted(range(len(p)), key=lambda i: p[i]), True
    for rank, index in enumerate(order):
        still = still and p[index] * (len(p) - rank) <= 0.05
        assert (adjusted[index] <= 0.05) == still


def test_effect_sizes() -> None:
    a, b = sample(6, 1), 1 + sample(8, 2)
    pooled = math.sqrt((5 * a.var(ddof=1) + 7 * b.var(ddof=1)) / 12)
    approximate = (1 - 3 / (4 * 12 - 1)) * (a.mean() - b.mean()) / pooled
    assert statistics.hedges_g(a, b) == pytest.approx(approximate, rel=1e-3)
    assert statistics.paired_effect([1.0, 2.0, 3.0]) == pytest.approx(2.0)
    assert statistics.paired_effect([1.0, 1.0]) == math.inf
    assert statistics.paired_effect([0.0, 0.0]) == 0.0


def test_superiority_is_the_scaled_mann_whitney_statistic() -> None:
    a, b = np.round(sample(7, 1), 1), np.round(0.5 + sample(9, 2), 1)
    expected = stats.mannwhitneyu(-a, -b).statistic / (7 * 9)
    assert statistics.superiority(a, b) == pytest.approx(expected)
    assert statistics.superiority([1.0, math.inf], [math.inf, math.inf]) == pytest.approx(0.75)


def test_oriented_puts_everything_that_is_not_finite_last() -> None:
    assert statistics.oriented([1.0, math.nan, -math.inf]).tolist() == [1.0, math.inf, math.inf]
    assert statistics.oriented([0.9, math.nan, math.inf], "max").tolist() == [-0.9, math.inf, math.inf]
