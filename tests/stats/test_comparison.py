"""Comparisons: what is claimed, on what ground, and that the error rates are those stated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vrcli.report.verdicts import detail, line, verdict
from vrcli.stats.comparison import compare, compare_all, p_of
from vrcli.stats.inference import paired_t, t_interval, welch

RNG = np.random.default_rng(1)
A = 0.0634 + 0.002 * RNG.standard_normal(10)
B = A + 0.0037 + 0.003 * RNG.standard_normal(10)


def test_a_clear_paired_difference() -> None:
    found = compare("vradam", A.tolist(), "adamw", B.tolist(), paired=True)
    reference = stats.ttest_rel(A, B)
    assert found.difference == pytest.approx((A - B).mean())
    assert p_of(A, B, True) == found.p
    assert found.p == pytest.approx(reference.pvalue)
    assert found.interval == pytest.approx(tuple(reference.confidence_interval()))
    assert found.better == "vradam"
    assert found.wins == (A < B).sum()
    assert found.losses == (A > B).sum()
    assert found.effect_size == pytest.approx((A - B).mean() / (A - B).std(ddof=1))
    assert verdict(found).startswith("vradam is better than adamw by 0.00")
    assert "paired over 10 seeds" in verdict(found)
    assert line(found).startswith("vradam \u2212 adamw: \u22120.00")


def test_the_size_of_the_effect_is_told_beside_the_difference() -> None:
    (found,) = compare_all({"a": dict(enumerate(A)), "b": dict(enumerate(B))}, bootstrap=True)
    d = A - B
    expected = stats.bootstrap((d,), np.mean, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    assert found.bootstrap == pytest.approx((expected.low, expected.high))
    share = (A[:, None] < B[None, :]).mean()
    text = detail(found)
    assert text.startswith(f"effect size \u2212{abs(d.mean() / d.std(ddof=1)):.1f}")
    assert f"a better in {100 * share:.0f}% of all pairs of runs" in text
    assert "bootstrap interval [\u22120.00" in text
    few = compare("a", A[:5].tolist(), "b", B[:5].tolist(), paired=True, bootstrap=True)
    assert "bootstrap" not in detail(few)  # from five values it would cover too little
    lost = compare("a", [1.0, math.nan], "b", [1.0, 2.0], paired=True, bootstrap=True)
    assert detail(lost) == ""


def test_a_claim_from_two_seeds_warns() -> None:
    found = compare("a", [1.0, 1.1], "b", [2.0, 2.1001], paired=True)
    assert found.better == "a"
    assert "two seeds hardly show a spread" in verdict(found)


def test_larger_is_better_turns_the_verdict_not_the_numbers() -> None:
    low = compare("a", A.tolist(), "b", B.tolist(), paired=True)
    high = compare("a", A.tolist(), "b", B.tolist(), paired=True, direction="max", metric="val accuracy")
    assert high.difference == pytest.approx(low.difference)
    assert high.interval == pytest.approx(low.interval)
    assert high.effect_size == pytest.approx(low.effect_size)
    assert (low.better, high.better) == ("a", "b")
    assert high.wins == low.losses
    assert high.superiority == pytest.approx(1 - low.superiority)


def test_the_order_of_the_two_does_not_matter() -> None:
    for paired in (True, False):
        ab = compare("a", A.tolist(), "b", B.tolist(), paired=paired)
        ba = compare("b", B.tolist(), "a", A.tolist(), paired=paired)
        assert ab.p == pytest.approx(ba.p)
        assert ab.p_check == pytest.approx(ba.p_check, rel=1e-9 if paired else 1, abs=1e-3)
        assert ab.difference == pytest.approx(-ba.difference)
        assert ab.better == ba.better


def test_nothing_is_claimed_when_the_interval_contains_zero() -> None:
    noise = np.random.default_rng(3).standard_normal((2, 5))
    found = compare("a", noise[0].tolist(), "b", noise[1].tolist(), paired=True)
    assert found.better is None
    assert found.interval[0] < 0 < found.interval[1]
    assert "no difference between a and b can be claimed" in verdict(found)
    assert "the interval contains 0" in verdict(found)
    assert "smallest detectable difference" in verdict(found)
    assert f"--seeds {found.seeds_needed}" in verdict(found)


def test_one_seed_and_equal_values() -> None:
    one = compare("a", [1.0], "b", [2.0], paired=True)
    assert math.isnan(one.p)
    assert one.better is None
    assert "one seed" in verdict(one)
    same = compare("a", [1.0, 2.0], "b", [1.0, 2.0], paired=True)
    assert same.p == 1.0
    assert "the same on every seed" in verdict(same)


@pytest.mark.parametrize("paired", [True, False])
def test_a_seed_that_changes_nothing_decides_nothing(paired: bool) -> None:
    found = compare("a", [0.2] * 5, "b", [0.3] * 5, paired=paired)
    assert math.isnan(found.p)
    assert found.better is None
    assert (found.seeds_needed, math.isnan(found.detectable)) == (None, True)
    assert "the same on every seed" in verdict(found)


def test_diverged_runs_are_worst_and_no_mean_is_quoted() -> None:
    lost = B.copy()
    lost[[2, 5]] = math.nan, math.inf
    found = compare("a", A.tolist(), "b", lost.tolist(), paired=True)
    assert found.diverged == (0, 2)
    assert math.isnan(found.difference)
    assert found.better == "a"
    assert found.test == "signed rank, exact"
    huge = np.where(np.isfinite(lost), lost, 1e9)
    assert found.p == pytest.approx(stats.wilcoxon(A, huge, method=stats.PermutationMethod(n_resamples=np.inf)).pvalue)
    assert "by rank" in verdict(found)
    assert "2 of b, counted as worst" in verdict(found)
    assert "nan" not in (verdict(found) + line(found)).lower()


@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_winner_is_the_one_whom_the_deciding_test_favours(direction: str) -> None:
    """One lost run moves the unpaired superiority to b, while the pairs speak for a in 11 of 12 seeds."""
    sign = 1 if direction == "min" else -1
    a = [sign * float(v) for v in range(1, 12)] + [math.nan]
    b = [sign * (v + 0.1) for v in range(1, 12)] + [sign * 0.5]
    found = compare("a", a, "b", b, paired=True, direction=direction)
    assert found.superiority < 0.5
    assert found.lean == pytest.approx(66 / 78)  # ranks 1 to 11 of 1 to 12
    assert (found.wins, found.better) == (11, "a")
    assert verdict(found).startswith("a is better than b")
    back = compare("b", b, "a", a, paired=True, direction=direction)
    assert (back.better, back.p) == ("a", found.p)
    assert verdict(back).startswith("a is better than b")


def test_five_diverged_of_five_is_a_difference_though_five_pairs_could_not_show_it() -> None:
    found = compare("a", A[:5].tolist(), "b", [math.nan] * 5, paired=True)
    assert found.p == pytest.approx(2 / math.comb(10, 5))
    assert found.better == "a"
    three = compare("a", A[:3].tolist(), "b", [math.nan] * 3, paired=True)
    assert three.better is None
    assert "too few seeds" in verdict(three)


def test_both_diverged_everywhere_is_no_difference() -> None:
    found = compare("a", [math.nan] * 6, "b", [math.inf] * 6, paired=True)
    assert found.p == 1.0
    assert found.better is None


def test_holm_over_all_pairs() -> None:
    seeds = range(10)
    groups = {"a": dict(zip(seeds, A, strict=True)), "b": dict(zip(seeds, B, strict=True))}
    groups["c"] = {seed + 100: value for seed, value in groups["b"].items()}
    found = compare_all(groups)
    assert [(c.a, c.b, c.paired) for c in found] == [("a", "b", True), ("a", "c", False), ("b", "c", False)]
    assert found[2].p == pytest.approx(1.0)
    smallest = min(found, key=lambda c: c.p)
    assert smallest.p_holm == pytest.approx(3 * smallest.p)
    assert "Holm-corrected for 3 comparisons" in verdict(smallest)


def test_seeds_pair_by_number_not_by_position() -> None:
    forward = {seed: float(A[seed]) for seed in range(10)}
    backward = {seed: float(B[seed]) for seed in reversed(range(10))}
    assert compare_all({"a": forward, "b": backward})[0].p == pytest.approx(stats.ttest_rel(A, B).pvalue)


def test_mismatched_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="must match"):
        compare("a", [1.0, 2.0], "b", [1.0], paired=True)
    with pytest.raises(ValueError, match="nothing to compare"):
        compare("a", [], "b", [1.0], paired=False)


def test_significant_before_but_not_after_correction_says_so() -> None:
    a = np.random.default_rng(0).standard_normal(8)
    shift = np.array([0.1, 1.0, -0.2, 0.9, 0.7, -0.1, 0.8, 0.4])
    far = 9 * np.array([1.0, -1, 1, -1, 1, -1, 1, -1])
    found = {
        (c.a, c.b): c for c in compare_all({k: dict(enumerate(v)) for k, v in (("a", a), ("b", a + shift), ("c", far))})
    }
    c = found["a", "b"]
    assert c.p <= 0.05 < c.p_holm
    assert not c.interval[0] <= 0 <= c.interval[1]
    assert "no difference" in verdict(c)
    assert "Holm-corrected for 3 comparisons" in verdict(c)
    assert "contains 0" not in verdict(c)


DRAWS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy-tailed": lambda rng, shape: rng.standard_t(3, shape),
}


@pytest.mark.slow
@pytest.mark.parametrize("law", DRAWS)
@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_cover_in_93_to_97_percent(n: int, law: str) -> None:
    rng, count = np.random.default_rng(n), 20_000
    single = DRAWS[law](rng, (count, n))
    a, b = 0.7 + DRAWS[law](rng, (count, n)), DRAWS[law](rng, (count, n))
    covered = {
        "one sample": np.mean([low <= 0 <= high for low, high in (t_interval(row) for row in single)]),
        "paired": np.mean([r.low <= 0.7 <= r.high for r in (paired_t(row) for row in a - b)]),
    }
    assert {name: share for name, share in covered.items() if not 0.93 <= share <= 0.97} == {}
    # Welch's degrees of freedom are few at n = 3: it covers up to 97.5% there.
    unpaired = np.mean([r.low <= 0.7 <= r.high for r in (welch(x, y) for x, y in zip(a, b, strict=True))])
    assert 0.93 <= unpaired <= (0.98 if n == 3 else 0.97)


def test_the_quoted_interval_is_the_one_whose_coverage_is_simulated() -> None:
    paired, independent = paired_t(A - B), welch(A, B)
    assert compare("a", A.tolist(), "b", B.tolist(), paired=True).interval == (paired.low, paired.high)
    assert compare("a", A.tolist(), "b", B.tolist(), paired=False).interval == (independent.low, independent.high)


@pytest.mark.slow
@pytest.mark.parametrize("law", DRAWS)
@pytest.mark.parametrize("diverging", [0.0, 0.3])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_an_optimizer_against_itself_is_rejected_in_5_percent_at_most(n: int, diverging: float, law: str) -> None:
    rng, count = np.random.default_rng(17 + n), 2000
    rejected = np.zeros(2)
    for _ in range(count):
        shared = DRAWS[law](rng, n)  # what paired seeds have in common
        a, b = shared + DRAWS[law](rng, n), shared + DRAWS[law](rng, n)
        a[rng.random(n) < diverging] = math.inf
        b[rng.random(n) < diverging] = math.inf
        rejected += [p_of(a, b, True) <= 0.05, p_of(a, b, False) <= 0.05]
    assert (rejected / count <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / count)).all(), rejected / count


@pytest.mark.slow
def test_holm_keeps_the_error_rate_of_a_whole_family() -> None:
    rng, count = np.random.default_rng(5), 400
    wrong = 0
    for _ in range(count):
        groups = {name: dict(enumerate(rng.standard_normal(5))) for name in "abcd"}
        wrong += any(c.significant for c in compare_all(groups))
    assert wrong / count <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / count)
